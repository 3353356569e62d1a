use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::{Map, Value};

use super::drain::{self, JOBS};
use super::latency::{self, PER_S, paced};
use super::{ROUNDS, round_length, shown};
use crate::bench::Options;
use crate::bench::connection::Connection;
use crate::bench::cpu::Usage;
use crate::bench::figure::{Figure, Target, rounded};
use crate::bench::load::{CONNECTIONS, Seen};
use crate::bench::memory;
use crate::bench::peers::{Front, Peers, number, told};
use crate::bench::report::Report;
use crate::bench::site::{Ground, Site, echo_job, pause};
use crate::bench::statistics::{median, percentile};

const WARM_UP: Duration = Duration::from_secs(2);
const LIMIT: Duration = Duration::from_secs(300);
const STOP_LIMIT: Duration = Duration::from_secs(10);
/// Jobs at once in BullMQ's worker.
const CONCURRENCY: &str = "200";

/// The same loads on what a team would pick instead, by turns within the same minutes: machines drift, and the ratio of
/// two medians stays.
pub fn run(ground: &Ground, options: &Options, report: &mut Report) -> Result<()> {
    let Some(peers) = Peers::install(ground)? else { return Ok(()) };
    report.common("peers", peers.version.as_str());
    submit(ground, &peers, options.length, report)?;
    drain(ground, &peers, report)?;
    latency(ground, &peers, options.length, report)
}

/// `POST /jobs` of one process, from 64 connections, with the same bodies.
fn submit(ground: &Ground, peers: &Peers<'_>, length: Duration, report: &mut Report) -> Result<()> {
    let site = Site::open(ground)?;
    let (plain, storing) = (peers.front(false)?, peers.front(true)?);
    site.submit(None, WARM_UP)?;
    for front in [&plain, &storing] {
        ground.load(&front.load, WARM_UP)?;
    }
    let length = round_length(length);
    let (mut ours, mut without, mut with) = (Side::default(), Side::default(), Side::default());
    for _ in 0..ROUNDS {
        let meter = site.meter();
        let seen = site.submit(None, length)?;
        ours.add_load(seen, &meter.stop());
        without.add_load_on(peers, ground, &plain, length)?;
        with.add_load_on(peers, ground, &storing, length)?;
    }
    let figure = |name: &str, theirs: &Side, target: f64| {
        Side::ratio(name, "per_s", &ours, theirs).target(Target::AtLeast(target)).with("connections", CONNECTIONS)
    };
    report.add(figure("peers.submit.ratio_fastify_bullmq", &without, 1.0));
    report.add(figure("peers.submit.ratio_fastify_bullmq_insert", &with, 4.0));
    Ok(())
}

/// A backlog worked off by one process.
fn drain(ground: &Ground, peers: &Peers<'_>, report: &mut Report) -> Result<()> {
    let mut site = Site::open(ground)?;
    let (mut ours, mut theirs) = (Side::default(), Side::default());
    for _ in 0..ROUNDS {
        site.submit_batches(&site.key, JOBS)?;
        pause(Duration::from_secs(1))?;
        let (drained, usage) = drain::work_off(&mut site)?;
        ours.add(drained.per_s, &usage, drained.jobs);

        peers.flush()?;
        let count = JOBS.to_string();
        let filler = peers.start("drain", &["fill", &count], &[])?;
        told(&filler, "added", LIMIT)?;
        filler.stop(STOP_LIMIT)?;
        pause(Duration::from_secs(1))?;
        let worker = peers.start("drain", &["work", &count, CONCURRENCY], &[])?;
        let meter = peers.meter("worker", &worker, false);
        let done = told(&worker, "done", LIMIT)?;
        theirs.add((JOBS - 1) as f64 * 1000.0 / number(&done, "ms")?, &meter.stop(), JOBS as f64);
        theirs.note_memory(worker.pid());
        worker.stop(STOP_LIMIT)?;
    }
    let figure = Side::ratio("peers.drain.ratio_bullmq", "per_s", &ours, &theirs);
    report.add(figure.target(Target::AtLeast(2.0)).with("jobs", JOBS).with("their_concurrency", CONCURRENCY));
    Ok(())
}

/// From `POST /jobs`, over HTTP and committed to disk, to the start of the job; beside it from BullMQ's `add`, in a
/// process of its own, to the start.
fn latency(ground: &Ground, peers: &Peers<'_>, length: Duration, report: &mut Report) -> Result<()> {
    let mut site = Site::open(ground)?;
    site.start_ready_worker()?;
    let mut connection = Connection::open(&site.address, &site.key)?;
    paced(WARM_UP / 2, PER_S, || connection.post("/api/v1/jobs", &echo_job()).map(drop))?;
    let (mut ours, mut theirs) = ([Side::default(), Side::default()], [Side::default(), Side::default()]);
    let length = round_length(length);
    for _ in 0..ROUNDS {
        let seen = latency::Seen::take(&mut site, length)?;
        let jobs = seen.starts_ms.len() as f64;
        for (side, percent) in ours.iter_mut().zip([50.0, 99.0]) {
            side.add(percentile(&seen.starts_ms, percent), &seen.usage, jobs);
        }

        peers.flush()?;
        let (warm_up, jobs) = (PER_S, PER_S * length.as_secs_f64());
        let count = (warm_up + jobs).to_string();
        let worker = peers.start("latency", &["work", &count, &warm_up.to_string()], &[])?;
        told(&worker, "ready", STOP_LIMIT)?;
        let meter = peers.meter("worker", &worker, false);
        let adder = peers.start("latency", &["add", &count, &PER_S.to_string()], &[])?;
        let line = told(&worker, "p50_ms", length + LIMIT)?;
        let usage = meter.stop();
        ensure!(number(&line, "jobs")? == jobs, "BullMQ started other jobs than were added: {line}");
        for (side, name) in theirs.iter_mut().zip(["p50_ms", "p99_ms"]) {
            side.add(number(&line, name)?, &usage, warm_up + jobs);
        }
        adder.stop(STOP_LIMIT)?;
        worker.stop(STOP_LIMIT)?;
    }
    for (name, (ours, theirs)) in ["p50", "p99"].into_iter().zip(ours.iter().zip(&theirs)) {
        let figure = Side::ratio(&format!("peers.latency.{name}_ratio_bullmq"), "ms", ours, theirs);
        report.add(figure.with("per_s", PER_S).with("theirs_is", "add to start, without HTTP and without a commit"));
    }
    Ok(())
}

/// The rounds of one side.
#[derive(Default)]
struct Side {
    values: Vec<f64>,
    p99_ms: Vec<f64>,
    cpu_us: Vec<f64>,
    cpu_each: Vec<Map<String, Value>>,
    others_percent: Vec<f64>,
    memory_mb: Vec<f64>,
}

impl Side {
    fn add(&mut self, value: f64, usage: &Usage, jobs: f64) {
        self.values.push(value);
        self.cpu_us.push(usage.total_us_per(jobs));
        self.cpu_each.push(usage.us_per(jobs));
        self.others_percent.push(usage.others_percent);
    }

    fn add_load(&mut self, seen: Seen, usage: &Usage) {
        self.add(seen.per_s, usage, seen.requests);
        self.p99_ms.push(seen.p99_ms);
    }

    fn add_load_on(&mut self, peers: &Peers<'_>, ground: &Ground, front: &Front<'_>, length: Duration) -> Result<()> {
        peers.flush()?;
        let meter = front.meter();
        let seen = ground.load(&front.load, length)?;
        self.add_load(seen, &meter.stop());
        self.note_memory(front.process.pid());
        Ok(())
    }

    fn note_memory(&mut self, pid: u32) {
        self.memory_mb.extend(memory::resident(pid).map(|resident| resident.peak_mb));
    }

    /// The median of ours in medians of theirs, and both sides in full.
    fn ratio(name: &str, unit: &str, ours: &Self, theirs: &Self) -> Figure {
        let mut figure = Figure::new(name, median(&ours.values) / median(&theirs.values), "×");
        for (whose, side) in [("ours", ours), ("theirs", theirs)] {
            figure = figure
                .with(&format!("{whose}_{unit}"), rounded(median(&side.values)))
                .with(&format!("{whose}_rounds"), shown(&side.values))
                .with(&format!("{whose}_cpu_us"), rounded(median(&side.cpu_us)))
                .with(&format!("{whose}_cpu_each"), side.typical_cpu())
                .with(&format!("{whose}_others_percent"), shown(&side.others_percent));
            if !side.p99_ms.is_empty() {
                figure = figure.with(&format!("{whose}_p99_ms"), rounded(median(&side.p99_ms)));
            }
            if !side.memory_mb.is_empty() {
                figure = figure.with(&format!("{whose}_memory_mb"), rounded(percentile(&side.memory_mb, 100.0)));
            }
        }
        figure
    }

    /// Of the round in the middle.
    fn typical_cpu(&self) -> Map<String, Value> {
        let middle = self.cpu_us.iter().position(|total| *total == median(&self.cpu_us));
        middle.and_then(|round| self.cpu_each.get(round).cloned()).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ratio_is_that_of_the_medians() {
        let side = |values: [f64; 3]| Side { values: values.to_vec(), ..Side::default() };
        let figure = Side::ratio("x", "per_s", &side([900.0, 100.0, 200.0]), &side([50.0, 10.0, 400.0]));
        assert_eq!(
            (figure.value, &figure.with["ours_per_s"], &figure.with["theirs_per_s"]),
            (4.0, &200.0.into(), &50.0.into())
        );
        assert_eq!(figure.with["theirs_rounds"], serde_json::json!([50.0, 10.0, 400.0]));
    }
}
