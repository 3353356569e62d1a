use std::time::Duration;

use anyhow::{Context, Result};

use crate::bench::figure::{Figure, Target, rounded};
use crate::bench::memory::{self, Resident};
use crate::bench::report::Report;
use crate::bench::site::{Ground, Site, pause};

/// In MB of 2^20 bytes.
const LIMIT: Target = Target::Below(64.0);
const SETTLE: Duration = Duration::from_secs(2);
const IDLE: Duration = Duration::from_secs(5);

/// How much memory each process has idle, and at most while 64 connections submit as fast as they can and the worker works
/// it off. Idle they also tell how much processor time they take for doing nothing.
pub fn run(ground: &Ground, length: Duration, report: &mut Report) -> Result<()> {
    let mut site = Site::open(ground)?;
    site.start_ready_worker()?;
    pause(SETTLE)?;
    let meter = site.meter();
    pause(IDLE)?;
    let (usage, idle) = (meter.stop(), all(&site)?);
    site.submit(None, length)?;
    site.wait_until_idle(Duration::from_secs(120))?;
    for ((name, idle), (_, loaded)) in idle.into_iter().zip(all(&site)?) {
        report.add(
            Figure::new(format!("memory.{name}"), loaded.peak_mb, "MB")
                .target(LIMIT)
                .with("idle_mb", rounded(idle.now_mb))
                .with("after_mb", rounded(loaded.now_mb)),
        );
    }
    report.add(Figure::new("memory.idle_cpu", usage.percent(), "% of a core").with("each", usage.percent_each()));
    Ok(())
}

fn all(site: &Site<'_>) -> Result<Vec<(String, Resident)>> {
    let resident = |pid| memory::resident(pid).context("this system does not tell what memory a process has");
    site.processes().map(|process| Ok((process.name().to_owned(), resident(process.pid())?))).collect()
}
