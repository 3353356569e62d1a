//! Which nodes a cluster has, and which slots each of them.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use redis::{Client, ConnectionAddr, ConnectionInfo, ErrorKind, RedisResult, Value};
use tokio::time::{Instant, sleep_until, timeout};

use super::Address;
use super::slots::{self, SlotMap};
use crate::infra::redis::link::Link;
use crate::infra::tasks;

/// Longest time that a node is given to say what it knows.
const DEADLINE: Duration = Duration::from_secs(1);
/// The same for an answer on a connection that is there: sooner, so that a silent connection is replaced.
const RESPONSE_TIMEOUT: Duration = Duration::from_millis(800);
/// How long others may still answer after the first, who may be out of date.
const GRACE: Duration = Duration::from_millis(100);
/// Shortest time between two questions of who has what.
const PAUSE: Duration = Duration::from_millis(500);

/// The map of a cluster, shared by all who send it commands. It is corrected by what nodes answer (`MOVED`), and asked
/// for again when one does not.
pub struct Topology {
    seeds: Vec<ConnectionInfo>,
    map: RwLock<SlotMap>,
    /// For asking; commands have connections of their own.
    links: Mutex<HashMap<Address, Link>>,
    /// When the map was asked for last.
    refreshed: tokio::sync::Mutex<Option<Instant>>,
    refreshing: AtomicBool,
}

/// What one node knows.
struct View {
    /// Grows with every change of owners that the node has heard of.
    epoch: u64,
    serves: bool,
    map: SlotMap,
}

/// What a round of questions brought.
#[derive(Default)]
struct Survey {
    asked: usize,
    answered: usize,
    /// Nodes that answered, and say that the cluster does not serve.
    refusing: usize,
    best: Option<View>,
}

/// How the nodes are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Condition {
    pub nodes: usize,
    pub silent: usize,
    /// Nodes that say that the cluster does not serve.
    pub refusing: usize,
    pub slots_without_node: usize,
}

impl Topology {
    /// `seeds` are some of the nodes, at least one; the others have the same password and manner of connection.
    pub fn new(seeds: Vec<ConnectionInfo>) -> Self {
        Self {
            seeds,
            map: RwLock::default(),
            links: Mutex::default(),
            refreshed: tokio::sync::Mutex::default(),
            refreshing: AtomicBool::new(false),
        }
    }

    /// The node that has `slot`. The first to ask waits until somebody told the map.
    pub async fn owner(&self, slot: u16) -> RedisResult<Address> {
        if let Some(node) = self.known_owner(slot) {
            return Ok(node);
        }
        self.refresh().await;
        let unknown = || (ErrorKind::ClusterConnectionNotFound, "no node is known for", format!("slot {slot}")).into();
        self.known_owner(slot).ok_or_else(unknown)
    }

    /// A client of one of the nodes, another one each `turn`.
    pub async fn client_of_any(&self, turn: usize) -> RedisResult<Client> {
        if self.nodes().is_empty() {
            self.refresh().await;
        }
        let nodes = self.nodes();
        let node = nodes.get(turn % nodes.len().max(1));
        self.client(node.ok_or((ErrorKind::ClusterConnectionNotFound, "no node is known"))?)
    }

    fn known_owner(&self, slot: u16) -> Option<Address> {
        self.map.read().unwrap_or_else(PoisonError::into_inner).owner(slot).cloned()
    }

    pub fn nodes(&self) -> Vec<Address> {
        self.map.read().unwrap_or_else(PoisonError::into_inner).nodes().to_vec()
    }

    /// Notes what a node said who does not have `slot` any more.
    pub fn moved(self: &Arc<Self>, slot: u16, to: &Address) {
        self.map.write().unwrap_or_else(PoisonError::into_inner).assign(slot..=slot, to);
        self.refresh_soon();
    }

    /// Asks for the map again, without waiting for it.
    pub fn refresh_soon(self: &Arc<Self>) {
        if self.refreshing.swap(true, Ordering::Relaxed) {
            return;
        }
        let this = self.clone();
        tasks::detach(async move {
            this.refresh().await;
            this.refreshing.store(false, Ordering::Relaxed);
        });
    }

    /// Asks for the map: the nodes that are known, and those of the configuration when none of these answers. Once for
    /// all who ask meanwhile, and not in quick succession.
    async fn refresh(&self) {
        let mut refreshed = self.refreshed.lock().await;
        if refreshed.is_some_and(|at| at.elapsed() < PAUSE) {
            return;
        }
        let known = self.nodes();
        let from_known = !known.is_empty() && self.survey(known, GRACE).await.best.is_some();
        if !from_known {
            self.survey(self.seed_addresses(), GRACE).await;
        }
        *refreshed = Some(Instant::now());
    }

    /// How the nodes are; also brings the map up to date.
    pub async fn look(&self) -> Condition {
        let known = self.nodes();
        let survey = if known.is_empty() {
            // Those of the configuration may be a part, so what they tell is asked too.
            self.survey(self.seed_addresses(), GRACE).await;
            let found = self.nodes();
            self.survey(if found.is_empty() { self.seed_addresses() } else { found }, DEADLINE / 2).await
        } else {
            self.survey(known, DEADLINE).await
        };
        let assigned = self.map.read().unwrap_or_else(PoisonError::into_inner).assigned();
        Condition {
            nodes: survey.asked,
            silent: survey.asked - survey.answered,
            refusing: survey.refusing,
            slots_without_node: usize::from(slots::COUNT) - assigned,
        }
    }

    /// Asks `nodes` at once, until all have answered, `grace` after the first or the deadline; takes over the best.
    async fn survey(&self, nodes: Vec<Address>, grace: Duration) -> Survey {
        let mut survey = Survey { asked: nodes.len(), ..Survey::default() };
        let mut asks: FuturesUnordered<_> = nodes.iter().map(|node| timeout(DEADLINE, self.view(node))).collect();
        let mut until = Instant::now() + DEADLINE;
        loop {
            let view = tokio::select! {
                biased;
                answer = asks.next() => match answer {
                    None => break,
                    Some(Ok(Ok(view))) => view,
                    Some(Ok(Err(error))) => {
                        tracing::debug!(%error, "a node of the Redis Cluster does not tell its slots");
                        continue;
                    }
                    Some(Err(_)) => continue,
                },
                () = sleep_until(until) => break,
            };
            until = until.min(Instant::now() + grace);
            survey.answered += 1;
            survey.refusing += usize::from(!view.serves);
            let rank = |view: &View| (view.epoch, view.map.assigned());
            if survey.best.as_ref().is_none_or(|best| rank(&view) > rank(best)) {
                survey.best = Some(view);
            }
        }
        if let Some(best) = &survey.best {
            self.take_over(best.map.clone());
        }
        survey
    }

    async fn view(&self, node: &Address) -> RedisResult<View> {
        let link = self.link(node)?;
        let (mut info, mut slots) = (redis::cmd("CLUSTER"), redis::cmd("CLUSTER"));
        let (info, slots) = tokio::try_join!(link.ask(info.arg("INFO")), link.ask(slots.arg("SLOTS")))?;
        let info: String = redis::from_redis_value(info)?;
        let field =
            |name: &str| info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim);
        Ok(View {
            epoch: field("cluster_current_epoch").and_then(|epoch| epoch.parse().ok()).unwrap_or(0),
            serves: field("cluster_state") == Some("ok"),
            map: read_slots(slots, node),
        })
    }

    fn take_over(&self, map: SlotMap) {
        if map.assigned() == 0 {
            return; // a node that was only just started
        }
        let nodes = map.nodes().to_vec();
        let before = std::mem::replace(&mut *self.map.write().unwrap_or_else(PoisonError::into_inner), map);
        if before.nodes().len() != nodes.len() || before.nodes().iter().any(|node| !nodes.contains(node)) {
            tracing::info!(redis.nodes = ?nodes.iter().map(Address::to_string).collect::<Vec<_>>(), "nodes of the Redis Cluster");
        }
        self.links.lock().unwrap_or_else(PoisonError::into_inner).retain(|node, _| nodes.contains(node));
    }

    fn link(&self, node: &Address) -> RedisResult<Link> {
        let mut links = self.links.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(link) = links.get(node) {
            return Ok(link.clone());
        }
        let link = Link::new(&self.client(node)?, RESPONSE_TIMEOUT)?;
        links.insert(node.clone(), link.clone());
        Ok(link)
    }

    /// As the configuration's nodes are reached, but at `node`.
    pub fn client(&self, node: &Address) -> RedisResult<Client> {
        let seed = self.seeds.first().ok_or((ErrorKind::InvalidClientConfig, "a cluster without nodes"))?.clone();
        let (host, port) = (node.host.to_string(), node.port);
        let addr = match seed.addr() {
            ConnectionAddr::TcpTls { insecure, tls_params, .. } => {
                ConnectionAddr::TcpTls { host, port, insecure: *insecure, tls_params: tls_params.clone() }
            }
            _ => ConnectionAddr::Tcp(host, port),
        };
        Client::open(seed.set_addr(addr))
    }

    fn seed_addresses(&self) -> Vec<Address> {
        let address = |seed: &ConnectionInfo| match seed.addr() {
            ConnectionAddr::Tcp(host, port) | ConnectionAddr::TcpTls { host, port, .. } => {
                Some(Address::new(host, *port))
            }
            _ => None,
        };
        self.seeds.iter().filter_map(address).collect()
    }
}

/// From the answer to `CLUSTER SLOTS`: first slot, last slot, its primary (host, port, …), the replicas. `told_by` stands
/// in for a host that is not told.
fn read_slots(answer: Value, told_by: &Address) -> SlotMap {
    let mut map = SlotMap::default();
    let Value::Array(ranges) = answer else { return map };
    for range in ranges {
        let Value::Array(parts) = range else { continue };
        let [Value::Int(first), Value::Int(last), Value::Array(primary), ..] = &parts[..] else { continue };
        let [host, Value::Int(port), ..] = &primary[..] else { continue };
        let host = match host {
            Value::BulkString(host) => str::from_utf8(host).unwrap_or_default(),
            Value::SimpleString(host) => host,
            _ => "",
        };
        let host = if host.is_empty() || host == "?" { &told_by.host } else { host };
        if let (Ok(first), Ok(last), Ok(port)) = (u16::try_from(*first), u16::try_from(*last), u16::try_from(*port)) {
            map.assign(first..=last, &Address::new(host, port));
        }
    }
    map
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_read_with_the_teller_in_place_of_a_host_that_is_missing() {
        let node = |host: Value, port| Value::Array(vec![host, Value::Int(port), Value::BulkString(b"id".to_vec())]);
        let range = |first, last, primary| Value::Array(vec![Value::Int(first), Value::Int(last), primary]);
        let named = |host: &str| Value::BulkString(host.into());
        let answer = Value::Array(vec![
            range(0, 5_460, node(named("10.0.0.1"), 7_001)),
            range(5_461, 10_922, node(Value::Nil, 7_002)),
            range(10_923, 10_923, node(named(""), 7_003)),
            Value::Nil,
            range(70_000, 80_000, node(named("10.0.0.4"), 7_004)),
        ]);
        let map = read_slots(answer, &Address::new("10.0.0.9", 7_009));
        assert_eq!(map.owner(5_460), Some(&Address::new("10.0.0.1", 7_001)));
        assert_eq!(map.owner(5_461), Some(&Address::new("10.0.0.9", 7_002)));
        assert_eq!(map.owner(10_923), Some(&Address::new("10.0.0.9", 7_003)));
        assert_eq!(map.assigned(), 10_924);
    }
}
