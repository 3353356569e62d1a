//! Commands to the nodes of a cluster, each by the slot of its key.

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock, Weak};
use std::time::Duration;

use redis::{Cmd, ErrorKind, RedisError, RedisResult, ServerErrorKind, Value};

use super::link::Link;
use crate::infra::tasks;

pub(super) use topology::Topology;

mod slots;
mod topology;

/// How often a command is sent on before it is given up: a slot is where the first answer says, or just then moving.
const REDIRECTS: usize = 4;
/// How often a silent node is asked whether it is back.
const PROBE: Duration = Duration::from_millis(500);

/// Where a node listens.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Address {
    host: Arc<str>,
    port: u16,
}

impl Address {
    pub fn new(host: &str, port: u16) -> Self {
        Self { host: host.into(), port }
    }

    /// From a redirection, `host:port`. Without a host it is the one of the node that said so.
    fn redirected(text: &str, by: &Self) -> Option<Self> {
        let (host, port) = text.rsplit_once(':')?;
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let port = port.parse().ok()?;
        Some(if host.is_empty() { Self { host: by.host.clone(), port } } else { Self::new(host, port) })
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

/// A connection to each node that has been needed. Nodes have nothing in common but the map, so that one that is gone
/// delays nobody who asks for another's keys.
pub(super) struct Cluster {
    topology: Arc<Topology>,
    response_timeout: Duration,
    nodes: RwLock<HashMap<Address, Arc<Node>>>,
}

impl Cluster {
    pub fn new(topology: Arc<Topology>, response_timeout: Duration) -> Self {
        Self { topology, response_timeout, nodes: RwLock::default() }
    }

    pub fn topology(&self) -> &Arc<Topology> {
        &self.topology
    }

    /// Sends a command where its key is. All its keys must share a hash tag.
    pub async fn ask(&self, command: &Cmd) -> RedisResult<Value> {
        let slot =
            slots::of(command).ok_or((ErrorKind::Client, "a command without a key has no place in a cluster"))?;
        let mut address = self.topology.owner(slot).await?;
        let mut ahead = false;
        for _ in 0..=REDIRECTS {
            let answer = self.node(&address)?.ask(command, ahead).await;
            let Err(error) = &answer else { return answer };
            let elsewhere = error.redirect_node().and_then(|(node, _)| Address::redirected(node, &address));
            match (error.kind(), elsewhere) {
                (ErrorKind::Server(ServerErrorKind::Moved), Some(new)) => {
                    self.topology.moved(slot, &new);
                    (address, ahead) = (new, false);
                }
                (ErrorKind::Server(ServerErrorKind::Ask), Some(next)) => (address, ahead) = (next, true),
                _ => {
                    if is_of_the_node(error) {
                        self.topology.refresh_soon();
                    }
                    return answer;
                }
            }
        }
        Err((ErrorKind::Client, "sent from node to node", format!("slot {slot}")).into())
    }

    fn node(&self, address: &Address) -> RedisResult<Arc<Node>> {
        if let Some(node) = self.nodes.read().unwrap_or_else(PoisonError::into_inner).get(address) {
            return Ok(node.clone());
        }
        let known = self.topology.nodes();
        let mut nodes = self.nodes.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(node) = nodes.get(address) {
            return Ok(node.clone());
        }
        nodes.retain(|address, _| known.contains(address)); // those that left are forgotten when one comes
        let link = Link::new(&self.topology.client(address)?, self.response_timeout)?;
        let node = Arc::new(Node { address: address.clone(), link, silent: AtomicBool::new(false) });
        nodes.insert(address.clone(), node.clone());
        Ok(node)
    }
}

/// Whether the slots may have another owner by now.
fn is_of_the_node(error: &RedisError) -> bool {
    use ServerErrorKind::{ClusterDown, MasterDown, ReadOnly};
    error.is_io_error() || matches!(error.kind(), ErrorKind::Server(ClusterDown | MasterDown | ReadOnly))
}

/// One node, by one connection.
struct Node {
    address: Address,
    link: Link,
    /// An answer did not come. Until one does, who asks fails at once: each would wait for as long, and hold up what it
    /// has to do with other nodes.
    silent: AtomicBool,
}

impl Node {
    async fn ask(self: &Arc<Self>, command: &Cmd, ahead: bool) -> RedisResult<Value> {
        if self.silent.load(Ordering::Relaxed) {
            return Err((ErrorKind::Io, "a node of the cluster is silent", self.address.to_string()).into());
        }
        let answer = if ahead { self.link.ask_ahead(command).await } else { self.link.ask(command).await };
        if answer.as_ref().is_err_and(RedisError::is_timeout) && !self.silent.swap(true, Ordering::Relaxed) {
            tracing::warn!(redis.node = %self.address, "a node of the Redis Cluster is silent; asking it again until it answers");
            tasks::detach(Self::await_answer(Arc::downgrade(self)));
        }
        answer
    }

    async fn await_answer(node: Weak<Self>) {
        loop {
            tokio::time::sleep(PROBE).await;
            let Some(node) = node.upgrade() else { return };
            if node.link.ask(&redis::cmd("PING")).await.is_ok() {
                node.silent.store(false, Ordering::Relaxed);
                tracing::info!(redis.node = %node.address, "a node of the Redis Cluster answers again");
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_redirection_names_a_node_or_the_same_host() {
        let by = Address::new("one", 1);
        let to = |text: &str| Address::redirected(text, &by);
        assert_eq!(to("10.0.0.2:7001"), Some(Address::new("10.0.0.2", 7001)));
        assert_eq!(to("[::1]:7001"), to("::1:7001"));
        assert_eq!(to(":7002"), Some(Address::new("one", 7002)));
        assert_eq!((to("one"), to("one:x")), (None, None));
    }
}
