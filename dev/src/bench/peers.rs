//! What a team would pick instead: small programs on Node.js, with BullMQ as the queue and Fastify as the front.
//!
//! They get a Redis of their own, set up like ours, so that each side's is empty when its turn comes.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use super::cpu::{Meter, Part};
use super::load::Load;
use super::redis;
use super::site::{self, Ground, pause};
use crate::process::Process;
use crate::services::find::{NODE_OLDEST, Node};
use crate::services::{Redis, ports};
use crate::{command, terminal, wait};

/// The folder dev/peers, as this tool was built with it.
const FILES: [(&str, &str); 6] = [
    ("package.json", include_str!("../../peers/package.json")),
    ("package-lock.json", include_str!("../../peers/package-lock.json")),
    ("connection.mjs", include_str!("../../peers/connection.mjs")),
    ("front.mjs", include_str!("../../peers/front.mjs")),
    ("drain.mjs", include_str!("../../peers/drain.mjs")),
    ("latency.mjs", include_str!("../../peers/latency.mjs")),
];
const DATABASE: &str = "millwork_peers";
const INSTALL_LIMIT: Duration = Duration::from_secs(5 * 60);
const READY_LIMIT: Duration = Duration::from_secs(60);

/// The programs, installed.
pub struct Peers<'a> {
    ground: &'a Ground,
    node: Node,
    folder: PathBuf,
    redis: Redis,
    pub version: String,
}

impl<'a> Peers<'a> {
    /// `None`, and said so, where there is no Node.js.
    pub fn install(ground: &'a Ground) -> Result<Option<Self>> {
        let Some(node) = Node::find(NODE_OLDEST) else {
            terminal::note(format!(
                "skipped: `node` {NODE_OLDEST} or newer and `npm` are not on PATH. Install Node.js to measure its queues"
            ));
            return Ok(None);
        };
        let folder = ground.scratch.path().join("peers");
        fs::create_dir_all(&folder)?;
        for (name, text) in FILES {
            fs::write(folder.join(name), text).with_context(|| format!("cannot write {name}"))?;
        }
        let mut npm = Command::new(&node.npm);
        npm.args(["ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"]).current_dir(&folder);
        command::run("installing BullMQ and Fastify", npm, INSTALL_LIMIT).context("the peers cannot be installed")?;
        let redis = Redis::start(&ground.scratch.path().join("peers-redis"))?;
        let version = format!("Node.js {}, {}", node.version, versions(FILES[0].1)?);
        terminal::note(&version);
        let mut psql = ground.psql("postgres")?;
        psql.rows(&format!(
            "drop database if exists {DATABASE} with (force); create database {DATABASE} owner millwork;"
        ))?;
        Ok(Some(Self { ground, node, folder, redis, version }))
    }

    /// An empty Redis with an empty log.
    pub fn flush(&self) -> Result<()> {
        let mut redis = redis::Connection::open(&self.redis)?;
        redis.ask(&["FLUSHALL"])?;
        redis.ask(&["BGREWRITEAOF"])?;
        pause(Duration::from_millis(500))
    }

    /// A front that only adds to the queue, or stores a row before.
    pub fn front(&self, stores: bool) -> Result<Front<'_>> {
        let address = format!("127.0.0.1:{}", ports::free()?);
        let port = address.rsplit(':').next().unwrap_or_default();
        let database = stores.then(|| ("DATABASE_URL", self.ground.services.postgres.url_to(DATABASE)));
        let variables = [("PORT", port.to_owned())].into_iter().chain(database).collect::<Vec<_>>();
        let process = self.start("front", &[], &variables)?;
        process.wait_until_ok(&format!("http://{address}/ready"), READY_LIMIT)?;
        let load = Load {
            url: format!("http://{address}/jobs"),
            token: "none".to_owned(),
            body: site::echo_job(),
            rate: None,
        };
        Ok(Front { peers: self, process, load, stores })
    }

    /// Starts one of the programs.
    pub fn start(&self, name: &str, arguments: &[&str], variables: &[(&str, String)]) -> Result<Process> {
        Process::builder(name, &self.node.program)
            .clean_env()
            .env("NODE_ENV", "production")
            .env("REDIS_URL", self.redis.url())
            .env("PAYLOAD", site::payload())
            .envs(variables.iter().map(|(name, value)| (name, value)))
            .arg(self.folder.join(format!("{name}.mjs")))
            .args(arguments)
            .current_dir(&self.folder)
            .log_to(self.ground.scratch.path().join(format!("{name}.log")))
            .start()
    }

    /// Measures the processor time of a program and of what it works with.
    pub fn meter(&self, name: &'static str, process: &Process, with_postgres: bool) -> Meter {
        let part = |name, pid, with_children| Part { name, pid, with_children };
        let mut parts = vec![part(name, process.pid(), false)];
        parts.extend(self.redis.pid().map(|pid| part("redis", pid, false)));
        let postgres = self.ground.services.postgres.pid().filter(|_| with_postgres);
        parts.extend(postgres.map(|pid| part("postgresql", pid, true)));
        Meter::start(parts)
    }
}

/// A running front.
pub struct Front<'a> {
    peers: &'a Peers<'a>,
    pub process: Process,
    pub load: Load,
    stores: bool,
}

impl Front<'_> {
    pub fn meter(&self) -> Meter {
        self.peers.meter("fastify", &self.process, self.stores)
    }
}

/// The newest line of JSON with a member `name` that a program printed.
pub fn told(process: &Process, name: &str, limit: Duration) -> Result<Value> {
    wait::until(&format!("{} telling {name:?}", process.name()), limit, || {
        if let Some(line) = find(&process.last_lines(100), name) {
            return Ok(Some(line));
        }
        match process.exited() {
            Some(status) => bail!(process.obituary(status)),
            None => Ok(None),
        }
    })
}

fn find(lines: &str, name: &str) -> Option<Value> {
    let mut objects = lines.lines().rev().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    objects.find(|object| object.get(name).is_some())
}

/// A member of it.
pub fn number(line: &Value, name: &str) -> Result<f64> {
    line[name].as_f64().with_context(|| format!("{line} has no number {name:?}"))
}

/// `bullmq 6.7.0, fastify 5.12.8, …`, as they are pinned.
fn versions(package: &str) -> Result<String> {
    let package: Value = serde_json::from_str(package)?;
    let pinned = package["dependencies"].as_object().context("the peers' package.json pins nothing")?;
    let each = pinned.iter().map(|(name, version)| format!("{name} {}", version.as_str().unwrap_or_default()));
    Ok(each.collect::<Vec<_>>().join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_installed_is_pinned_and_locked() {
        let text = |name: &str| FILES.iter().find(|(file, _)| *file == name).unwrap().1;
        let lock: Value = serde_json::from_str(text("package-lock.json")).unwrap();
        let versions = versions(text("package.json")).unwrap();
        for name in ["bullmq", "fastify", "ioredis", "pg"] {
            let locked = lock["packages"][format!("node_modules/{name}")]["version"].as_str().unwrap();
            assert!(versions.contains(&format!("{name} {locked}")), "{versions}: {name} is locked at {locked}");
        }
    }

    #[test]
    fn the_newest_line_that_has_the_member_counts() {
        let lines = "starting\n{\"done\":1}\n{\"ready\":true}\nnoise {\n{\"done\":2}\n[1]";
        let line = find(lines, "done").unwrap();
        assert_eq!(number(&line, "done").unwrap(), 2.0);
        assert!(number(&line, "ms").is_err());
        assert!(find(lines, "absent").is_none());
    }
}
