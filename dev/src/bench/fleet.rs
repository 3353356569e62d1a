//! Millwork in several processes of each kind, over one Redis or a cluster.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use super::connection::Connection;
use super::cpu::{Meter, Part};
use super::site::{DATABASE, Ground, READY_LIMIT, payload};
use super::{ledger, tenant};
use crate::process::Process;
use crate::services::psql::Psql;
use crate::services::{RedisCluster, ports};

/// On a cluster of three nodes, one of each.
pub const QUEUES: [&str; 3] = ["webhooks", "default", "files"];

/// How many processes.
#[derive(Debug, Clone, Copy)]
pub struct Size {
    pub apis: usize,
    pub workers: usize,
    pub schedulers: usize,
}

/// A fresh database with a tenant, and processes over it.
pub struct Fleet<'a> {
    ground: &'a Ground,
    redis_pids: Vec<u32>,
    apis: Vec<Process>,
    others: Vec<(&'static str, Process)>,
    pub addresses: Vec<String>,
    pub key: String,
    pub psql: Psql,
}

impl<'a> Fleet<'a> {
    /// On the ground's own Redis, or on `cluster`, which must be empty.
    pub fn open(ground: &'a Ground, size: Size, cluster: Option<&RedisCluster>) -> Result<Self> {
        ground.fresh_database(DATABASE)?;
        let mut psql = ground.psql(DATABASE)?;
        psql.rows("checkpoint;")?;
        let nodes = cluster.map_or(std::slice::from_ref(&ground.services.redis), |cluster| &cluster.nodes);
        let redis_url = cluster.map_or_else(|| ground.services.redis.url(), RedisCluster::url);
        let start = |role: &'static str| -> Result<(Process, String)> {
            let address = format!("127.0.0.1:{}", ports::free()?);
            let listens = format!("{}_ADDR", role.to_uppercase());
            let variables = [("REDIS_URL", redis_url.as_str()), (listens.as_str(), address.as_str())];
            let process = ground.process(DATABASE, role, &variables, &[])?;
            process.wait_until_ok(&format!("http://{address}/health/ready"), READY_LIMIT)?;
            Ok((process, address))
        };
        let apis = (0..size.apis).map(|_| start("api")).collect::<Result<Vec<_>>>()?;
        let (apis, addresses) = apis.into_iter().unzip();
        let roles = [("scheduler", size.schedulers), ("worker", size.workers)];
        let roles = roles.into_iter().flat_map(|(role, count)| std::iter::repeat_n(role, count));
        let others = roles.map(|role| Ok((role, start(role)?.0))).collect::<Result<_>>()?;
        let key = tenant::add(&mut psql, 1)?.remove(0);
        let redis_pids = nodes.iter().filter_map(crate::services::Redis::pid).collect();
        Ok(Self { ground, redis_pids, apis, others, addresses, key, psql })
    }

    /// Starts measuring the processor time of everything that runs.
    pub fn meter(&self) -> Meter {
        let part = |name, pid, with_children| Part { name, pid, with_children };
        let mut parts: Vec<Part> = self.apis.iter().map(|api| part("api", api.pid(), false)).collect();
        parts.extend(self.others.iter().map(|(role, process)| part(role, process.pid(), false)));
        parts.extend(self.ground.services.postgres.pid().map(|pid| part("postgresql", pid, true)));
        parts.extend(self.redis_pids.iter().map(|pid| part("redis", *pid, false)));
        Meter::start(parts)
    }

    /// A client of the API whose turn it is.
    pub fn connect(&self, turn: usize) -> Result<Connection> {
        let address = self.addresses.get(turn % self.addresses.len().max(1)).context("no API")?;
        Connection::open(address, &self.key)
    }

    /// Waits until no job waits or runs.
    pub fn wait_until_idle(&mut self, limit: Duration) -> Result<()> {
        let deadline = Instant::now() + limit;
        while !ledger::is_idle(&mut self.psql)? {
            self.check()?;
            crate::interrupt::check()?;
            ensure!(Instant::now() < deadline, "jobs were left after {} s", limit.as_secs());
            std::thread::sleep(Duration::from_millis(100));
        }
        Ok(())
    }

    /// Fails when a process has ended.
    pub fn check(&self) -> Result<()> {
        for process in self.apis.iter().chain(self.others.iter().map(|(_, process)| process)) {
            if let Some(status) = process.exited() {
                bail!(process.obituary(status));
            }
        }
        Ok(())
    }
}

/// The body of a request for `count` jobs, by turns in each of [`QUEUES`].
pub fn batch(count: usize) -> String {
    let jobs = QUEUES.iter().cycle().take(count);
    let jobs: Vec<String> =
        jobs.map(|queue| format!(r#"{{"kind":"echo","queue":"{queue}","payload":{}}}"#, payload())).collect();
    format!("{{\"jobs\":[{}]}}", jobs.join(","))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_has_jobs_of_every_queue() {
        let body: serde_json::Value = serde_json::from_str(&batch(7)).unwrap();
        let queues: Vec<_> =
            body["jobs"].as_array().unwrap().iter().map(|job| job["queue"].as_str().unwrap()).collect();
        assert_eq!(queues, ["webhooks", "default", "files", "webhooks", "default", "files", "webhooks"]);
    }
}
