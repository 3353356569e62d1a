use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use redis::aio::{ConnectionManager, ConnectionManagerConfig};
use redis::{Client, Cmd, RedisResult, Value};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// One multiplexed connection to one server; clones share it.
///
/// The crate's manager comes back from a connection that broke. One that fell silent, as when the machine at the other end
/// vanishes, it would keep: that one is replaced here, after the first answer that did not come.
#[derive(Clone)]
pub(super) struct Link(Arc<Shared>);

struct Shared {
    client: Client,
    config: ConnectionManagerConfig,
    /// The manager in use, and how many there have been.
    current: RwLock<(ConnectionManager, u64)>,
}

impl Link {
    /// Connects when it is first used: the server may be down now and come back.
    pub fn new(client: &Client, response_timeout: Duration) -> RedisResult<Self> {
        let config = ConnectionManagerConfig::new()
            .set_response_timeout(Some(response_timeout))
            .set_connection_timeout(Some(CONNECT_TIMEOUT))
            .set_max_delay(Duration::from_secs(1))
            .set_number_of_retries(1);
        let manager = ConnectionManager::new_lazy_with_config(client.clone(), config.clone())?;
        Ok(Self(Arc::new(Shared { client: client.clone(), config, current: RwLock::new((manager, 0)) })))
    }

    pub fn client(&self) -> &Client {
        &self.0.client
    }

    pub async fn ask(&self, command: &Cmd) -> RedisResult<Value> {
        let (mut manager, number) = self.current();
        let answer = manager.send_packed_command(command).await;
        self.replace_if_silent(&answer, number);
        answer?.extract_error()
    }

    /// Asks for a key that is on its way here from another node. Both commands go in one write: others use the
    /// connection too, and the permission is for the next command alone.
    pub async fn ask_ahead(&self, command: &Cmd) -> RedisResult<Value> {
        let mut both = redis::pipe();
        both.cmd("ASKING").add_command(command.clone());
        let (mut manager, number) = self.current();
        let answers = manager.send_packed_commands(&both, 0, 2).await;
        self.replace_if_silent(&answers, number);
        answers?.pop().unwrap_or(Value::Nil).extract_error()
    }

    fn current(&self) -> (ConnectionManager, u64) {
        self.0.current.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Others may still wait for answers of the old one; they keep it until they have them, or give up too.
    fn replace_if_silent<T>(&self, answer: &RedisResult<T>, asked: u64) {
        if !answer.as_ref().is_err_and(|error| error.is_timeout()) {
            return;
        }
        let mut current = self.0.current.write().unwrap_or_else(PoisonError::into_inner);
        if current.1 == asked
            && let Ok(fresh) = ConnectionManager::new_lazy_with_config(self.0.client.clone(), self.0.config.clone())
        {
            *current = (fresh, asked + 1);
        }
    }
}
