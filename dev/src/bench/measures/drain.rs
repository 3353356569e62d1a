use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::Value;

use super::ROUNDS;
use crate::bench::figure::{Figure, Target, rounded};
use crate::bench::ledger::Drained;
use crate::bench::report::Report;
use crate::bench::sink::now_ns;
use crate::bench::site::{Ground, Site, pause};
use crate::bench::statistics::median;

const JOBS: usize = 100_000;
const LIMIT: Duration = Duration::from_secs(300);

/// How fast one worker process works off a backlog. Each round begins with a worker that is not there yet.
pub fn run(ground: &Ground, _: Duration, report: &mut Report) -> Result<()> {
    let mut site = Site::open(ground)?;
    let (mut drained, mut stored, mut cpu, mut others) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        stored.push(site.submit_batches(&site.key, JOBS)?);
        pause(Duration::from_secs(1))?;
        let since_ns = now_ns();
        site.start_worker()?;
        let meter = site.meter();
        site.wait_until_idle(LIMIT)?;
        let usage = meter.stop();
        site.stop_worker()?;
        let round = Drained::since(&mut site.psql, since_ns)?;
        ensure!(round.jobs >= JOBS as f64, "{} of {JOBS} jobs have an outcome", round.jobs);
        cpu.push(usage.total_us_per(round.jobs));
        others.push((usage.others_percent, usage.us_per(round.jobs)));
        drained.push(round);
    }
    let rates: Vec<f64> = drained.iter().map(|round| round.per_s).collect();
    let shown = |values: &[f64]| values.iter().copied().map(rounded).map(Value::from).collect::<Vec<_>>();
    report.add(
        Figure::new("drain.rate", median(&rates), "jobs/s")
            .target(Target::AtLeast(15_000.0))
            .with("jobs", JOBS)
            .with("rounds", shown(&rates))
            .with("others_percent", shown(&others.iter().map(|(percent, _)| *percent).collect::<Vec<_>>())),
    );
    let since_start: Vec<f64> = drained.iter().map(|round| round.per_s_since).collect();
    report
        .add(Figure::new("drain.rate_from_start", median(&since_start), "jobs/s").with("rounds", shown(&since_start)));
    let typical = cpu.iter().position(|total| *total == median(&cpu)).and_then(|index| others.into_iter().nth(index));
    let each = typical.map(|(_, each)| each).unwrap_or_default();
    report.add(Figure::new("drain.cpu", median(&cpu), "µs/job").with("each", each));
    report.add(Figure::new("drain.batch_submit", median(&stored), "jobs/s").with("rounds", shown(&stored)));
    Ok(())
}
