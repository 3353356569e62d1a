use std::collections::HashMap;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::bench::Options;
use crate::bench::connection::Connection;
use crate::bench::cpu::{self, Usage};
use crate::bench::figure::{Figure, Target, rounded};
use crate::bench::report::Report;
use crate::bench::sink::now_ns;
use crate::bench::site::{Ground, Site, echo_job};
use crate::bench::statistics::percentile;
use crate::bench::tenant;
use crate::services::psql::Psql;
use crate::{interrupt, secret, wait};

pub const PER_S: f64 = 50.0;
const WARM_UP: Duration = Duration::from_secs(1);

/// How soon a job starts when there is little to do.
pub fn run(ground: &Ground, options: &Options, report: &mut Report) -> Result<()> {
    let mut site = Site::open(ground)?;
    site.start_ready_worker()?;
    let mut connection = Connection::open(&site.address, &site.key)?;
    paced(WARM_UP, PER_S, || connection.post("/api/v1/jobs", &echo_job()).map(drop))?;

    let seen = Seen::take(&mut site, options.length)?;
    let (starts_ms, jobs) = (&seen.starts_ms, seen.starts_ms.len());
    report.add(
        Figure::new("latency.start_p50", percentile(starts_ms, 50.0), "ms")
            .target(Target::AtMost(2.5))
            .with("jobs", jobs)
            .with("per_s", PER_S)
            .with("others_percent", rounded(seen.usage.others_percent)),
    );
    report.add(
        Figure::new("latency.start_p99", percentile(starts_ms, 99.0), "ms")
            .target(Target::AtMost(7.0))
            .with("max_ms", rounded(percentile(starts_ms, 100.0))),
    );
    report.add(
        Figure::new("latency.done_p50", percentile(&seen.ends_ms, 50.0), "ms")
            .with("p99_ms", rounded(percentile(&seen.ends_ms, 99.0))),
    );
    report.add(
        Figure::new("latency.answer_p50", percentile(&seen.answers_ms, 50.0), "ms")
            .with("p99_ms", rounded(percentile(&seen.answers_ms, 99.0))),
    );
    report.add(cpu::figure("latency.cpu", &[seen.usage], jobs as f64));
    Ok(())
}

/// What became of jobs that one client submitted some [`PER_S`] times a second.
pub struct Seen {
    /// From the moment before the request to the start of the job.
    pub starts_ms: Vec<f64>,
    /// To its end.
    pub ends_ms: Vec<f64>,
    pub answers_ms: Vec<f64>,
    pub usage: Usage,
}

impl Seen {
    /// `started_at` is the database's time at the beginning of the claim, a moment before the handler runs;
    /// `finished_at` that at the beginning of the completion, a moment after it ran. Both clocks are this machine's.
    pub fn take(site: &mut Site<'_>, length: Duration) -> Result<Self> {
        let mut client = Client::open(site, &site.key)?;
        let meter = site.meter();
        paced(length, PER_S, || client.submit(&echo_job()))?;
        site.wait_until_idle(Duration::from_secs(30))?;
        let usage = meter.stop();
        let Times { starts_ms, ends_ms } = client.times(&mut site.psql)?;
        Ok(Self { starts_ms, ends_ms, answers_ms: client.answers_ms, usage })
    }
}

/// Submits jobs one by one, and remembers when.
pub struct Client {
    connection: Connection,
    tenant: String,
    sent_at: HashMap<String, f64>,
    pub answers_ms: Vec<f64>,
}

/// Milliseconds from the moment before a job was submitted.
pub struct Times {
    pub starts_ms: Vec<f64>,
    pub ends_ms: Vec<f64>,
}

impl Client {
    pub fn open(site: &Site<'_>, key: &str) -> Result<Self> {
        Ok(Self {
            connection: Connection::open(&site.address, key)?,
            tenant: tenant::of(key),
            sent_at: HashMap::new(),
            answers_ms: Vec::new(),
        })
    }

    pub fn submit(&mut self, job: &str) -> Result<()> {
        let (sent_ns, sent) = (now_ns(), Instant::now());
        let answer = self.connection.post("/api/v1/jobs", job)?;
        self.answers_ms.push(sent.elapsed().as_secs_f64() * 1000.0);
        let answer: Value = serde_json::from_slice(&answer)?;
        let id = answer["data"]["id"].as_str().context("the answer names no job")?;
        self.sent_at.insert(id.to_owned(), sent_ns as f64 / 1e6);
        Ok(())
    }

    pub fn wait_until_ended(&self, psql: &mut Psql, limit: Duration) -> Result<()> {
        let ids: Vec<String> = self.sent_at.keys().map(|id| format!("'{id}'")).collect();
        let count = format!(
            "select count(*) from job_outcomes where tenant_id = ({}) and id = any (array [{}]::uuid[]);",
            self.tenant,
            ids.join(", ")
        );
        wait::until("the end of all jobs", limit, || Ok((psql.numbers(&count)? == [ids.len() as f64]).then_some(())))
    }

    /// Of all its jobs, which must have ended.
    pub fn times(&self, psql: &mut Psql) -> Result<Times> {
        let rows = psql.rows(&format!(
            "select id, extract(epoch from started_at) * 1000, extract(epoch from finished_at) * 1000 from job_outcomes
              where tenant_id = ({});",
            self.tenant
        ))?;
        let mut times = Times { starts_ms: Vec::new(), ends_ms: Vec::new() };
        for row in &rows {
            let [id, started, finished] = row.as_slice() else { continue };
            let Some(sent_ms) = self.sent_at.get(id) else { continue };
            times.starts_ms.push(started.parse::<f64>()? - sent_ms);
            times.ends_ms.push(finished.parse::<f64>()? - sent_ms);
        }
        let (ended, sent) = (times.starts_ms.len(), self.sent_at.len());
        ensure!(ended == sent, "{ended} of {sent} jobs have an outcome");
        Ok(times)
    }
}

/// Does `work` some `per_s` times a second for `length`, at uneven moments, so that it does not keep step with timers of
/// what is measured.
pub fn paced(length: Duration, per_s: f64, mut work: impl FnMut() -> Result<()>) -> Result<()> {
    let started = Instant::now();
    let mut next = started;
    while next.duration_since(started) < length {
        interrupt::check()?;
        std::thread::sleep(next.saturating_duration_since(Instant::now()));
        work()?;
        let [random] = secret::random::<1>()?;
        next += Duration::from_secs_f64((0.5 + f64::from(random) / 255.0) / per_s);
    }
    Ok(())
}
