//! Redis, one server or a cluster, reached by connections that come back by themselves.

use std::sync::Arc;
use std::time::Duration;

use redis::{Cmd, FromRedisValue, RedisError, RedisResult, Value};

use address::Place;
use cluster::{Cluster, Topology};
use link::Link;

use crate::{Error, Result};

mod address;
mod channel;
/// Commands to the nodes of a cluster, each by the slot of its key.
mod cluster;
mod link;
mod script;

pub use channel::Listener;
pub use script::{Call, Script};

/// Longest wait for one answer. The crate's own default, 500 ms, is shorter than a busy server's hiccup.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(3);
/// The same for a look at how things are.
const LOOK_TIMEOUT: Duration = Duration::from_secs(1);

/// Where Redis is. Cheap to clone; connects to nothing by itself.
#[derive(Clone)]
pub struct Client(Target);

#[derive(Clone)]
enum Target {
    Server(Arc<redis::Client>),
    Cluster(Arc<Topology>),
}

impl Client {
    /// Reads `redis://…` or `rediss://…` as one server, `redis+cluster://host:port,host:port,…` or `rediss+cluster://…`
    /// as some nodes of a cluster.
    ///
    /// # Errors
    /// Says what is wrong with the address, without its password.
    pub fn open(url: &str) -> std::result::Result<Self, String> {
        Ok(Self(match address::parse(url)? {
            Place::Server(client) => Target::Server(client.into()),
            Place::Cluster(seeds) => Target::Cluster(Arc::new(Topology::new(seeds))),
        }))
    }
}

/// A handle that is cheap to clone. Every clone shares one multiplexed connection, to each node of a cluster.
#[derive(Clone)]
pub struct Redis(Route);

#[derive(Clone)]
enum Route {
    Server(Link),
    Cluster(Arc<Cluster>),
}

/// Opens the shared connection lazily: Redis may be down now and come back.
pub fn connect_lazy(client: &Client) -> Result<Redis> {
    Redis::new(client, RESPONSE_TIMEOUT)
}

/// A connection of its own for blocking commands that wait up to `block`.
pub fn connect_blocking(client: &Client, block: Duration) -> Result<Redis> {
    Redis::new(client, block + RESPONSE_TIMEOUT)
}

impl Redis {
    fn new(client: &Client, response_timeout: Duration) -> Result<Self> {
        Ok(Self(match &client.0 {
            Target::Server(client) => Route::Server(Link::new(client, response_timeout).map_err(unavailable)?),
            Target::Cluster(topology) => Route::Cluster(Arc::new(Cluster::new(topology.clone(), response_timeout))),
        }))
    }

    /// Sends a command with at least one key; all its keys must share a hash tag.
    pub async fn query<T: FromRedisValue>(&self, command: &Cmd) -> Result<T> {
        read(self.ask(command).await)
    }

    async fn ask(&self, command: &Cmd) -> RedisResult<Value> {
        match &self.0 {
            Route::Server(link) => link.ask(command).await,
            Route::Cluster(cluster) => cluster.ask(command).await,
        }
    }

    /// Looks at every server, within about a second.
    pub async fn look(&self) -> Look {
        match &self.0 {
            Route::Server(link) => {
                let ping = redis::cmd("PING");
                let verdict = match tokio::time::timeout(LOOK_TIMEOUT, link.ask(&ping)).await {
                    Ok(answer) => answer.map(|_| None).map_err(unavailable),
                    Err(_) => Err(no_answer("it does not answer")),
                };
                let answering = usize::from(verdict.is_ok());
                Look { nodes: Nodes { answering, silent: 1 - answering }, verdict }
            }
            Route::Cluster(cluster) => {
                let found = cluster.topology().look().await;
                let faults = [
                    (found.silent, format!("{} of {} nodes do not answer", found.silent, found.nodes)),
                    (found.refusing, format!("{} nodes say that the cluster is down", found.refusing)),
                    (found.slots_without_node, format!("{} slots have no node", found.slots_without_node)),
                ];
                let faults: Vec<_> =
                    faults.into_iter().filter(|(count, _)| *count > 0).map(|(_, fault)| fault).collect();
                let verdict = match found.silent == found.nodes {
                    true => Err(no_answer("no node of the cluster answers")),
                    false => Ok((!faults.is_empty()).then(|| faults.join("; "))),
                };
                Look { nodes: Nodes { answering: found.nodes - found.silent, silent: found.silent }, verdict }
            }
        }
    }
}

/// How Redis is.
#[derive(Debug)]
pub struct Look {
    pub nodes: Nodes,
    /// What is wrong although something answers, for people.
    pub verdict: Result<Option<String>>,
}

/// How many servers: those of a cluster that have slots, or one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Nodes {
    pub answering: usize,
    pub silent: usize,
}

fn read<T: FromRedisValue>(answer: RedisResult<Value>) -> Result<T> {
    answer.and_then(|value| Ok(redis::from_redis_value(value)?)).map_err(unavailable)
}

/// Every failure of Redis is a failure of a dependency: nothing that matters is kept in it.
fn unavailable(error: RedisError) -> Error {
    no_answer(&error.to_string())
}

fn no_answer(cause: &str) -> Error {
    Error::Unavailable { dependency: "redis", cause: cause.to_owned() }
}
