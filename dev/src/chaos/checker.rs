//! From evidence to a verdict: which promises were broken, and by what.

use std::collections::{HashMap, HashSet};

use super::evidence::{Accepted, Evidence, Run};
use super::ledger::Row;
use super::plan::Fault;

/// Times are read from clocks that tick in hundredths of a second.
const TICK: f64 = 0.05;

/// A promise, and what broke it.
#[derive(Debug)]
pub struct Promise {
    pub name: &'static str,
    pub broken: Vec<String>,
}

/// All promises, in the order in which they are reported.
pub fn check(evidence: &Evidence) -> Vec<Promise> {
    let facts = Facts::new(evidence);
    let promise = |name, broken| Promise { name, broken };
    vec![
        promise("accepted and never ended", facts.never_ended()),
        promise("ended twice", facts.ended_twice()),
        promise("made twice by one idempotency key", facts.made_twice()),
        promise("late results of lost attempts accepted", facts.late()),
        promise("succeeded without a handler or its effect", facts.without_effect()),
        promise("cancelled yet run", facts.cancelled_yet_run()),
        promise("two alive with one unique key", facts.two_alive()),
        promise("answers outside the contract", facts.strange_answers()),
        promise("processes that gave up", evidence.deaths.clone()),
    ]
}

struct Facts<'a> {
    evidence: &'a Evidence,
    by_id: HashMap<&'a str, &'a Row>,
}

impl<'a> Facts<'a> {
    fn new(evidence: &'a Evidence) -> Self {
        Self { evidence, by_id: evidence.rows.iter().map(|row| (row.id.as_str(), row)).collect() }
    }

    fn never_ended(&self) -> Vec<String> {
        let lost = |Accepted { id, at, .. }: &Accepted| match self.by_id.get(id.as_str()) {
            None => Some(format!("{id}: accepted at {at:.2}, not in the ledger")),
            Some(row) if row.ends == 0 => {
                let live = if row.live { "waits or runs" } else { "is neither alive nor ended" };
                Some(format!("{id} ({}, {}): accepted at {at:.2}, {live}", row.kind, row.queue))
            }
            Some(_) => None,
        };
        self.evidence.accepted.iter().filter_map(lost).collect()
    }

    fn ended_twice(&self) -> Vec<String> {
        let rows = self.evidence.rows.iter().filter(|row| row.ends > 1 || (row.ends == 1 && row.live));
        let mut broken: Vec<String> = rows
            .map(|row| format!("{}: {} ends, {}", row.id, row.ends, if row.live { "and alive" } else { "over" }))
            .collect();
        broken.extend(self.done_twice());
        broken
    }

    /// Two completions of one attempt by one worker. A claim is not waited for to reach the disk: when PostgreSQL crashed
    /// in between, it may have forgotten it, and the same worker may claim the same attempt again.
    fn done_twice(&self) -> impl Iterator<Item = String> {
        let mut seen: HashMap<_, f64> = HashMap::new();
        let done = self.evidence.ended.iter().filter(|run| run.how == "done");
        done.filter_map(move |run| {
            let first = seen.insert(run.fence(), run.at)?;
            (!self.crashed_between(first - 60.0, run.at))
                .then(|| format!("{}: attempt {} of worker {} was done twice", run.job, run.attempt, run.worker))
        })
    }

    fn crashed_between(&self, from: f64, to: f64) -> bool {
        let crashes = [Fault::PostgresKill, Fault::PowerCut, Fault::DiskFull];
        self.evidence
            .strokes
            .iter()
            .any(|stroke| crashes.contains(&stroke.fault) && stroke.at <= to && stroke.over >= from)
    }

    fn made_twice(&self) -> Vec<String> {
        let mut by_name: HashMap<&str, Vec<&str>> = HashMap::new();
        for row in &self.evidence.rows {
            by_name.entry(&row.name).or_default().push(&row.id);
        }
        let twice = by_name.into_iter().filter(|(_, ids)| ids.len() > 1);
        twice.map(|(name, ids)| format!("{name}: {}", ids.join(", "))).collect()
    }

    /// An attempt that was taken back, or was followed by another, must not be the one that ended the job. What ends without a
    /// worker was cancelled while it waited.
    fn late(&self) -> Vec<String> {
        let attempts = self.evidence.attempts.iter().filter_map(|attempt| {
            let row = self.by_id.get(attempt.job.as_str()).filter(|row| row.ends > 0 && row.worker != "-")?;
            (row.attempt <= attempt.attempt).then(|| {
                let (n, ended) = (attempt.attempt, &attempt.ended);
                format!("{}: ended by attempt {} although attempt {n} was over ({ended})", row.id, row.attempt)
            })
        });
        attempts.collect()
    }

    fn without_effect(&self) -> Vec<String> {
        let done = self.evidence.ended.iter().filter(|run| run.how == "done").map(Run::fence);
        let done: HashSet<_> = done.collect();
        let calls: HashSet<(&str, u64)> =
            self.evidence.calls.iter().map(|(name, call)| (name.as_str(), *call)).collect();
        let succeeded = self.evidence.rows.iter().filter(|row| row.state == "succeeded");
        succeeded
            .filter_map(|row| {
                if !done.contains(&(row.id.as_str(), row.attempt, row.worker.as_str())) {
                    return Some(format!(
                        "{}: attempt {} of worker {} is in no journal",
                        row.id, row.attempt, row.worker
                    ));
                }
                let called =
                    row.kind != "http.request" || row.call.is_some_and(|call| calls.contains(&(&*row.name, call)));
                (!called).then(|| format!("{}: its result is of no call that was answered: {:?}", row.id, row.call))
            })
            .collect()
    }

    /// A run whose claim had been taken back before does not count: its worker was held still and does not know yet.
    fn cancelled_yet_run(&self) -> Vec<String> {
        let taken_back = self.evidence.attempts.iter().filter(|attempt| attempt.ended == "lost");
        let taken_back: HashSet<_> = taken_back.map(|a| (a.job.as_str(), a.attempt, a.worker.as_str())).collect();
        let mut starts: HashMap<&str, Vec<&Run>> = HashMap::new();
        for run in self.evidence.started.iter().filter(|run| !taken_back.contains(&run.fence())) {
            starts.entry(&run.job).or_default().push(run);
        }
        let mut broken = Vec::new();
        for (at, id) in &self.evidence.cancelled {
            if let Some(row) = self.by_id.get(id.as_str()).filter(|row| row.state != "cancelled") {
                broken.push(format!("{id}: confirmed as cancelled at {at:.2}, ended as {}", row.state));
            }
            let later = starts.get(id.as_str()).into_iter().flatten().find(|run| run.at > at + TICK);
            broken.extend(later.map(|run| format!("{id}: cancelled at {at:.2}, started at {:.2}", run.at)));
        }
        broken
    }

    fn two_alive(&self) -> Vec<String> {
        let mut by_key: HashMap<&str, Vec<&Accepted>> = HashMap::new();
        for accepted in &self.evidence.accepted {
            if let Some(unique) = &accepted.unique {
                by_key.entry(unique).or_default().push(accepted);
            }
        }
        let mut broken = Vec::new();
        for (key, jobs) in by_key {
            for pair in jobs.windows(2) {
                let ended = self.by_id.get(pair[0].id.as_str()).filter(|row| row.ends > 0).map(|row| row.finished_at);
                if ended.is_some_and(|ended| ended > pair[1].at + TICK) {
                    broken.push(format!("{key}: {} was accepted while {} lived", pair[1].id, pair[0].id));
                }
            }
        }
        broken
    }

    /// A submission is answered 202, or 409 for its key, or 503, or not at all.
    fn strange_answers(&self) -> Vec<String> {
        let fits = |status: u16, code: &str| match status {
            0 | 429 | 503 => true,
            409 => ["job_not_unique", "idempotency_in_progress"].contains(&code),
            _ => false,
        };
        let strange = self.evidence.answers.iter().filter(|((status, code), _)| !fits(*status, code));
        strange.map(|((status, code), count)| format!("{count} times {status} {code}")).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chaos::ledger::Attempt;
    use crate::chaos::nemesis::Struck;

    /// A job that was accepted at 10, ran from 11 to 12, called the third party, and succeeded.
    fn sound() -> Evidence {
        let run = |at, how: &str| Run { at, job: "a".into(), attempt: 1, worker: "w".into(), how: how.into() };
        Evidence {
            accepted: vec![Accepted { at: 10.0, id: "a".into(), unique: Some("u".into()) }],
            rows: vec![Row {
                id: "a".into(),
                name: "1-1".into(),
                kind: "http.request".into(),
                ends: 1,
                state: "succeeded".into(),
                attempt: 1,
                worker: "w".into(),
                finished_at: 12.0,
                call: Some(7),
                ..Row::default()
            }],
            started: vec![run(11.0, "-")],
            ended: vec![run(12.0, "done")],
            calls: vec![("1-1".into(), 7)],
            ..Evidence::default()
        }
    }

    fn broken(evidence: &Evidence) -> Vec<&'static str> {
        check(evidence).into_iter().filter(|promise| !promise.broken.is_empty()).map(|promise| promise.name).collect()
    }

    #[test]
    fn a_sound_run_breaks_no_promise() {
        assert_eq!(broken(&sound()), [""; 0]);
    }

    #[test]
    fn each_promise_is_seen_to_be_broken() {
        let lost = |attempt| Attempt { job: "a".into(), attempt, ended: "lost".into(), worker: "w".into() };
        type Break = fn(&mut Evidence);
        let breaks: [(&str, Break); 13] = [
            ("accepted and never ended", |e| e.accepted.push(Accepted { id: "b".into(), ..Accepted::default() })),
            ("accepted and never ended", |e| {
                e.accepted.push(Accepted { id: "b".into(), ..Accepted::default() });
                e.rows.push(Row { id: "b".into(), name: "1-2".into(), live: true, ..Row::default() });
            }),
            ("ended twice", |e| e.rows[0].ends = 2),
            ("ended twice", |e| e.rows[0].live = true),
            ("ended twice", |e| e.ended.push(e.ended[0].clone())),
            ("made twice by one idempotency key", |e| {
                e.rows.push(Row { id: "b".into(), name: "1-1".into(), ..Row::default() });
            }),
            ("succeeded without a handler or its effect", |e| e.calls.clear()),
            ("succeeded without a handler or its effect", |e| e.ended[0].worker = "x".into()),
            ("cancelled yet run", |e| {
                e.cancelled.push((10.5, "a".into()));
                e.rows[0].state = "cancelled".into();
            }),
            ("cancelled yet run", |e| {
                e.cancelled.push((13.0, "a".into()));
                e.rows[0].state = "failed".into();
            }),
            ("two alive with one unique key", |e| {
                e.accepted.push(Accepted { at: 11.5, id: "a".into(), unique: Some("u".into()) });
            }),
            ("answers outside the contract", |e| {
                e.answers.insert((500, "internal".into()), 1);
            }),
            ("processes that gave up", |e| e.deaths.push("worker-a ended".into())),
        ];
        for (name, spoil) in breaks {
            let mut evidence = sound();
            spoil(&mut evidence);
            assert_eq!(broken(&evidence), [name]);
        }
        for attempt in [1, 2] {
            let mut evidence = sound();
            evidence.attempts.push(lost(attempt));
            assert_eq!(broken(&evidence), ["late results of lost attempts accepted"]);
        }
        let mut evidence = sound();
        evidence.rows[0].attempt = 2;
        evidence.ended[0].attempt = 2;
        evidence.attempts.push(lost(1));
        assert_eq!(broken(&evidence), [""; 0], "a lost attempt and then another is sound");
    }

    #[test]
    fn what_at_least_once_allows_is_no_breach() {
        let mut forgotten = sound();
        forgotten.ended.push(forgotten.ended[0].clone());
        forgotten.strokes.push(Struck {
            fault: Fault::PostgresKill,
            at: 11.5,
            over: 11.8,
            whom: String::new(),
            skipped: false,
        });
        assert_eq!(
            broken(&forgotten),
            [""; 0],
            "the same attempt again, after a crash that may have forgotten its claim"
        );

        let mut stale = sound();
        stale.rows[0].state = "cancelled".into();
        stale.rows[0].worker = "-".into();
        stale.cancelled.push((10.5, "a".into()));
        stale.attempts.push(Attempt { job: "a".into(), attempt: 1, ended: "lost".into(), worker: "w".into() });
        assert_eq!(broken(&stale), [""; 0], "a worker that does not know yet that its job was taken back");
    }
}
