use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom};
use std::time::Duration;

use anyhow::{Context, Result};

use crate::bench::Options;
use crate::bench::figure::{Figure, Target, rounded};
use crate::bench::memory::{self, Resident};
use crate::bench::report::Report;
use crate::bench::site::{Ground, Site, pause};

const SETTLE: Duration = Duration::from_secs(2);
const IDLE: Duration = Duration::from_secs(5);

/// How much memory each process has idle, in MB of 2^20 bytes, and at most while 64 connections submit as fast as they can
/// and the worker works it off. Idle they also tell what they take for doing nothing: processor time, and queries.
pub fn run(ground: &Ground, options: &Options, report: &mut Report) -> Result<()> {
    let mut site = Site::open(ground)?;
    site.start_ready_worker()?;
    pause(SETTLE)?;
    let meter = site.meter();
    pause(IDLE)?;
    let (usage, idle) = (meter.stop(), all(&site)?);
    let queries = statements(ground, IDLE * 2)?;
    site.submit(None, options.length)?;
    site.wait_until_idle(Duration::from_secs(120))?;
    for ((name, idle), (_, loaded)) in idle.into_iter().zip(all(&site)?) {
        report.add(
            Figure::new(format!("memory.{name}"), loaded.peak_mb, "MB")
                .target(Target::Below(if name == "scheduler" { 32.0 } else { 64.0 }))
                .with("idle_mb", rounded(idle.now_mb))
                .with("after_mb", rounded(loaded.now_mb)),
        );
    }
    report.add(
        Figure::new("memory.idle_queries", queries / (IDLE * 2).as_secs_f64(), "queries/s").target(Target::Below(20.0)),
    );
    report.add(Figure::new("memory.idle_cpu", usage.percent(), "% of a core").with("each", usage.percent_each()));
    Ok(())
}

/// What Millwork asks PostgreSQL within `length`, each statement of a transaction counted: for so long the server writes
/// down all of them.
fn statements(ground: &Ground, length: Duration) -> Result<f64> {
    let (mut psql, log) = (ground.psql("postgres")?, ground.services.postgres.log());
    psql.rows("alter system set log_statement = 'all'; select pg_reload_conf();")?;
    pause(SETTLE)?;
    let before = fs::metadata(&log)?.len();
    pause(length)?;
    let mut text = String::new();
    let mut file = File::open(&log).with_context(|| format!("cannot read {}", log.display()))?;
    file.seek(SeekFrom::Start(before))?;
    file.read_to_string(&mut text)?;
    psql.rows("alter system reset log_statement; select pg_reload_conf();")?;
    Ok(executed(&text) as f64)
}

/// The statements in a part of the server's log that Millwork had executed.
fn executed(log: &str) -> usize {
    let ours = log.lines().filter_map(|line| line.split_once("] millwork@")?.1.split_once(" LOG:  "));
    ours.filter(|(_, said)| said.starts_with("execute ") || said.starts_with("statement: ")).count()
}

fn all(site: &Site<'_>) -> Result<Vec<(String, Resident)>> {
    let resident = |pid| memory::resident(pid).context("this system does not tell what memory a process has");
    site.processes().map(|process| Ok((process.name().to_owned(), resident(process.pid())?))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statements_are_counted_once_and_only_ours() {
        let log = "2026-11-25 10:00:00.000 UTC [7] millwork@millwork LOG:  execute sqlx_s_1: select\n\t\t  execute this\n\
                   2026-11-25 10:00:00.001 UTC [7] millwork@millwork DETAIL:  parameters: $1 = 'LOG:  execute'\n\
                   2026-11-25 10:00:00.002 UTC [7] millwork@millwork LOG:  statement: BEGIN\n\
                   2026-11-25 10:00:00.003 UTC [8] postgres@postgres LOG:  statement: select 1\n\
                   2026-11-25 10:00:00.004 UTC [9] @ LOG:  checkpoint starting: time\n";
        assert_eq!(executed(log), 2);
    }
}
