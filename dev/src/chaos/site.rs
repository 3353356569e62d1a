//! Where it happens: stores, processes in pairs, ways between them, and a tenant.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::member::{Member, Role, Surroundings};
use super::plan::Fault;
use super::recorder::Recorder;
use super::volume::Volume;
use super::{Options, Sabotage};
use crate::bench::{redis, tenant};
use crate::process::Process;
use crate::scratch::Scratch;
use crate::services::find::PostgresBinaries;
use crate::services::psql::Psql;
use crate::services::{Postgres, Redis, install};
use crate::wire::Wire;
use crate::{secret, terminal};

const READY_LIMIT: Duration = Duration::from_secs(120);
const MIGRATE_LIMIT: Duration = Duration::from_secs(120);
/// Few slots for `exports`, so that jobs wait in line there and their order shows; enough elsewhere.
const QUEUES: &str = "default=40,webhooks=40,exports=2,maintenance=5,email=5,files=5";
const MEMBERS: [(Role, &str); 6] = [
    (Role::Api, "api-a"),
    (Role::Api, "api-b"),
    (Role::Scheduler, "scheduler-a"),
    (Role::Scheduler, "scheduler-b"),
    (Role::Worker, "worker-a"),
    (Role::Worker, "worker-b"),
];

/// A whole Millwork. Its fields are dropped in this order: processes, stores, the folder they live in.
pub struct Site {
    pub members: Vec<Member>,
    /// From clients to each API.
    pub to_api: Vec<(String, Wire)>,
    /// From workers to the third party that jobs call.
    pub to_recorder: Wire,
    /// The tenant's API key.
    pub key: String,
    pub postgres: Postgres,
    pub redis: Redis,
    pub binaries: PostgresBinaries,
    /// Where PostgreSQL's data is, if its disk is to be full.
    pub volume: Result<Volume, String>,
    /// The library that steps the clock of one process.
    pub faketime: Result<PathBuf, String>,
    scratch: Scratch,
}

impl Site {
    /// Starts everything.
    pub fn open(options: &Options, bin_dir: &Path, binaries: PostgresBinaries) -> Result<Self> {
        let scratch = Scratch::on_disk("chaos")?;
        let wanted = options.faults.contains(&Fault::DiskFull);
        let volume =
            if wanted { Volume::mount(&scratch.path().join("disk")) } else { Err(anyhow::anyhow!("not asked for")) };
        let volume = volume.map_err(|error| format!("{error:#}"));
        let faketime = match options.faults.contains(&Fault::ClockStep) {
            true => install::faketime().map_err(|error| format!("{error:#}")),
            false => Err("not asked for".to_owned()),
        };
        let home = scratch.path().join(if volume.is_ok() { "disk/postgres" } else { "postgres" });
        let settings = [("shared_buffers", "64MB"), ("min_wal_size", "64MB"), ("max_wal_size", "256MB")];
        let postgres = Postgres::start_with(&home, &settings)?;
        let redis = Redis::start(&scratch.path().join("redis"))?;
        let environment = environment(&scratch, options.sabotage)?;
        migrate(&scratch, bin_dir, &postgres, &redis, &environment)?;

        let (postgres_url, redis_url) = (postgres.url(), redis.url());
        let around =
            Surroundings { bin_dir, postgres: (postgres.port(), &postgres_url), redis: (redis.port(), &redis_url) };
        let mut members = MEMBERS
            .map(|(role, name)| Member::new(role, name, &around, &environment))
            .into_iter()
            .collect::<Result<Vec<_>>>()?;
        for member in &mut members {
            member.start(scratch.path(), &[])?;
        }
        for member in &members {
            member.wait_until_ready(READY_LIMIT)?;
        }
        let key = tenant::add(&mut Psql::connect(&binaries, &postgres, "millwork")?, 1)?.remove(0);
        let apis = members.iter().filter(|member| member.role == Role::Api);
        let to_api = apis.map(|api| Ok((api.name.clone(), Wire::to(api.port)?))).collect::<Result<_>>()?;
        let to_recorder = Wire::to(Recorder::start(&scratch.path().join("recorder"))?.port)?;
        Ok(Self { members, to_api, to_recorder, key, postgres, redis, binaries, volume, faketime, scratch })
    }

    pub fn folder(&self) -> &Path {
        self.scratch.path()
    }

    /// Where the journal of the workers, the book of the third party and the records of clients are.
    pub fn journal(&self) -> PathBuf {
        self.folder().join("journal")
    }

    pub fn recorder(&self) -> PathBuf {
        self.folder().join("recorder")
    }

    pub fn psql(&self) -> Result<Psql> {
        Psql::connect(&self.binaries, &self.postgres, "millwork")
    }

    pub fn redis_connection(&self) -> Result<redis::Connection> {
        redis::Connection::open(&self.redis)
    }

    /// The members of a role, by their place among all.
    pub fn of(&self, role: Role) -> Vec<usize> {
        (0..self.members.len()).filter(|&n| self.members[n].role == role).collect()
    }

    pub fn start(&mut self, member: usize, more: &[(&str, String)]) -> Result<()> {
        let folder = self.scratch.path();
        self.members[member].start(folder, more)
    }

    /// The scheduler that leads: the one whose connection holds the lock.
    pub fn leader(&self) -> Result<Option<usize>> {
        let holders = self.psql()?.rows(
            "select a.client_port from pg_locks l join pg_stat_activity a using (pid)
              where l.locktype = 'advisory' and l.granted;",
        )?;
        let ports: Vec<u16> = holders.iter().filter_map(|row| row.first()?.parse().ok()).collect();
        let leads = |n: &usize| ports.iter().any(|port| self.members[*n].to_postgres.comes_from(*port));
        Ok(self.of(Role::Scheduler).into_iter().find(leads))
    }

    /// Every way there is between two, by name.
    pub fn wires(&self) -> Vec<(String, &Wire)> {
        let mut wires = Vec::new();
        for member in &self.members {
            wires.push((format!("{} to PostgreSQL", member.name), &member.to_postgres));
            wires.push((format!("{} to Redis", member.name), &member.to_redis));
        }
        wires.extend(self.to_api.iter().map(|(name, wire)| (format!("clients to {name}"), wire)));
        wires.push(("workers to the third party".to_owned(), &self.to_recorder));
        wires
    }

    /// Starts again whoever ended by itself, which nobody should have to. Answers what they said.
    pub fn revive(&mut self) -> Result<Vec<String>> {
        let mut deaths = Vec::new();
        for n in 0..self.members.len() {
            if let Some(obituary) = self.members[n].obituary() {
                terminal::note(format!("{} ended by itself", self.members[n].name));
                deaths.push(obituary);
                self.start(n, &[])?;
            }
        }
        Ok(deaths)
    }
}

fn environment(scratch: &Scratch, sabotage: Option<Sabotage>) -> Result<Vec<(String, String)>> {
    let path = |name: &str| scratch.path().join(name).display().to_string();
    let mails = path("mail");
    std::fs::create_dir(&mails).with_context(|| format!("cannot create {mails}"))?;
    let mut variables = vec![
        ("MASTER_KEYS", format!("k1:{}", STANDARD.encode(secret::random::<32>()?))),
        ("MAIL_URL", format!("file://{mails}")),
        ("STORAGE_URL", format!("file://{}", path("objects"))),
        ("EGRESS_ALLOW_CIDRS", "127.0.0.0/8".to_owned()),
        ("WORKER_QUEUES", QUEUES.to_owned()),
        ("SHUTDOWN_GRACE_S", "5".to_owned()),
        ("LOG_FORMAT", "json".to_owned()),
        ("RUST_LOG", "info".to_owned()),
        ("MILLWORK_CHAOS_JOURNAL", path("journal")),
    ];
    variables.extend(sabotage.map(|sabotage| ("MILLWORK_SABOTAGE", sabotage.name().to_owned())));
    Ok(variables.into_iter().map(|(name, value)| (name.to_owned(), value)).collect())
}

fn migrate(
    scratch: &Scratch,
    bin_dir: &Path,
    postgres: &Postgres,
    redis: &Redis,
    environment: &[(String, String)],
) -> Result<()> {
    let migration = Process::builder("migrate", bin_dir.join("millwork-api"))
        .arg("migrate")
        .clean_env()
        .env("DATABASE_URL", postgres.url())
        .env("REDIS_URL", redis.url())
        .envs(environment.iter().map(|(name, value)| (name, value)))
        .current_dir(scratch.path())
        .start()?;
    let status = migration.wait(MIGRATE_LIMIT)?;
    ensure!(status.success(), migration.obituary(status));
    Ok(())
}
