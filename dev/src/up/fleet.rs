//! The Procfile's processes, together.

use std::env;
use std::ffi::OsString;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::environment::Environment;
use super::procfile;
use crate::process::{self, Process};
use crate::terminal::{self, Prefix};
use crate::workspace::Workspace;
use crate::{interrupt, wait};

/// Longer than the grace that a process gives its own running work (SHUTDOWN_GRACE_S, 25 s).
const STOP_LIMIT: Duration = Duration::from_secs(30);
pub const NAME_WIDTH: usize = 9;

/// Stopped together when the value drops.
pub struct Fleet {
    members: Vec<Member>,
}

struct Member {
    process: Process,
    health_url: Option<String>,
}

impl Fleet {
    /// Starts each entry of the Procfile with the built binaries first on PATH.
    pub fn start(workspace: &Workspace, bin_dir: &Path, environment: &Environment) -> Result<Self> {
        let path = path_with(bin_dir)?;
        let mut fleet = Self { members: Vec::new() };
        for (index, entry) in procfile::read(&workspace.root.join("Procfile"))?.into_iter().enumerate() {
            // `exec`, so that signals reach the process and not a shell before it.
            let process = Process::builder(&entry.name, "/bin/sh")
                .args(["-c", &format!("exec {}", entry.command)])
                .envs(environment.variables())
                .env("PATH", &path)
                .envs((!terminal::coloured()).then_some(("NO_COLOR", "1")))
                .current_dir(&workspace.root)
                .echo(Prefix::new(&entry.name, NAME_WIDTH, index))
                .start()?;
            fleet.members.push(Member { process, health_url: environment.health_url(&entry.name) });
        }
        Ok(fleet)
    }

    /// Waits until every process that listens answers 200 to `/health/ready`.
    pub fn wait_until_ready(&self, limit: Duration) -> Result<()> {
        let mut last_said = Instant::now();
        for Member { process, health_url } in &self.members {
            let Some(url) = health_url else { continue };
            let mut last = String::new();
            let ready = wait::until(&format!("a 200 from {url}"), limit, || {
                self.check()?;
                let refusal = process::refusal(url);
                last = refusal.clone().unwrap_or_default();
                if refusal.is_some() && last_said.elapsed() > Duration::from_secs(5) {
                    last_said = Instant::now();
                    terminal::note(format!("… waiting for {}: {last}", process.name()));
                }
                Ok(refusal.is_none().then_some(()))
            });
            ready
                .map_err(|error| if self.check().is_err() { error } else { error.context(process.not_ready(&last)) })?;
            terminal::note(format!("{} is ready (process {})", process.name(), process.pid()));
        }
        Ok(())
    }

    /// Fails with their last lines when processes have ended.
    pub fn check(&self) -> Result<()> {
        let processes = self.members.iter().map(|member| &member.process);
        let obituaries: Vec<_> = processes.filter_map(|process| Some(process.obituary(process.exited()?))).collect();
        ensure!(obituaries.is_empty(), obituaries.join("\n"));
        Ok(())
    }

    /// Returns on Ctrl-C; fails when a process ends by itself.
    pub fn watch(&self) -> Result<()> {
        loop {
            self.check()?;
            interrupt::check()?;
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// The last lines of all, for the report of a failure that may be any one's.
    pub fn last_lines(&self) -> String {
        let each = self
            .members
            .iter()
            .map(|Member { process, .. }| format!("last lines of {}:\n{}", process.name(), process.last_lines(15)));
        each.collect::<Vec<_>>().join("\n")
    }
}

impl Drop for Fleet {
    /// All are asked at once; whoever has not ended when the time is up is killed.
    fn drop(&mut self) {
        terminal::step("stopping");
        for Member { process, .. } in &self.members {
            let _ = process.sigterm();
        }
        let started = Instant::now();
        for Member { process, .. } in &self.members {
            let left = STOP_LIMIT.saturating_sub(started.elapsed());
            if !process.wait_or_kill(left).unwrap_or(false) {
                terminal::note(format!(
                    "{} did not stop within {} s and was killed",
                    process.name(),
                    STOP_LIMIT.as_secs()
                ));
            }
        }
    }
}

fn path_with(first: &Path) -> Result<OsString> {
    let rest = env::var_os("PATH").unwrap_or_default();
    let folders = std::iter::once(first.to_owned()).chain(env::split_paths(&rest));
    env::join_paths(folders).with_context(|| format!("{} cannot be put on PATH", first.display()))
}
