//! One of Millwork's processes, and the ways by which it reaches its around.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};

use crate::process::Process;
use crate::services::ports;
use crate::wire::Wire;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    Api,
    Worker,
    Scheduler,
}

impl Role {
    pub fn name(self) -> &'static str {
        match self {
            Self::Api => "api",
            Self::Worker => "worker",
            Self::Scheduler => "scheduler",
        }
    }
}

/// A process that is started again whenever it ended, on the same port.
pub struct Member {
    pub role: Role,
    pub name: String,
    pub port: u16,
    pub to_postgres: Wire,
    pub to_redis: Wire,
    binary: PathBuf,
    environment: Vec<(String, String)>,
    process: Option<Process>,
}

/// Where the binaries and the stores are.
pub struct Surroundings<'a> {
    pub bin_dir: &'a Path,
    pub postgres: (u16, &'a str),
    pub redis: (u16, &'a str),
}

impl Member {
    /// Not started yet.
    pub fn new(role: Role, name: &str, around: &Surroundings<'_>, environment: &[(String, String)]) -> Result<Self> {
        let (to_postgres, to_redis) = (Wire::to(around.postgres.0)?, Wire::to(around.redis.0)?);
        let port = ports::free()?;
        let by = |(port, url): (u16, &str), wire: &Wire| url.replace(&format!(":{port}/"), &format!(":{}/", wire.port));
        let mut environment = environment.to_vec();
        let mut add = |name: &str, value: String| environment.push((name.to_owned(), value));
        add("DATABASE_URL", by(around.postgres, &to_postgres));
        add("REDIS_URL", by(around.redis, &to_redis));
        add(&format!("{}_ADDR", role.name().to_uppercase()), format!("127.0.0.1:{port}"));
        let binary = around.bin_dir.join(format!("millwork-{}", role.name()));
        Ok(Self { role, name: name.to_owned(), port, to_postgres, to_redis, binary, environment, process: None })
    }

    /// Starts it, with further variables, in place of a process that has ended. Does not wait for it.
    pub fn start(&mut self, folder: &Path, more: &[(&str, String)]) -> Result<()> {
        self.process = None;
        let process = Process::builder(&self.name, self.binary.clone())
            .clean_env()
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .envs(more.iter().map(|(name, value)| (name, value)))
            .current_dir(folder) // away from a developer's .env
            .log_to(folder.join(format!("{}.log", self.name)))
            .start()?;
        self.process = Some(process);
        Ok(())
    }

    pub fn process(&self) -> Result<&Process> {
        self.process.as_ref().with_context(|| format!("{} was not started", self.name))
    }

    pub fn wait_until_ready(&self, limit: Duration) -> Result<()> {
        self.process()?.wait_until_ok(&format!("http://127.0.0.1:{}/health/ready", self.port), limit)
    }

    /// What it wrote last, if it has ended by itself.
    pub fn obituary(&self) -> Option<String> {
        let process = self.process.as_ref()?;
        process.exited().map(|status| process.obituary(status))
    }
}
