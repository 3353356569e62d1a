use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::{Client, SOON, echo, wait_for};

/// Between two submissions of one thread.
const PACE: Duration = Duration::from_millis(10);
const THREADS: usize = 3;

/// Submissions that go on while things break.
pub struct Load {
    stop: Arc<AtomicBool>,
    answers: Arc<Mutex<Vec<Answer>>>,
    count: Arc<AtomicUsize>,
    threads: Vec<JoinHandle<()>>,
}

/// What one submission was answered.
#[derive(Debug, Clone)]
pub struct Answer {
    /// 0 without an answer.
    pub status: u16,
    pub retry_after: Option<String>,
    /// The job's id, or what came instead.
    pub body: String,
    pub began: Instant,
    pub took: Duration,
}

impl Load {
    /// Submits `echo` jobs with `tag` until told to stop.
    pub fn start(client: &Client, tag: &str) -> Self {
        Self::of(client, &echo(tag))
    }

    /// The same with any job.
    pub fn of(client: &Client, job: &Value) -> Self {
        let mut load =
            Self { stop: Arc::default(), answers: Arc::default(), count: Arc::default(), threads: Vec::new() };
        for _ in 0..THREADS {
            let (client, job) = (client.clone(), job.clone());
            let (stop, answers, count) = (load.stop.clone(), load.answers.clone(), load.count.clone());
            load.threads.push(thread::spawn(move || {
                while !stop.load(Ordering::SeqCst) {
                    let answer = submit(&client, &job);
                    answers.lock().unwrap_or_else(PoisonError::into_inner).push(answer);
                    count.fetch_add(1, Ordering::SeqCst);
                    thread::sleep(PACE);
                }
            }));
        }
        load
    }

    /// Waits until `more` further submissions have been answered.
    pub fn go_on_for(&self, more: usize) {
        let enough = self.count.load(Ordering::SeqCst) + more;
        wait_for("answers to the load", SOON, || self.count.load(Ordering::SeqCst) >= enough);
    }

    /// Answers to submissions that began after `moment`.
    pub fn answers_since(&self, moment: Instant) -> Vec<Answer> {
        let answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        answers.iter().filter(|answer| answer.began >= moment).cloned().collect()
    }

    /// Ends it; every answer there was.
    pub fn stop(mut self) -> Vec<Answer> {
        self.stop.store(true, Ordering::SeqCst);
        for thread in self.threads.drain(..) {
            thread.join().unwrap();
        }
        self.answers.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
    }
}

fn submit(client: &Client, job: &Value) -> Answer {
    let began = Instant::now();
    let answer = client.try_submit(job, None);
    let took = began.elapsed();
    match answer {
        Ok(answer) => {
            let retry_after = answer.header("retry-after").map(str::to_owned);
            let id = answer.json().ok().and_then(|body| Some(body["data"]["id"].as_str()?.to_owned()));
            Answer { status: answer.status, retry_after, body: id.unwrap_or_else(|| answer.text()), began, took }
        }
        Err(error) => Answer { status: 0, retry_after: None, body: format!("{error:#}"), began, took },
    }
}
