use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::latency::{PER_S, paced};
use super::{ROUNDS, round_length};
use crate::bench::Options;
use crate::bench::connection::Connection;
use crate::bench::figure::{Figure, Target, rounded};
use crate::bench::load::{CONNECTIONS, Seen};
use crate::bench::report::Report;
use crate::bench::sink::{Sink, now_ns};
use crate::bench::site::{Ground, Site, pause};
use crate::bench::statistics::{median, percentile};

const WARM_UP: Duration = Duration::from_secs(2);
const DRAIN_LIMIT: Duration = Duration::from_secs(120);

/// From `POST /events` to the request that a local receiver gets: how many a second, and how soon when there is little to
/// do.
pub fn run(ground: &Ground, options: &Options, report: &mut Report) -> Result<()> {
    let mut site = Site::open(ground)?;
    site.start_ready_worker()?;
    let sink = Sink::start()?;
    let mut connection = Connection::open(&site.address, &site.key)?;
    let webhook = json!({"url": sink.url(), "description": "bench", "event_types": ["order.*"]});
    connection.post("/api/v1/webhooks", &webhook.to_string())?;

    soon(&mut site, &sink, options.length, report)?;
    many(&mut site, &sink, options.length, report)
}

fn event(sent_ns: u64) -> String {
    let note = "x".repeat(200);
    json!({"type": "order.created", "payload": {"sent_ns": sent_ns, "order_id": "A-1001", "note": note}}).to_string()
}

fn soon(site: &mut Site<'_>, sink: &Sink, length: Duration, report: &mut Report) -> Result<()> {
    let mut connection = Connection::open(&site.address, &site.key)?;
    paced(Duration::from_secs(1), PER_S, || connection.post("/api/v1/events", &event(0)).map(drop))?;
    let (mut answers_ms, before) = (Vec::new(), sink.requests());
    site.wait_until_idle(DRAIN_LIMIT)?;
    sink.begin_delays();
    let meter = site.meter();
    paced(length, PER_S, || {
        let sent = Instant::now();
        connection.post("/api/v1/events", &event(now_ns()))?;
        answers_ms.push(sent.elapsed().as_secs_f64() * 1000.0);
        Ok(())
    })?;
    site.wait_until_idle(DRAIN_LIMIT)?;
    let usage = meter.stop();
    let delays_ms = sink.end_delays();
    ensure!(
        delays_ms.len() >= answers_ms.len(),
        "of {} events {} were delivered ({} requests)",
        answers_ms.len(),
        delays_ms.len(),
        sink.requests() - before
    );
    report.add(
        Figure::new("events.delivery_p50", percentile(&delays_ms, 50.0), "ms")
            .with("events", answers_ms.len())
            .with("per_s", PER_S)
            .with("others_percent", rounded(usage.others_percent)),
    );
    report.add(Figure::new("events.delivery_p99", percentile(&delays_ms, 99.0), "ms"));
    report.add(
        Figure::new("events.answer_p50", percentile(&answers_ms, 50.0), "ms")
            .with("p99_ms", rounded(percentile(&answers_ms, 99.0))),
    );
    Ok(())
}

/// Deliveries are counted while the clients publish as fast as they can, from a moment after they begin.
fn many(site: &mut Site<'_>, sink: &Sink, length: Duration, report: &mut Report) -> Result<()> {
    site.load("/api/v1/events", event(0), None, WARM_UP)?;
    site.wait_until_idle(DRAIN_LIMIT)?;
    let (mut delivered, mut seen) = (Vec::new(), Vec::new());
    let (meter, all_before) = (site.meter(), sink.requests());
    for _ in 0..ROUNDS {
        let (per_s, clients) = round(site, sink, round_length(length).max(Duration::from_secs(2)))?;
        delivered.push(per_s);
        seen.push(clients);
        site.wait_until_idle(DRAIN_LIMIT)?;
    }
    let (usage, deliveries) = (meter.stop(), (sink.requests() - all_before) as f64);
    let shown = |values: &[f64]| values.iter().copied().map(rounded).map(Value::from).collect::<Vec<_>>();
    let each = |of: fn(&Seen) -> f64| seen.iter().map(of).collect::<Vec<f64>>();
    report.add(
        Figure::new("events.rate", median(&delivered), "deliveries/s")
            .target(Target::AtLeast(2_000.0))
            .with("connections", CONNECTIONS)
            .with("rounds", shown(&delivered))
            .with("published_per_s", shown(&each(|seen| seen.per_s)))
            .with("others_percent", rounded(usage.others_percent)),
    );
    report.add(Figure::new("events.post_p99", median(&each(|seen| seen.p99_ms)), "ms"));
    report.add(
        Figure::new("events.cpu", usage.total_us_per(deliveries), "µs/delivery").with("each", usage.us_per(deliveries)),
    );
    Ok(())
}

fn round(site: &Site<'_>, sink: &Sink, length: Duration) -> Result<(f64, Seen)> {
    std::thread::scope(|scope| {
        let clients = scope.spawn(|| site.load("/api/v1/events", event(0), None, length));
        pause(Duration::from_millis(500))?;
        let (started, before) = (Instant::now(), sink.requests());
        pause(length - Duration::from_millis(1000))?;
        let per_s = (sink.requests() - before) as f64 / started.elapsed().as_secs_f64();
        Ok((per_s, clients.join().ok().context("the load panicked")??))
    })
}
