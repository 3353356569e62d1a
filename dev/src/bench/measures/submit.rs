use std::time::Duration;

use anyhow::Result;
use serde_json::Value;

use super::{ROUNDS, round_length};
use crate::bench::Options;
use crate::bench::figure::{Figure, Target, rounded};
use crate::bench::load::{CONNECTIONS, Seen};
use crate::bench::report::Report;
use crate::bench::site::{Ground, Site};
use crate::bench::statistics::median;

const WARM_UP: Duration = Duration::from_secs(2);

/// How fast jobs are taken in while nothing takes them out.
pub fn run(ground: &Ground, options: &Options, report: &mut Report) -> Result<()> {
    let site = Site::open(ground)?;
    site.submit(None, WARM_UP)?;
    let meter = site.meter();
    let rounds = (0..ROUNDS).map(|_| site.submit(None, round_length(options.length))).collect::<Result<Vec<Seen>>>()?;
    let usage = meter.stop();

    let each = |of: fn(&Seen) -> f64| rounds.iter().map(of).collect::<Vec<f64>>();
    let shown = |of: fn(&Seen) -> f64| each(of).into_iter().map(rounded).map(Value::from).collect::<Vec<_>>();
    let requests: f64 = each(|seen| seen.requests).iter().sum();
    report.add(
        Figure::new("submit.rate", median(&each(|seen| seen.per_s)), "jobs/s")
            .target(Target::AtLeast(20_000.0))
            .with("connections", CONNECTIONS)
            .with("rounds", shown(|seen| seen.per_s))
            .with("errors", each(Seen::errors).iter().sum::<f64>())
            .with("others_percent", rounded(usage.others_percent)),
    );
    report.add(
        Figure::new("submit.p99", median(&each(|seen| seen.p99_ms)), "ms")
            .target(Target::Below(10.0))
            .with("rounds", shown(|seen| seen.p99_ms))
            .with("max_ms", shown(|seen| seen.max_ms)),
    );
    report.add(Figure::new("submit.p50", median(&each(|seen| seen.p50_ms)), "ms"));
    report.add(Figure::new("submit.cpu", usage.total_us_per(requests), "µs/job").with("each", usage.us_per(requests)));
    Ok(())
}
