//! A `psql` that is kept running and asked now and then: starting one for every question would show in the figures.

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::services::Postgres;
use crate::services::find::PostgresBinaries;
use crate::sys::{self, Signal};
use crate::wait;

const END_OF_ANSWER: &str = "--end of answer--";

/// An open session as PostgreSQL's superuser, who sees every tenant's rows.
#[derive(Debug)]
pub struct Psql {
    child: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
}

impl Psql {
    pub fn connect(binaries: &PostgresBinaries, postgres: &Postgres, database: &str) -> Result<Self> {
        let mut command = binaries.command("psql");
        // Quiet, bare rows, fields apart by a tab, no ~/.psqlrc, the first error ends it.
        command.args(["-X", "-q", "-A", "-t", "-F", "\t", "-v", "ON_ERROR_STOP=1"]);
        as_superuser(&mut command, postgres, database);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = sys::spawn_bound(command, Signal::Kill)?;
        let input = child.stdin.take();
        let output = child.stdout.take().context("psql has no standard output")?;
        Ok(Self { child, input, output: BufReader::new(output) })
    }

    /// Runs statements, each ended by a semicolon, and answers the rows of all.
    pub fn rows(&mut self, sql: &str) -> Result<Vec<Vec<String>>> {
        let input = self.input.as_mut().context("psql is closed")?;
        let asked = writeln!(input, "{sql}\n\\echo {END_OF_ANSWER}").and_then(|()| input.flush());
        let mut rows = Vec::new();
        let mut line = String::new();
        loop {
            line.clear();
            if asked.is_err() || self.output.read_line(&mut line)? == 0 {
                bail!("psql ended: {}", self.complaint());
            }
            match line.trim_end_matches('\n') {
                END_OF_ANSWER => return Ok(rows),
                row => rows.push(row.split('\t').map(str::to_owned).collect()),
            }
        }
    }

    /// The numbers of the only row.
    pub fn numbers<const N: usize>(&mut self, sql: &str) -> Result<[f64; N]> {
        let rows = self.rows(sql)?;
        let numbers =
            rows.first().map(|row| row.iter().map(|field| field.parse().unwrap_or(f64::NAN)).collect::<Vec<_>>());
        numbers.and_then(|numbers| numbers.try_into().ok()).with_context(|| format!("{sql}: answered {rows:?}"))
    }

    fn complaint(&mut self) -> String {
        let mut text = String::new();
        let _ = self.child.stderr.take().map(|mut stderr| stderr.read_to_string(&mut text));
        text.trim().to_owned()
    }
}

impl Drop for Psql {
    fn drop(&mut self) {
        drop(self.input.take());
        if wait::at_most(Duration::from_secs(2), || self.child.try_wait().ok().flatten()).is_none() {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

/// The environment by which PostgreSQL's client programs find the server.
pub fn as_superuser(command: &mut Command, postgres: &Postgres, database: &str) {
    let url = postgres.superuser_url();
    let password = url.split([':', '@']).nth(2).unwrap_or_default();
    command.env("PGHOST", "127.0.0.1").env("PGPORT", postgres.port().to_string());
    command.env("PGUSER", "postgres").env("PGPASSWORD", password).env("PGDATABASE", database);
    command.env("PGOPTIONS", "-c statement_timeout=60s").env_remove("PGSERVICE").env_remove("PGSSLMODE");
}
