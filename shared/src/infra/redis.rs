//! Redis, reached by connections that come back by themselves.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use futures::StreamExt;
use redis::aio::{ConnectionLike, ConnectionManager, ConnectionManagerConfig, PubSubSink, PubSubStream};
use redis::{Cmd, Pipeline, RedisFuture, RedisResult, Value};

use crate::{Error, Result};

/// Longest wait for one answer. The crate's own default, 500 ms, is shorter than a busy server's hiccup.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(3);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// A handle that is cheap to clone; every clone shares one multiplexed connection.
///
/// The crate's manager comes back from a connection that broke. One that fell silent, as when the machine at the other end
/// vanishes, it would keep: that one is replaced here, after the first answer that did not come.
#[derive(Clone)]
pub struct Redis(Arc<Shared>);

struct Shared {
    client: redis::Client,
    config: ConnectionManagerConfig,
    /// The manager in use, and how many there have been.
    current: RwLock<(ConnectionManager, u64)>,
}

/// Opens the shared connection lazily: Redis may be down now and come back.
pub fn connect_lazy(client: &redis::Client) -> Result<Redis> {
    Redis::new(client, RESPONSE_TIMEOUT)
}

/// A connection of its own for blocking commands that wait up to `block`.
pub fn connect_blocking(client: &redis::Client, block: Duration) -> Result<Redis> {
    Redis::new(client, block + RESPONSE_TIMEOUT)
}

impl Redis {
    fn new(client: &redis::Client, response_timeout: Duration) -> Result<Self> {
        let config = ConnectionManagerConfig::new()
            .set_response_timeout(Some(response_timeout))
            .set_connection_timeout(Some(CONNECT_TIMEOUT))
            .set_max_delay(Duration::from_secs(1))
            .set_number_of_retries(1);
        let manager = ConnectionManager::new_lazy_with_config(client.clone(), config.clone()).map_err(unavailable)?;
        Ok(Self(Arc::new(Shared { client: client.clone(), config, current: RwLock::new((manager, 0)) })))
    }

    /// Sends `message` to whoever listens to `channel` now.
    pub async fn publish(&self, channel: &str, message: &str, limit: Duration) -> Result<()> {
        let mut connection = self.clone();
        let mut command = redis::cmd("PUBLISH");
        command.arg(channel).arg(message);
        let sent = tokio::time::timeout(limit, command.query_async::<i64>(&mut connection)).await;
        sent.map_err(|_| no_answer())?.map_err(unavailable)?;
        Ok(())
    }

    /// Listens to `channel`, on a connection of its own.
    pub async fn subscribe(&self, channel: &str) -> Result<Listener> {
        let subscribed = async {
            let mut connection = self.0.client.get_async_pubsub().await?;
            connection.subscribe(channel).await?;
            Ok(connection)
        };
        let connection = tokio::time::timeout(CONNECT_TIMEOUT + RESPONSE_TIMEOUT, subscribed).await;
        let (sink, stream) = connection.map_err(|_| no_answer())?.map_err(unavailable)?.split();
        Ok(Listener { sink, stream })
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

impl ConnectionLike for Redis {
    fn req_packed_command<'a>(&'a mut self, command: &'a Cmd) -> RedisFuture<'a, Value> {
        Box::pin(async move {
            let (mut connection, number) = self.current();
            let answer = connection.req_packed_command(command).await;
            self.replace_if_silent(&answer, number);
            answer
        })
    }

    fn req_packed_commands<'a>(
        &'a mut self,
        pipeline: &'a Pipeline,
        offset: usize,
        count: usize,
    ) -> RedisFuture<'a, Vec<Value>> {
        Box::pin(async move {
            let (mut connection, number) = self.current();
            let answer = connection.req_packed_commands(pipeline, offset, count).await;
            self.replace_if_silent(&answer, number);
            answer
        })
    }

    fn get_db(&self) -> i64 {
        self.current().0.get_db()
    }
}

/// Hears what is published to one channel.
pub struct Listener {
    sink: PubSubSink,
    stream: PubSubStream,
}

impl Listener {
    /// The next message; None when the connection is lost. Asks whether it is after every `silence`.
    pub async fn next(&mut self, silence: Duration) -> Option<String> {
        loop {
            match tokio::time::timeout(silence, self.stream.next()).await {
                Ok(message) => return message?.get_payload().ok(),
                Err(_) => {
                    let alive = tokio::time::timeout(RESPONSE_TIMEOUT, self.sink.ping::<redis::Value>()).await;
                    alive.ok()?.ok()?;
                }
            }
        }
    }
}

fn no_answer() -> Error {
    Error::Unavailable { dependency: "redis", cause: "no answer in time".to_owned() }
}

/// Every failure of Redis is a failure of a dependency: nothing that matters is kept in it.
pub fn unavailable(error: redis::RedisError) -> Error {
    Error::Unavailable { dependency: "redis", cause: error.to_string() }
}
