use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::json;

use super::latency::{Client, paced};
use crate::bench::Options;
use crate::bench::connection::Connection;
use crate::bench::figure::{Figure, Target, rounded};
use crate::bench::report::Report;
use crate::bench::sink::Sink;
use crate::bench::site::{DATABASE, Ground, Site, echo_job, pause};
use crate::bench::statistics::percentile;
use crate::bench::tenant;
use crate::services::psql::Psql;
use crate::terminal;

/// What A has waiting all the time.
const FLOOD: usize = 100_000;
const BATCH: usize = 1_000;
/// Counting them costs PostgreSQL some milliseconds.
const COUNT_EVERY: Duration = Duration::from_millis(500);
/// A's calls of a receiver that is slow to answer: more than there are slots for, for as long as this may last.
const CALLS: usize = 10_000;
const ANSWERS_AFTER: Duration = Duration::from_secs(10);
/// Of each of B's two kinds, so 20 jobs a second together.
const PER_S: f64 = 10.0;
const WARM_UP: Duration = Duration::from_secs(2);
const END_LIMIT: Duration = Duration::from_secs(60);

/// What tenant B, which submits 20 jobs a second, notices of tenant A, which has 100,000 waiting and calls a receiver that
/// takes its time. Half of B's jobs are of the kind that A floods the queue with, half are calls like A's, of a receiver
/// that answers at once.
pub fn run(ground: &Ground, options: &Options, report: &mut Report) -> Result<()> {
    let mut site = Site::open(ground)?;
    site.start_ready_worker()?;
    let [a, b] = <[String; 2]>::try_from(tenant::add(&mut site.psql, 2)?).ok().context("two tenants were asked for")?;
    let (slow, quick) = (Sink::start_slow(ANSWERS_AFTER)?, Sink::start()?);

    let alone = Seen::take(&mut site, &b, &quick, options.length / 2)?;
    terminal::note(format!("alone: p99 {:.1} ms, calls {:.1} ms", alone.echo(99.0), alone.calls(99.0)));

    site.submit_batches_of(&call(&slow), &a, CALLS)?;
    site.submit_batches(&a, FLOOD)?;
    let over = AtomicBool::new(false);
    let meter = site.meter();
    let (flood, seen, waiting) = thread::scope(|scope| {
        let flooding = scope.spawn(|| flood(ground, &site.address, &a, &over));
        let seen = pause(WARM_UP).and_then(|()| Seen::submit(&site, &b, &quick, options.length));
        let waiting = slow.waiting();
        over.store(true, Ordering::Relaxed);
        let flood = flooding.join().ok().context("the flood panicked")?;
        anyhow::Ok((flood?, seen?, waiting))
    })?;
    let usage = meter.stop();
    let seen = seen.finish(&mut site)?;
    ensure!(waiting > 0, "the slow receiver was not called");

    report.add(
        Figure::new("fair.done_p99", seen.echo(99.0), "ms")
            .target(Target::Below(250.0))
            .with("jobs", seen.echo.len())
            .with("p50_ms", rounded(seen.echo(50.0)))
            .with("alone_p50_ms", rounded(alone.echo(50.0)))
            .with("alone_p99_ms", rounded(alone.echo(99.0)))
            .with("flood_waiting", flood.waiting.iter().copied().fold(f64::INFINITY, f64::min))
            .with("flood_finished_per_s", rounded(flood.finished_per_s))
            .with("slow_calls_running", waiting)
            .with("others_percent", rounded(usage.others_percent)),
    );
    report.add(
        Figure::new("fair.call_done_p99", seen.calls(99.0), "ms")
            .target(Target::Below(250.0))
            .with("jobs", seen.calls.len())
            .with("p50_ms", rounded(seen.calls(50.0)))
            .with("alone_p50_ms", rounded(alone.calls(50.0)))
            .with("alone_p99_ms", rounded(alone.calls(99.0))),
    );
    report.add(Figure::new("fair.cpu", usage.percent(), "% of a core").with("each", usage.percent_each()));
    Ok(())
}

fn call(sink: &Sink) -> String {
    json!({"kind": "http.request", "payload": {"url": sink.url(), "method": "POST", "body": {"note": "bench"}}})
        .to_string()
}

/// B's jobs, while they run.
struct Submitted {
    echo: Client,
    calls: Client,
}

/// B's jobs, from the moment before they were submitted to their end, in milliseconds.
struct Seen {
    echo: Vec<f64>,
    calls: Vec<f64>,
}

impl Seen {
    fn take(site: &mut Site<'_>, key: &str, quick: &Sink, length: Duration) -> Result<Self> {
        Self::submit(site, key, quick, length)?.finish(site)
    }

    fn submit(site: &Site<'_>, key: &str, quick: &Sink, length: Duration) -> Result<Submitted> {
        let mut submitted = Submitted { echo: Client::open(site, key)?, calls: Client::open(site, key)? };
        let (echo, call) = (echo_job(), call(quick));
        let mut odd = false;
        paced(length, 2.0 * PER_S, || {
            odd = !odd;
            if odd { submitted.echo.submit(&echo) } else { submitted.calls.submit(&call) }
        })?;
        Ok(submitted)
    }

    fn echo(&self, percent: f64) -> f64 {
        percentile(&self.echo, percent)
    }

    fn calls(&self, percent: f64) -> f64 {
        percentile(&self.calls, percent)
    }
}

impl Submitted {
    fn finish(self, site: &mut Site<'_>) -> Result<Seen> {
        for client in [&self.echo, &self.calls] {
            client.wait_until_ended(&mut site.psql, END_LIMIT)?;
        }
        let mut ends = |client: &Client| client.times(&mut site.psql).map(|times| times.ends_ms);
        Ok(Seen { echo: ends(&self.echo)?, calls: ends(&self.calls)? })
    }
}

struct Flood {
    /// A's jobs that waited or ran, whenever they were counted.
    waiting: Vec<f64>,
    finished_per_s: f64,
}

/// Keeps [`FLOOD`] of A's jobs waiting until it is `over`.
fn flood(ground: &Ground, address: &str, key: &str, over: &AtomicBool) -> Result<Flood> {
    let mut psql: Psql = ground.psql(DATABASE)?;
    let mut connection = Connection::open(address, key)?;
    let batch = format!("{{\"jobs\":[{}]}}", vec![echo_job(); BATCH].join(","));
    let count = format!("select count(*) from job_live where tenant_id = ({}) and queue = 'default';", tenant::of(key));
    let (began, mut added, mut waiting) = (std::time::Instant::now(), 0, Vec::new());
    while !over.load(Ordering::Relaxed) {
        let [now] = psql.numbers(&count)?;
        waiting.push(now);
        for _ in 0..(FLOOD.saturating_sub(now as usize)).div_ceil(BATCH) {
            connection.post("/api/v1/jobs/batch", &batch)?;
            added += BATCH;
            if over.load(Ordering::Relaxed) {
                break;
            }
        }
        pause(COUNT_EVERY)?;
    }
    let gone = waiting.first().zip(waiting.last()).map_or(0.0, |(first, last)| first - last) + added as f64;
    Ok(Flood { waiting, finished_per_s: gone / began.elapsed().as_secs_f64() })
}
