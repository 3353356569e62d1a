//! Where measuring takes place: private servers for all measurements, and for each one a fresh database, an empty Redis
//! and fresh processes.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::connection::Connection;
use super::cpu::{self, Meter, Part};
use super::figure::rounded;
use super::load::{Load, Seen};
use super::redis;
use super::report::Report;
use super::{ceilings, ledger, tenant};
use crate::process::Process;
use crate::scratch::Scratch;
use crate::services::find::PostgresBinaries;
use crate::services::psql::Psql;
use crate::services::{Services, ports};
use crate::{secret, terminal, wait};

pub const READY_LIMIT: Duration = Duration::from_secs(60);
const MIGRATE_LIMIT: Duration = Duration::from_secs(120);
/// The database that is measured, and the untouched copy it is made from.
pub const DATABASE: &str = "millwork";
const TEMPLATE: &str = "millwork_fresh";

/// Servers, binaries and a folder.
#[derive(Debug)]
pub struct Ground {
    pub services: Services,
    pub postgres: PostgresBinaries,
    /// Where the load generator is, if it was asked for.
    wrk: Option<PathBuf>,
    /// Where Millwork's binaries are.
    pub bin_dir: PathBuf,
    master_keys: String,
    pub scratch: Scratch, // outlives the servers in it
}

impl Ground {
    /// Starts the servers and brings the schema up to date.
    pub fn prepare(bin_dir: PathBuf, postgres: PostgresBinaries, wrk: Option<PathBuf>) -> Result<Self> {
        let scratch = Scratch::on_disk("bench")?;
        let services = Services::start(scratch.path())?;
        let master_keys = format!("k1:{}", STANDARD.encode(secret::random::<32>()?));
        let ground = Self { services, postgres, wrk, bin_dir, master_keys, scratch };
        let migration = ground.process(DATABASE, "api", &[("API_ADDR", "127.0.0.1:0")], &["migrate"])?;
        let status = migration.wait(MIGRATE_LIMIT)?;
        ensure!(status.success(), migration.obituary(status));
        ground.psql("postgres")?.rows(&format!("alter database {DATABASE} rename to {TEMPLATE};"))?;
        Ok(ground)
    }

    /// Says what everything is measured on.
    pub fn describe(&self, report: &mut Report) {
        let (cores, Services { postgres, redis }) = (cpu::cores(), &self.services);
        terminal::note(format!(
            "{cores} cores; PostgreSQL {}, Redis {}; data in {}",
            postgres.version(),
            redis.version(),
            postgres.data_dir().display()
        ));
        report.common("cores", cores);
        report.common("postgresql", postgres.version());
        report.common("redis", redis.version());
    }

    /// Says what else is going on.
    pub fn describe_now(&self, report: &mut Report) -> Result<()> {
        let (load_average, fdatasync_ms) = (cpu::load_average(), rounded(ceilings::sync_now_ms(self)?));
        let load = load_average.map_or("unknown".to_owned(), |load| load.to_string());
        terminal::note(format!("load average {load}, fdatasync {fdatasync_ms} ms"));
        report.common("load_average", load_average);
        report.common("fdatasync_ms", fdatasync_ms);
        Ok(())
    }

    /// The folder of all objects.
    pub fn objects(&self) -> PathBuf {
        self.scratch.path().join("objects")
    }

    pub fn psql(&self, database: &str) -> Result<Psql> {
        Psql::connect(&self.postgres, &self.services.postgres, database)
    }

    /// A database with Millwork's schema and nothing in it.
    pub fn fresh_database(&self, database: &str) -> Result<()> {
        let mut psql = self.psql("postgres")?;
        psql.rows(&format!("drop database if exists {database} with (force);"))?;
        psql.rows(&format!("create database {database} template {TEMPLATE} owner millwork;"))?;
        Ok(())
    }

    pub fn drop_database(&self, database: &str) -> Result<()> {
        self.psql("postgres")?.rows(&format!("drop database if exists {database} with (force);")).map(drop)
    }

    /// Posts from 64 connections.
    pub fn load(&self, load: &Load, length: Duration) -> Result<Seen> {
        let wrk = self.wrk.as_ref().context("no load generator")?;
        let seen = load.run(wrk, self.scratch.path(), length)?;
        seen.ensure_answered()?;
        Ok(seen)
    }

    pub fn process(
        &self,
        database: &str,
        name: &str,
        variables: &[(&str, &str)],
        arguments: &[&str],
    ) -> Result<Process> {
        Process::builder(name, self.bin_dir.join(format!("millwork-{name}")))
            .clean_env()
            .env("DATABASE_URL", self.services.postgres.url_to(database))
            .env("REDIS_URL", self.services.redis.url())
            .env("MASTER_KEYS", &self.master_keys)
            .env("MAIL_URL", format!("file://{}/mail", self.scratch.path().display()))
            .env("MAIL_FROM", "bench@example.com")
            .env("STORAGE_URL", format!("file://{}", self.objects().display()))
            .env("MAX_FILE_SIZE_BYTES", "2147483648")
            .env("EGRESS_ALLOW_CIDRS", "127.0.0.0/8")
            .env("LOG_FORMAT", "json")
            .envs(variables.iter().copied())
            .args(arguments)
            .current_dir(self.scratch.path())
            .log_to(self.scratch.path().join(format!("{name}.log")))
            .start()
    }
}

/// A fresh database with an API and a scheduler on it, a tenant, and a worker when it is asked for.
pub struct Site<'a> {
    ground: &'a Ground,
    database: String,
    pub api: Process,
    pub scheduler: Process,
    pub worker: Option<Process>,
    pub address: String,
    /// An API key of the tenant.
    pub key: String,
    pub psql: Psql,
    pub redis: redis::Connection,
}

impl<'a> Site<'a> {
    pub fn open(ground: &'a Ground) -> Result<Self> {
        ground.fresh_database(DATABASE)?;
        Self::open_on(ground, DATABASE)
    }

    /// The same on a database that is there, as it is. Redis is emptied.
    pub fn open_on(ground: &'a Ground, database: &str) -> Result<Self> {
        let mut psql = ground.psql(database)?;
        psql.rows("checkpoint;")?; // not in the middle of what is measured
        let mut redis = redis::Connection::open(&ground.services.redis)?;
        redis.ask(&["FLUSHALL"])?;
        let address = format!("127.0.0.1:{}", ports::free()?);
        let api = ground.process(database, "api", &[("API_ADDR", &address)], &[])?;
        let scheduler_address = format!("127.0.0.1:{}", ports::free()?);
        let scheduler = ground.process(database, "scheduler", &[("SCHEDULER_ADDR", &scheduler_address)], &[])?;
        api.wait_until_ok(&format!("http://{address}/health/ready"), READY_LIMIT)?;
        scheduler.wait_until_ok(&format!("http://{scheduler_address}/health/ready"), READY_LIMIT)?;
        let key = tenant::add(&mut psql, 1)?.remove(0);
        let database = database.to_owned();
        Ok(Self { ground, database, api, scheduler, worker: None, address, key, psql, redis })
    }

    /// Starts the worker, with all its defaults. Does not wait for it.
    pub fn start_worker(&mut self) -> Result<String> {
        let address = format!("127.0.0.1:{}", ports::free()?);
        self.worker = Some(self.ground.process(&self.database, "worker", &[("WORKER_ADDR", &address)], &[])?);
        Ok(format!("http://{address}/health/ready"))
    }

    /// Starts the worker and waits until it works.
    pub fn start_ready_worker(&mut self) -> Result<()> {
        let health = self.start_worker()?;
        self.worker.as_ref().context("no worker")?.wait_until_ok(&health, READY_LIMIT)
    }

    pub fn stop_worker(&mut self) -> Result<()> {
        self.worker.take().map_or(Ok(()), |worker| worker.stop(Duration::from_secs(10)).map(drop))
    }

    /// Fails when a process has ended.
    pub fn check(&self) -> Result<()> {
        for process in self.processes() {
            if let Some(status) = process.exited() {
                anyhow::bail!(process.obituary(status));
            }
        }
        Ok(())
    }

    pub fn processes(&self) -> impl Iterator<Item = &Process> {
        [&self.api, &self.scheduler].into_iter().chain(&self.worker)
    }

    /// Starts measuring the processor time of everything that runs.
    pub fn meter(&self) -> Meter {
        let part = |name, pid, with_children| Part { name, pid, with_children };
        let mut parts = vec![part("api", self.api.pid(), false), part("scheduler", self.scheduler.pid(), false)];
        parts.extend(self.worker.as_ref().map(|worker| part("worker", worker.pid(), false)));
        parts.extend(self.ground.services.postgres.pid().map(|pid| part("postgresql", pid, true)));
        parts.extend(self.ground.services.redis.pid().map(|pid| part("redis", pid, false)));
        Meter::start(parts)
    }

    /// Submits `echo` jobs from 64 connections.
    pub fn submit(&self, rate: Option<f64>, length: Duration) -> Result<Seen> {
        self.load("/api/v1/jobs", echo_job(), rate, length)
    }

    /// Posts `body` from 64 connections.
    pub fn load(&self, path: &str, body: String, rate: Option<f64>, length: Duration) -> Result<Seen> {
        let load = Load { url: format!("http://{}{path}", self.address), token: self.key.clone(), body, rate };
        let seen = self.ground.load(&load, length);
        self.check()?;
        seen
    }

    /// Submits `count` `echo` jobs with `key`, a thousand a request, from a few connections. Answers the jobs a second.
    pub fn submit_batches(&self, key: &str, count: usize) -> Result<f64> {
        self.submit_batches_of(&echo_job(), key, count)
    }

    /// The same for any `job`.
    pub fn submit_batches_of(&self, job: &str, key: &str, count: usize) -> Result<f64> {
        let started = Instant::now();
        std::thread::scope(|scope| {
            let workers: Vec<_> = split(count, BATCH_CONNECTIONS)
                .map(|share| scope.spawn(move || self.submit_share(job, key, share)))
                .collect();
            workers.into_iter().try_for_each(|worker| worker.join().ok().context("a submitting thread panicked")?)
        })?;
        Ok(count as f64 / started.elapsed().as_secs_f64())
    }

    fn submit_share(&self, job: &str, key: &str, count: usize) -> Result<()> {
        let mut connection = Connection::open(&self.address, key)?;
        for batch in split(count, count.div_ceil(BATCH)) {
            crate::interrupt::check()?;
            let jobs = vec![job; batch].join(",");
            connection.post("/api/v1/jobs/batch", &format!("{{\"jobs\":[{jobs}]}}"))?;
        }
        Ok(())
    }

    /// Waits until no job waits or runs.
    pub fn wait_until_idle(&mut self, limit: Duration) -> Result<()> {
        let Self { psql, api, scheduler, worker, .. } = self;
        let deadline = Instant::now() + limit;
        loop {
            if ledger::is_idle(psql)? {
                return Ok(());
            }
            for process in [&*api, &*scheduler].into_iter().chain(&*worker) {
                ensure!(
                    process.exited().is_none(),
                    "{} ended; its last lines:\n{}",
                    process.name(),
                    process.last_lines(20)
                );
            }
            crate::interrupt::check()?;
            ensure!(Instant::now() < deadline, "jobs were left after {} s", limit.as_secs());
            std::thread::sleep(Duration::from_millis(200));
        }
    }
}

const BATCH: usize = 1_000;
const BATCH_CONNECTIONS: usize = 4;

/// `count` in `parts` nearly equal parts, without empty ones.
fn split(count: usize, parts: usize) -> impl Iterator<Item = usize> {
    (0..parts).map(move |part| count * (part + 1) / parts - count * part / parts).filter(|share| *share > 0)
}

/// A job with a payload of some 300 bytes.
pub fn echo_job() -> String {
    format!(r#"{{"kind":"echo","payload":{}}}"#, payload())
}

/// Such as a mail's variables.
pub fn payload() -> String {
    let note = "x".repeat(64);
    format!(
        r#"{{"to":"user@example.com","subject":"Your monthly statement is ready","template":"statement-v3","variables":{{"name":"Ada Lovelace","month":"2026-11","total":1234.56,"currency":"EUR","link":"https://example.com/s/1"}},"note":"{note}"}}"#
    )
}

/// Sleeps for `length`, or less when the tool is to stop.
pub fn pause(length: Duration) -> Result<()> {
    let over = wait::at_most(length, || crate::interrupt::check().err());
    over.map_or(Ok(()), Err)
}

/// The folder that PostgreSQL's log of transactions is in: what is written there decides how long a commit takes.
pub fn commit_folder(ground: &Ground) -> &Path {
    ground.services.postgres.data_dir()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_count_is_split_without_loss() {
        for (count, parts) in [(100_000, 4), (3, 4), (1_001, 2), (0, 3)] {
            assert_eq!(split(count, parts).sum::<usize>(), count);
            assert!(split(count, parts).all(|share| share > 0));
        }
    }

    #[test]
    fn the_job_is_json_and_of_the_size_it_says() {
        let job: serde_json::Value = serde_json::from_str(&echo_job()).unwrap();
        let payload = job["payload"].to_string().len();
        assert!((280..=320).contains(&payload), "{payload} bytes");
    }
}
