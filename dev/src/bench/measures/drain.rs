use std::time::Duration;

use anyhow::{Result, ensure};

use super::{ROUNDS, shown};
use crate::bench::Options;
use crate::bench::cpu::{self, Usage};
use crate::bench::figure::{Figure, Target};
use crate::bench::ledger::Drained;
use crate::bench::report::Report;
use crate::bench::sink::now_ns;
use crate::bench::site::{Ground, Site, pause};
use crate::bench::statistics::median;

pub const JOBS: usize = 100_000;
const LIMIT: Duration = Duration::from_secs(300);

/// How fast one worker process works off a backlog. Each round begins with a worker that is not there yet.
pub fn run(ground: &Ground, _: &Options, report: &mut Report) -> Result<()> {
    let mut site = Site::open(ground)?;
    let (mut drained, mut stored, mut usages, mut storing) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let meter = site.meter();
        stored.push(site.submit_batches(&site.key, JOBS)?);
        storing.push(meter.stop());
        pause(Duration::from_secs(1))?;
        let (round, usage) = work_off(&mut site)?;
        ensure!(round.jobs >= JOBS as f64, "{} of {JOBS} jobs have an outcome", round.jobs);
        drained.push(round);
        usages.push(usage);
    }
    let rates: Vec<f64> = drained.iter().map(|round| round.per_s).collect();
    report.add(
        Figure::new("drain.rate", median(&rates), "jobs/s")
            .target(Target::AtLeast(30_000.0))
            .with("jobs", JOBS)
            .with("rounds", shown(&rates))
            .with("others_percent", shown(&usages.iter().map(|usage| usage.others_percent).collect::<Vec<_>>())),
    );
    let since_start: Vec<f64> = drained.iter().map(|round| round.per_s_since).collect();
    report
        .add(Figure::new("drain.rate_from_start", median(&since_start), "jobs/s").with("rounds", shown(&since_start)));
    report.add(cpu::figure("drain.cpu", &usages, JOBS as f64));
    report.add(Figure::new("drain.batch_submit", median(&stored), "jobs/s").with("rounds", shown(&stored)));
    report.add(cpu::figure("drain.batch_submit_cpu", &storing, JOBS as f64));
    Ok(())
}

/// Has a worker that is not there yet work off what waits, and go.
pub fn work_off(site: &mut Site<'_>) -> Result<(Drained, Usage)> {
    let since_ns = now_ns();
    site.start_worker()?;
    let meter = site.meter();
    site.wait_until_idle(LIMIT)?;
    let usage = meter.stop();
    site.stop_worker()?;
    Ok((Drained::since(&mut site.psql, since_ns)?, usage))
}
