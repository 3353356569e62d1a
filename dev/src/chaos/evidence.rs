//! Everything the checker looks at, read once the load is over.

use std::collections::HashMap;

use anyhow::Result;

use super::ledger::{self, Attempt, Row};
use super::nemesis::Struck;
use super::site::Site;
use super::{clients, record};

/// What clients were told, what the ledger says, and what was done outside it. Times are this machine's uptime.
#[derive(Debug, Default)]
pub struct Evidence {
    pub accepted: Vec<Accepted>,
    /// Confirmed cancellations: when, and of which job.
    pub cancelled: Vec<(f64, String)>,
    /// Answers that were no 202: status, code, and how many.
    pub answers: HashMap<(u16, String), usize>,
    /// Submissions of which nobody ever knew.
    pub unknown: usize,
    pub clashes: usize,
    pub rows: Vec<Row>,
    pub attempts: Vec<Attempt>,
    /// Handlers that started and that ended, in the order of their times.
    pub started: Vec<Run>,
    pub ended: Vec<Run>,
    /// Calls that the third party answered: what its caller calls it, and its number.
    pub calls: Vec<(String, u64)>,
    pub strokes: Vec<Struck>,
    /// Last words of processes that ended though nothing had been done to them.
    pub deaths: Vec<String>,
}

/// A job whose client was told that it is kept.
#[derive(Debug, Clone, Default)]
pub struct Accepted {
    pub at: f64,
    pub id: String,
    pub unique: Option<String>,
}

/// One run of a handler, at its start or its end.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Run {
    pub at: f64,
    pub job: String,
    pub attempt: u32,
    pub worker: String,
    /// At its end: `done`, `retry`, `fail`, `cancelled`, `snooze`.
    pub how: String,
}

impl Run {
    /// What the ledger's fence compares.
    pub fn fence(&self) -> (&str, u32, &str) {
        (&self.job, self.attempt, &self.worker)
    }
}

impl Evidence {
    pub fn read(site: &Site, strokes: Vec<Struck>, deaths: Vec<String>) -> Result<Self> {
        let (rows, attempts) = ledger::read(site)?;
        let mut evidence = Self { rows, attempts, strokes, deaths, ..Self::default() };
        for (at, words) in clients::told(site.folder())? {
            evidence.take_told(at, &words.iter().map(String::as_str).collect::<Vec<_>>());
        }
        for (at, words) in record::read(&site.journal())? {
            evidence.take_run(at, &words.iter().map(String::as_str).collect::<Vec<_>>());
        }
        for (_, words) in record::read(&site.recorder())? {
            if let [what, name, call, "200"] = words.iter().map(String::as_str).collect::<Vec<_>>()[..]
                && what == "end"
            {
                evidence.calls.extend(call.parse().ok().map(|call| (name.to_owned(), call)));
            }
        }
        evidence.started.sort_by(|a, b| a.at.total_cmp(&b.at));
        evidence.ended.sort_by(|a, b| a.at.total_cmp(&b.at));
        Ok(evidence)
    }

    fn take_told(&mut self, at: f64, words: &[&str]) {
        match *words {
            ["accepted", id, _, unique] => {
                let unique = (unique != "-").then(|| unique.to_owned());
                self.accepted.push(Accepted { at, id: id.to_owned(), unique });
            }
            ["cancelled", id] => self.cancelled.push((at, id.to_owned())),
            ["answer", status, code, _] => {
                let answer = (status.parse().unwrap_or(0), code.to_owned());
                *self.answers.entry(answer).or_default() += 1;
            }
            ["unknown", _] => self.unknown += 1,
            ["clash", _] => self.clashes += 1,
            _ => {}
        }
    }

    fn take_run(&mut self, at: f64, words: &[&str]) {
        let [what, job, attempt, worker, how] = *words else { return };
        let run = Run {
            at,
            job: job.to_owned(),
            attempt: attempt.parse().unwrap_or(0),
            worker: worker.to_owned(),
            how: how.to_owned(),
        };
        match what {
            "started" => self.started.push(run),
            "ended" => self.ended.push(run),
            _ => {}
        }
    }
}
