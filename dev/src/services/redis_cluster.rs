use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};

use super::Redis;
use super::redis_client::Connection;
use crate::{secret, wait};

const SLOTS: u32 = 16_384;
const NODES: u32 = 3;
/// Until the nodes know each other, on a busy machine.
const AGREE_LIMIT: Duration = Duration::from_secs(60);

/// A private Redis Cluster: three primaries with a third of the slots each and without replicas, so that the loss of one is
/// the loss of what it holds. Stopped on drop.
///
/// In this order: `webhooks` and `maintenance` are on the first node, `default` and `email` on the second, `files` and
/// `exports` on the third.
#[derive(Debug)]
pub struct RedisCluster {
    pub nodes: Vec<Redis>,
}

impl RedisCluster {
    /// Starts the nodes in folders of `home`, and makes them one cluster unless an earlier run did.
    pub fn start(home: &Path) -> Result<Self> {
        fs::create_dir_all(home).with_context(|| format!("cannot create {}", home.display()))?;
        let password = secret::kept_password(&home.join("password"))?;
        let start = |number| Redis::start_node(&home.join(format!("node-{number}")), &password);
        let cluster = Self { nodes: (1..=NODES).map(start).collect::<Result<_>>()? };
        if cluster.nodes.iter().any(|node| !knows(node, "cluster_known_nodes:3")) {
            cluster.join()?;
        }
        cluster.wait_until_whole()?;
        Ok(cluster)
    }

    fn join(&self) -> Result<()> {
        for (number, node) in (0..).zip(&self.nodes) {
            let (first, last) = slots_of(number);
            let mut connection = Connection::open(node)?;
            connection.ask(&["CLUSTER", "SET-CONFIG-EPOCH", &(number + 1).to_string()])?;
            connection.ask(&["CLUSTER", "ADDSLOTSRANGE", &first.to_string(), &last.to_string()])?;
        }
        let mut first = Connection::open(self.nodes.first().context("a cluster without nodes")?)?;
        for node in &self.nodes[1..] {
            let bus = node.bus().context("no node of a cluster")?;
            first.ask(&["CLUSTER", "MEET", "127.0.0.1", &node.port().to_string(), &bus.to_string()])?;
        }
        Ok(())
    }

    /// Waits until every node that runs serves, and says that all slots have a node.
    pub fn wait_until_whole(&self) -> Result<()> {
        let running = || self.nodes.iter().filter(|node| node.pid().is_some());
        wait::until("the nodes' agreement", AGREE_LIMIT, || {
            let agree = ["cluster_state:ok", "cluster_known_nodes:3", "cluster_slots_assigned:16384"];
            Ok(running().all(|node| agree.iter().all(|fact| knows(node, fact))).then_some(()))
        })
    }

    /// Gives the slots of node `from`, which is down, to node `to`: empty, as by an operator who gives it up.
    pub fn take_over(&self, from: usize, to: usize) -> Result<()> {
        let (first, last) = slots_of(u32::try_from(from)?);
        let (first, last) = (first.to_string(), last.to_string());
        for node in self.nodes.iter().filter(|node| node.pid().is_some()) {
            Connection::open(node)?.ask(&["CLUSTER", "DELSLOTSRANGE", &first, &last])?;
        }
        let mut new_owner = Connection::open(self.nodes.get(to).context("no such node")?)?;
        new_owner.ask(&["CLUSTER", "ADDSLOTSRANGE", &first, &last])?;
        new_owner.ask(&["CLUSTER", "BUMPEPOCH"])?;
        self.wait_until_whole()
    }

    /// Moves one slot with its keys between two nodes that run, while it is used.
    pub fn move_slot(&self, slot: u32, from: usize, to: usize) -> Result<()> {
        let port = self.nodes.get(to).context("no such node")?.port().to_string();
        let mut old = Connection::open(self.nodes.get(from).context("no such node")?)?;
        let mut new = Connection::open(self.nodes.get(to).context("no such node")?)?;
        let (slot, old_id, new_id) = (slot.to_string(), old.ask(&["CLUSTER", "MYID"])?, new.ask(&["CLUSTER", "MYID"])?);
        new.ask(&["CLUSTER", "SETSLOT", &slot, "IMPORTING", &old_id])?;
        old.ask(&["CLUSTER", "SETSLOT", &slot, "MIGRATING", &new_id])?;
        let password = self.nodes.first().map_or("", |node| node.password());
        loop {
            let keys = old.ask(&["CLUSTER", "GETKEYSINSLOT", &slot, "100"])?;
            if keys.is_empty() {
                break;
            }
            let mut words = vec!["MIGRATE", "127.0.0.1", &port, "", "0", "5000", "AUTH", password, "KEYS"];
            words.extend(keys.lines());
            old.ask(&words)?;
        }
        for node in [&mut new, &mut old] {
            node.ask(&["CLUSTER", "SETSLOT", &slot, "NODE", &new_id])?;
        }
        self.wait_until_whole()
    }

    /// What `REDIS_URL` is to say, the same across restarts.
    pub fn url(&self) -> String {
        let nodes: Vec<String> = self.nodes.iter().map(|node| format!("127.0.0.1:{}", node.port())).collect();
        let password = self.nodes.first().map_or("", |node| node.password());
        format!("redis+cluster://:{password}@{}/", nodes.join(","))
    }
}

/// The first and the last slot of a node, as it begins.
fn slots_of(number: u32) -> (u32, u32) {
    (number * SLOTS / NODES, (number + 1) * SLOTS / NODES - 1)
}

fn knows(node: &Redis, fact: &str) -> bool {
    let told = Connection::open(node).and_then(|mut connection| connection.ask(&["CLUSTER", "INFO"]));
    told.is_ok_and(|told| told.lines().any(|line| line.trim() == fact))
}
