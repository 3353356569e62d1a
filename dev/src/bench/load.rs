//! Many clients at once, by `wrk`: a load generator of our own would take the processors from what it measures.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::command;

const SCRIPT: &str = include_str!("load.lua");
pub const CONNECTIONS: u32 = 64;
const THREADS: u32 = 2;

/// One route, posted to by [`CONNECTIONS`] clients.
#[derive(Debug, Clone)]
pub struct Load {
    pub url: String,
    pub token: String,
    pub body: String,
    /// Requests a second of all connections together; as many as get through if none.
    pub rate: Option<f64>,
}

/// What the clients saw.
#[derive(Debug, Clone, Copy)]
pub struct Seen {
    pub requests: f64,
    pub per_s: f64,
    pub p50_ms: f64,
    pub p99_ms: f64,
    pub max_ms: f64,
    /// Answers of 400 and above.
    pub refused: f64,
    /// Connections that failed or took longer than 5 s.
    pub broken: f64,
}

impl Load {
    /// Blocks for `length`. `scratch` takes the script.
    pub fn run(&self, wrk: &Path, scratch: &Path, length: Duration) -> Result<Seen> {
        let script = scratch.join("load.lua");
        fs::write(&script, SCRIPT).with_context(|| format!("cannot write {}", script.display()))?;
        let interval_ms = self.rate.map_or(0.0, |rate| f64::from(THREADS) * 1000.0 / rate);
        let mut command = Command::new(wrk);
        command.arg(format!("-t{THREADS}")).arg(format!("-c{CONNECTIONS}"));
        command.arg(format!("-d{}s", length.as_secs().max(1))).arg("--timeout").arg("5s").arg("-s").arg(&script);
        command.arg(&self.url);
        command.env("MILLWORK_BENCH_TOKEN", &self.token).env("MILLWORK_BENCH_BODY", &self.body);
        command.env("MILLWORK_BENCH_INTERVAL_MS", interval_ms.to_string());
        let output = command::capture(command, "", length + Duration::from_secs(30))?;
        Seen::parse(&output)
    }
}

impl Seen {
    fn parse(output: &str) -> Result<Self> {
        let line = output.lines().find(|line| line.starts_with("{\"requests\"")).context("wrk printed no figures")?;
        let seen: Value = serde_json::from_str(line).with_context(|| format!("wrk printed {line:?}"))?;
        let field = |name: &str| seen[name].as_f64().with_context(|| format!("wrk did not print {name}"));
        let requests = field("requests")?;
        Ok(Self {
            requests,
            per_s: (requests - field("refused")?) / field("seconds")?,
            p50_ms: field("p50_ms")?,
            p99_ms: field("p99_ms")?,
            max_ms: field("max_ms")?,
            refused: field("refused")?,
            broken: field("broken")?,
        })
    }

    pub fn errors(&self) -> f64 {
        self.refused + self.broken
    }

    /// Figures of a load that was refused mean nothing.
    pub fn ensure_answered(&self) -> Result<()> {
        ensure!(self.requests > 0.0, "no request was answered");
        ensure!(
            self.errors() <= self.requests / 100.0,
            "of {} requests {} were refused and {} broke",
            self.requests,
            self.refused,
            self.broken
        );
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::sink::Sink;
    use crate::scratch::Scratch;
    use crate::services::find;

    #[test]
    fn a_rate_that_is_asked_for_is_kept() {
        let Some(wrk) = find::wrk().unwrap() else { return }; // `cargo dev bench` installs it
        let (scratch, sink) = (Scratch::new("load").unwrap(), Sink::start().unwrap());
        let load = Load { url: sink.url(), token: "key".into(), body: "{}".into(), rate: Some(500.0) };
        let seen = load.run(&wrk, scratch.path(), Duration::from_secs(2)).unwrap();
        seen.ensure_answered().unwrap();
        assert!((350.0..=550.0).contains(&seen.per_s), "{seen:?}");
        assert!(sink.requests() as f64 >= seen.requests, "{seen:?}");
    }

    #[test]
    fn what_the_script_prints_is_read() {
        let output = "Running 1s test\n{\"requests\":110,\"seconds\":2.0,\"p50_ms\":1.5,\"p99_ms\":9,\"max_ms\":10,\"refused\":10,\"broken\":1}\n";
        let seen = Seen::parse(output).unwrap();
        assert_eq!((seen.per_s, seen.p50_ms, seen.errors()), (50.0, 1.5, 11.0));
        assert!(seen.ensure_answered().is_err());
        assert!(Seen::parse("Running\n").is_err());
    }
}
