//! Clients that submit while things break, and write down what they were told before they believe it.
//!
//! Their pace is bounded, and a careful one goes on with the same idempotency key until it is told.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::random::Random;
use super::record::{self, Record};
use super::recorder;
use super::site::Site;
use crate::http::{self, Request};
use crate::wait;

/// Longer than an API takes to give up a request, shorter than it may hang.
const PATIENCE: Duration = Duration::from_secs(12);
/// How long a careful client goes on asking after the load has ended.
const RECONCILE: Duration = Duration::from_secs(120);
const RETRY_PAUSE: Duration = Duration::from_millis(250);
/// Between two submissions of one client, in milliseconds.
const PACE_MS: (u64, u64) = (80, 160);
const FILES: &str = "client-";

/// What a client does over and over.
#[derive(Debug, Clone, Copy)]
enum Habit {
    /// One job, no key: when there is no answer it never knows.
    Plain,
    /// One job with an idempotency key.
    Careful,
    /// The same with one of a few unique keys.
    Unique,
    /// A job for later, cancelled before or after its time.
    Cancelling,
    /// Many jobs of all priorities at once, for the queue with few slots.
    Batches,
}

const HABITS: [Habit; 7] =
    [Habit::Plain, Habit::Plain, Habit::Careful, Habit::Careful, Habit::Unique, Habit::Cancelling, Habit::Batches];

/// All clients. They stop when told, or dropped.
pub struct Clients {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<Result<()>>>,
}

impl Clients {
    pub fn start(site: &Site, seed: u64) -> Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let mut clients = Self { stop: stop.clone(), threads: Vec::new() };
        for (number, habit) in HABITS.into_iter().enumerate() {
            let client = Client {
                habit,
                number,
                submitted: 0,
                apis: site.to_api.iter().map(|(_, wire)| format!("http://127.0.0.1:{}/api/v1", wire.port)).collect(),
                next_api: number,
                key: site.key.clone(),
                recorder: site.to_recorder.port,
                record: Record::synced(&site.folder().join(format!("{FILES}{number}")))?,
                random: Random::seeded(seed).split(100 + number as u64),
                stop: stop.clone(),
            };
            clients.threads.push(thread::spawn(move || client.run()));
        }
        Ok(clients)
    }

    /// Ends the load, and waits until every careful client knows.
    pub fn stop(mut self) -> Result<()> {
        self.stop.store(true, Ordering::SeqCst);
        for thread in self.threads.drain(..) {
            thread.join().ok().context("a client panicked")??;
        }
        Ok(())
    }
}

impl Drop for Clients {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
    }
}

/// What clients were told, one entry a line of their records: time and words.
pub fn told(folder: &Path) -> Result<Vec<(f64, Vec<String>)>> {
    let mut told = Vec::new();
    for entry in fs::read_dir(folder)?.flatten() {
        if entry.file_name().to_string_lossy().starts_with(FILES) {
            told.extend(record::read(&entry.path())?);
        }
    }
    told.sort_by(|a, b| a.0.total_cmp(&b.0));
    Ok(told)
}

/// Ids of the jobs that were accepted until now.
pub fn accepted(folder: &Path) -> Result<Vec<String>> {
    let accepted = told(folder)?.into_iter().filter(|(_, words)| words.first().is_some_and(|word| word == "accepted"));
    Ok(accepted.filter_map(|(_, words)| words.into_iter().nth(1)).collect())
}

struct Client {
    habit: Habit,
    number: usize,
    submitted: u64,
    apis: Vec<String>,
    next_api: usize,
    /// Its API key.
    key: String,
    recorder: u16,
    record: Record,
    random: Random,
    stop: Arc<AtomicBool>,
}

/// What a submission came to.
enum Told {
    Accepted(Vec<String>),
    /// Another job has the unique key.
    Clash,
    Unknown,
}

impl Client {
    fn run(mut self) -> Result<()> {
        while !self.stopped() {
            match self.habit {
                Habit::Plain => self.plain()?,
                Habit::Careful => self.careful(None)?,
                Habit::Unique => {
                    let unique = format!("unique-{}", self.random.between(1, 8));
                    self.careful(Some(unique))?;
                }
                Habit::Cancelling => self.cancelling()?,
                Habit::Batches => self.batch()?,
            }
        }
        Ok(())
    }

    fn plain(&mut self) -> Result<()> {
        let name = self.name();
        let job = self.job(&name);
        let (status, answer) = self.post("/jobs", Some(&job), None);
        let told = self.judge(&name, status, answer.as_ref())?.unwrap_or(Told::Unknown);
        self.note(&told, &[(&name, &job)])?;
        self.pace();
        Ok(())
    }

    fn careful(&mut self, unique: Option<String>) -> Result<()> {
        let name = self.name();
        let mut job = self.job(&name);
        if let Some(unique) = unique {
            job["unique_key"] = unique.into();
        }
        let told = self.until_told("/jobs", &job, &name)?;
        self.note(&told, &[(&name, &job)])?;
        self.pace();
        Ok(())
    }

    fn cancelling(&mut self) -> Result<()> {
        let name = self.name();
        let mut job = self.job(&name);
        job["delay_s"] = self.random.between(1, 3).into();
        let told = self.until_told("/jobs", &job, &name)?;
        self.note(&told, &[(&name, &job)])?;
        let Told::Accepted(ids) = told else { return Ok(()) };
        let pause = Duration::from_millis(self.random.between(0, 3_500));
        self.rest(pause);
        let Some(id) = ids.first() else { return Ok(()) };
        let (status, answer) = self.post(&format!("/jobs/{id}/cancel"), None, None);
        let state = answer.as_ref().and_then(|answer| answer["data"]["state"].as_str());
        if status == 202 && state == Some("cancelled") {
            self.record.add(&format!("cancelled {id}"))?;
        }
        Ok(())
    }

    fn batch(&mut self) -> Result<()> {
        let names: Vec<String> = (0..24).map(|_| self.name()).collect();
        let jobs: Vec<Value> = names
            .iter()
            .map(|name| {
                let hold = Duration::from_millis(self.random.between(100, 300));
                let mut job = self.call(name, hold, 0);
                job["queue"] = "exports".into();
                job["priority"] = self.random.between(0, 9).into();
                job
            })
            .collect();
        let told = self.until_told("/jobs/batch", &json!({"jobs": jobs}), &names[0])?;
        let submitted: Vec<(&str, &Value)> = names.iter().map(String::as_str).zip(&jobs).collect();
        self.note(&told, &submitted)?;
        let pause = Duration::from_millis(self.random.between(2_000, 4_000));
        self.rest(pause);
        Ok(())
    }

    /// A job of any kind: at once or later, quick or slow, done or failed at first.
    fn job(&mut self, name: &str) -> Value {
        let mut job = if self.random.one_in(2) {
            json!({"kind": "echo", "payload": {"name": name}, "tags": [name]})
        } else {
            let hold =
                if self.random.one_in(10) { self.random.between(1_000, 4_000) } else { self.random.between(0, 200) };
            let fails = u64::from(self.random.one_in(10));
            self.call(name, Duration::from_millis(hold), fails)
        };
        if self.random.one_in(5) {
            job["delay_s"] = self.random.between(1, 6).into();
        }
        job["priority"] = self.random.between(0, 9).into();
        job
    }

    fn call(&self, name: &str, hold: Duration, fails: u64) -> Value {
        let url = format!("http://127.0.0.1:{}{}", self.recorder, recorder::path(name, hold, fails));
        json!({
            "kind": "http.request", "payload": {"url": url, "method": "POST"}, "tags": [name],
            "timeout_ms": 15_000, "max_attempts": 50,
        })
    }

    /// Asks with one idempotency key until it is told.
    fn until_told(&mut self, path: &str, body: &Value, key: &str) -> Result<Told> {
        let mut give_up = None;
        loop {
            let (status, answer) = self.post(path, Some(body), Some(key));
            if let Some(told) = self.judge(key, status, answer.as_ref())? {
                return Ok(told);
            }
            if self.stopped() && *give_up.get_or_insert_with(|| Instant::now() + RECONCILE) < Instant::now() {
                return Ok(Told::Unknown);
            }
            thread::sleep(RETRY_PAUSE);
        }
    }

    /// None when it is worth asking again.
    fn judge(&self, name: &str, status: u16, answer: Option<&Value>) -> Result<Option<Told>> {
        let code = answer.and_then(|answer| answer["code"].as_str()).unwrap_or("-");
        if status != 202 {
            self.record.add(&format!("answer {status} {code} {name}"))?;
        }
        Ok(match (status, answer) {
            (202, Some(answer)) => {
                let data = &answer["data"];
                let jobs = data.as_array().map_or_else(|| std::slice::from_ref(data), Vec::as_slice);
                Some(Told::Accepted(jobs.iter().filter_map(|job| Some(job["id"].as_str()?.to_owned())).collect()))
            }
            (409, _) if code == "job_not_unique" => Some(Told::Clash),
            _ => None,
        })
    }

    /// In the record before it counts.
    fn note(&self, told: &Told, jobs: &[(&str, &Value)]) -> Result<()> {
        match told {
            Told::Accepted(ids) => {
                for (id, (name, job)) in ids.iter().zip(jobs) {
                    let unique = job["unique_key"].as_str().unwrap_or("-");
                    self.record.add(&format!("accepted {id} {name} {unique}"))?;
                }
                if ids.len() != jobs.len() {
                    self.record.add(&format!("answer 202 {}_ids_for_{}_jobs -", ids.len(), jobs.len()))?;
                }
            }
            Told::Clash => self.record.add(&format!("clash {}", jobs[0].0))?,
            Told::Unknown => {
                for (name, _) in jobs {
                    self.record.add(&format!("unknown {name}"))?;
                }
            }
        }
        Ok(())
    }

    /// Status 0 is no answer. The APIs take turns, as behind a load balancer.
    fn post(&mut self, path: &str, body: Option<&Value>, key: Option<&str>) -> (u16, Option<Value>) {
        let api = &self.apis[self.next_api % self.apis.len()];
        self.next_api += 1;
        let mut request = Request::new("POST", &format!("{api}{path}")).bearer(&self.key).timeout(PATIENCE);
        if let Some(body) = body {
            request = request.json(body);
        }
        if let Some(key) = key {
            request = request.header("idempotency-key", key);
        }
        let answer: Result<http::Response> = request.send();
        answer.map_or((0, None), |answer| (answer.status, answer.json().ok()))
    }

    fn name(&mut self) -> String {
        self.submitted += 1;
        format!("{}-{}", self.number, self.submitted)
    }

    fn pace(&mut self) {
        let pause = Duration::from_millis(self.random.between(PACE_MS.0, PACE_MS.1));
        self.rest(pause);
    }

    fn rest(&self, pause: Duration) {
        wait::at_most(pause, || self.stopped().then_some(()));
    }

    fn stopped(&self) -> bool {
        self.stop.load(Ordering::SeqCst)
    }
}
