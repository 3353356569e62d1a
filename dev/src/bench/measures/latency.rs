use std::collections::HashMap;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::bench::connection::Connection;
use crate::bench::figure::{Figure, Target, rounded};
use crate::bench::report::Report;
use crate::bench::sink::now_ns;
use crate::bench::site::{Ground, Site, echo_job};
use crate::bench::statistics::percentile;
use crate::{interrupt, secret};

const PER_S: f64 = 50.0;
const WARM_UP: Duration = Duration::from_secs(1);

/// How soon a job starts when there is little to do.
///
/// `started_at` is the database's time at the beginning of the claim, a moment before the handler runs; `finished_at`
/// that at the beginning of the completion, a moment after it ran. Both clocks are this machine's.
pub fn run(ground: &Ground, length: Duration, report: &mut Report) -> Result<()> {
    let mut site = Site::open(ground)?;
    site.start_ready_worker()?;
    let mut connection = Connection::open(&site.address, &site.key)?;
    paced(WARM_UP, || connection.post("/api/v1/jobs", &echo_job()).map(drop))?;

    let (mut sent_at, mut answers_ms) = (HashMap::new(), Vec::new());
    let meter = site.meter();
    paced(length, || {
        let (sent_ns, sent) = (now_ns(), Instant::now());
        let answer = connection.post("/api/v1/jobs", &echo_job())?;
        answers_ms.push(sent.elapsed().as_secs_f64() * 1000.0);
        let answer: Value = serde_json::from_slice(&answer)?;
        let id = answer["data"]["id"].as_str().context("the answer names no job")?;
        sent_at.insert(id.to_owned(), sent_ns as f64 / 1e6);
        Ok(())
    })?;
    site.wait_until_idle(Duration::from_secs(30))?;
    let usage = meter.stop();

    let rows = site.psql.rows(
        "select id, extract(epoch from started_at) * 1000, extract(epoch from finished_at) * 1000 from job_outcomes;",
    )?;
    let (mut starts_ms, mut ends_ms) = (Vec::new(), Vec::new());
    for row in &rows {
        let [id, started, finished] = row.as_slice() else { continue };
        let Some(sent_ms) = sent_at.get(id) else { continue };
        starts_ms.push(started.parse::<f64>()? - sent_ms);
        ends_ms.push(finished.parse::<f64>()? - sent_ms);
    }
    ensure!(starts_ms.len() == sent_at.len(), "{} of {} jobs have an outcome", starts_ms.len(), sent_at.len());

    report.add(
        Figure::new("latency.start_p50", percentile(&starts_ms, 50.0), "ms")
            .target(Target::AtMost(3.0))
            .with("jobs", starts_ms.len())
            .with("per_s", PER_S)
            .with("others_percent", rounded(usage.others_percent)),
    );
    report.add(
        Figure::new("latency.start_p99", percentile(&starts_ms, 99.0), "ms")
            .target(Target::AtMost(10.0))
            .with("max_ms", rounded(percentile(&starts_ms, 100.0))),
    );
    report.add(
        Figure::new("latency.done_p50", percentile(&ends_ms, 50.0), "ms")
            .with("p99_ms", rounded(percentile(&ends_ms, 99.0))),
    );
    report.add(
        Figure::new("latency.answer_p50", percentile(&answers_ms, 50.0), "ms")
            .with("p99_ms", rounded(percentile(&answers_ms, 99.0))),
    );
    let jobs = sent_at.len() as f64;
    report.add(Figure::new("latency.cpu", usage.total_us_per(jobs), "µs/job").with("each", usage.us_per(jobs)));
    Ok(())
}

/// Does `work` some [`PER_S`] times a second for `length`, at uneven moments, so that it does not keep step with timers of
/// what is measured.
pub fn paced(length: Duration, mut work: impl FnMut() -> Result<()>) -> Result<()> {
    let started = Instant::now();
    let mut next = started;
    while next.duration_since(started) < length {
        interrupt::check()?;
        std::thread::sleep(next.saturating_duration_since(Instant::now()));
        work()?;
        let [random] = secret::random::<1>()?;
        next += Duration::from_secs_f64((0.5 + f64::from(random) / 255.0) / PER_S);
    }
    Ok(())
}
