//! What is no promise but worth knowing: how often work was repeated, in what order it was done, how soon it went on.

use std::collections::{HashMap, HashSet};

use super::evidence::{Evidence, Run};
use super::plan::Fault;
use crate::bench::statistics::percentile;

/// Upper bounds of a histogram's bars, in seconds.
const BARS: [f64; 10] = [0.1, 0.25, 0.5, 1.0, 2.0, 5.0, 10.0, 15.0, 30.0, 60.0];
/// How long a job must have waited beside another for their order to count: less is the time of fetching a few jobs.
const BESIDE: f64 = 0.5;
/// Pairs of which one ran so much later than the other are not looked for.
const LONGEST_WAIT: f64 = 120.0;
/// How long after the end of the last stroke a standstill counts as its own.
const AFTERMATH: f64 = 20.0;

#[derive(Debug, Default)]
pub struct Figures {
    pub accepted: usize,
    /// Never answered, and not asked again.
    pub unknown: usize,
    pub jobs: usize,
    pub runs: usize,
    /// Runs beyond the first that no handler had asked for.
    pub repeated: usize,
    /// Outcomes that the ledger did not take, or that died with their worker.
    pub not_taken: usize,
    pub cancelled: usize,
    /// Pairs of jobs that waited beside each other with different priorities, and those that were run in the wrong order.
    pub pairs: usize,
    pub inverted: usize,
    /// From the end of each stroke to the next acceptance, and to the next end of a handler.
    pub to_accept: Times,
    pub to_finish: Times,
    /// The longest time around each stroke in which nothing was accepted, and in which no handler ended.
    pub none_accepted: Times,
    pub none_finished: Times,
    /// From when a job was due, and its client knew of it, to its first run.
    pub waits: Times,
    /// From the kill of a worker to the next run of each job that it ran.
    pub rerun: Times,
}

/// Seconds, each with what it was measured after.
#[derive(Debug, Default)]
pub struct Times(pub Vec<(f64, Option<Fault>)>);

impl Times {
    pub fn percentile(&self, percent: f64) -> f64 {
        percentile(&self.0.iter().map(|(seconds, _)| *seconds).collect::<Vec<_>>(), percent)
    }

    /// The longest, and what it came after.
    pub fn longest(&self) -> Option<(f64, Option<Fault>)> {
        self.0.iter().copied().max_by(|a, b| a.0.total_cmp(&b.0))
    }

    /// How many are within each bound and above the one before; the last are above all.
    pub fn histogram(&self) -> Vec<(Option<f64>, usize)> {
        let within = |bound: f64| self.0.iter().filter(|(seconds, _)| *seconds <= bound).count();
        let mut before = 0;
        let mut bars: Vec<(Option<f64>, usize)> = BARS
            .iter()
            .map(|&bound| {
                let bar = (Some(bound), within(bound) - before);
                before = within(bound);
                bar
            })
            .collect();
        bars.push((None, self.0.len() - before));
        bars
    }
}

impl Figures {
    pub fn of(evidence: &Evidence) -> Self {
        let ran: HashSet<&str> = evidence.started.iter().map(|run| run.job.as_str()).collect();
        let taken = taken(evidence);
        let (taken, not_taken): (Vec<&Run>, Vec<&Run>) =
            evidence.ended.iter().partition(|run| taken.contains(&run.fence()));
        let wanted = taken.iter().filter(|run| run.how == "retry").count();
        let (pairs, inverted) = order(evidence);
        let accepted: Vec<f64> = evidence.accepted.iter().map(|accepted| accepted.at).collect();
        let ended: Vec<f64> = evidence.ended.iter().map(|run| run.at).collect();
        Self {
            accepted: evidence.accepted.len(),
            unknown: evidence.unknown,
            jobs: evidence.rows.len(),
            runs: evidence.started.len(),
            repeated: evidence.started.len().saturating_sub(ran.len() + wanted),
            not_taken: not_taken.len(),
            cancelled: evidence.cancelled.len(),
            pairs,
            inverted,
            to_accept: recovery(evidence, &accepted),
            to_finish: recovery(evidence, &ended),
            none_accepted: standstill(evidence, &accepted),
            none_finished: standstill(evidence, &ended),
            waits: waits(evidence),
            rerun: rerun(evidence),
        }
    }
}

/// The runs whose outcomes the ledger has: those that ended their job and those that were to be tried again.
fn taken(evidence: &Evidence) -> HashSet<(&str, u32, &str)> {
    let outcomes = evidence.rows.iter().map(|row| (row.id.as_str(), row.attempt, row.worker.as_str()));
    let attempts = evidence.attempts.iter().filter(|a| a.ended == "retry");
    outcomes.chain(attempts.map(|a| (a.job.as_str(), a.attempt, a.worker.as_str()))).collect()
}

/// Of the jobs in the queue with few slots, which all are due when they are stored.
fn order(evidence: &Evidence) -> (usize, usize) {
    let (stored, first) = (known(evidence), first_starts(evidence));
    let waits = evidence
        .rows
        .iter()
        .filter(|row| row.queue == "exports")
        .filter_map(|row| Some((*first.get(row.id.as_str())?, *stored.get(row.id.as_str())?, row.priority)));
    let mut waits: Vec<(f64, f64, u8)> = waits.collect();
    waits.sort_by(|a, b| a.0.total_cmp(&b.0));
    let (mut pairs, mut inverted) = (0, 0);
    for (n, earlier) in waits.iter().enumerate() {
        for later in waits[n + 1..].iter().take_while(|later| later.0 < earlier.0 + LONGEST_WAIT) {
            let both_waited = later.1.max(earlier.1) + BESIDE < earlier.0 && later.0 > earlier.0;
            if both_waited && later.2 != earlier.2 {
                pairs += 1;
                inverted += usize::from(later.2 > earlier.2);
            }
        }
    }
    (pairs, inverted)
}

/// `events` are in the order of their times.
fn recovery(evidence: &Evidence, events: &[f64]) -> Times {
    let strokes = evidence.strokes.iter().filter(|stroke| !stroke.skipped);
    let times = strokes.filter_map(|stroke| {
        let next = events.get(events.partition_point(|at| *at < stroke.over))?;
        Some((next - stroke.over, Some(stroke.fault)))
    });
    Times(times.collect())
}

/// The longest gap between two of `events` that has a part in the time from a stroke to the next one.
fn standstill(evidence: &Evidence, events: &[f64]) -> Times {
    let strokes: Vec<_> = evidence.strokes.iter().filter(|stroke| !stroke.skipped).collect();
    let times = strokes.iter().enumerate().filter_map(|(n, stroke)| {
        let until = strokes.get(n + 1).map_or(stroke.over + AFTERMATH, |next| next.at);
        let gaps = events.windows(2).filter(|pair| pair[1] > stroke.at && pair[0] < until);
        let longest = gaps.map(|pair| pair[1] - pair[0]).max_by(f64::total_cmp)?;
        Some((longest, Some(stroke.fault)))
    });
    Times(times.collect())
}

/// Whichever stroke came last before the run is named beside it.
fn waits(evidence: &Evidence) -> Times {
    let known = known(evidence);
    let first = first_starts(evidence);
    let waits = evidence.rows.iter().filter_map(|row| {
        let due = row.due.max(*known.get(row.id.as_str())?);
        let start = *first.get(row.id.as_str())?;
        let stroke = evidence.strokes.iter().rfind(|stroke| !stroke.skipped && stroke.at <= start);
        Some(((start - due).max(0.0), stroke.map(|stroke| stroke.fault)))
    });
    Times(waits.collect())
}

/// When clients knew of each job.
fn known(evidence: &Evidence) -> HashMap<&str, f64> {
    evidence.accepted.iter().map(|accepted| (accepted.id.as_str(), accepted.at)).collect()
}

fn first_starts(evidence: &Evidence) -> HashMap<&str, f64> {
    let mut first = HashMap::new();
    for run in &evidence.started {
        first.entry(run.job.as_str()).or_insert(run.at);
    }
    first
}

/// A run that a kill cut short started before it and has no end.
fn rerun(evidence: &Evidence) -> Times {
    let ended: HashSet<_> = evidence.ended.iter().map(Run::fence).collect();
    let mut by_job: HashMap<&str, Vec<&Run>> = HashMap::new();
    for run in &evidence.started {
        by_job.entry(&run.job).or_default().push(run);
    }
    let kills: Vec<f64> =
        evidence.strokes.iter().filter(|stroke| stroke.fault == Fault::WorkerKill).map(|stroke| stroke.at).collect();
    let mut times = Vec::new();
    for runs in by_job.values() {
        for pair in runs.windows(2) {
            let cut_short = !ended.contains(&pair[0].fence());
            let kill = kills.iter().rfind(|kill| cut_short && pair[0].at < **kill && **kill < pair[1].at);
            times.extend(kill.map(|kill| (pair[1].at - kill, None)));
        }
    }
    Times(times)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chaos::evidence::Accepted;
    use crate::chaos::ledger::Row;
    use crate::chaos::nemesis::Struck;

    fn run(job: &str, at: f64, attempt: u32, how: &str) -> Run {
        Run { at, job: job.into(), attempt, worker: "w".into(), how: how.into() }
    }

    #[test]
    fn a_histogram_counts_each_time_once() {
        let times = Times([0.05, 0.1, 0.3, 14.0, 100.0].map(|seconds| (seconds, None)).to_vec());
        let bars: Vec<usize> = times.histogram().into_iter().map(|(_, count)| count).collect();
        assert_eq!(bars, [2, 0, 1, 0, 0, 0, 0, 1, 0, 0, 1]);
        assert_eq!(times.longest(), Some((100.0, None)));
    }

    #[test]
    fn time_to_recover_counts_from_the_end_of_a_stroke_and_a_rerun_from_the_kill() {
        let stroke = Struck { fault: Fault::WorkerKill, at: 10.0, over: 12.0, whom: String::new(), skipped: false };
        let evidence = Evidence {
            accepted: [11.9, 12.5].map(|at| Accepted { at, ..Accepted::default() }).to_vec(),
            strokes: vec![stroke.clone(), Struck { skipped: true, ..stroke }],
            started: vec![run("a", 9.0, 1, "-"), run("b", 9.0, 1, "-"), run("b", 11.0, 1, "-"), run("a", 21.5, 2, "-")],
            ended: vec![run("b", 9.5, 1, "done"), run("a", 22.0, 2, "done")],
            ..Evidence::default()
        };
        let figures = Figures::of(&evidence);
        assert_eq!(figures.to_accept.0, [(0.5, Some(Fault::WorkerKill))]);
        assert_eq!(figures.to_finish.0, [(10.0, Some(Fault::WorkerKill))]);
        assert_eq!(figures.none_finished.0, [(12.5, Some(Fault::WorkerKill))]);
        assert_eq!(figures.rerun.0, [(11.5, None)]);
        assert_eq!((figures.runs, figures.repeated), (4, 2));
    }

    #[test]
    fn a_wait_begins_when_a_job_is_due_and_its_client_knows() {
        let row = |id: &str, due| Row { id: id.into(), due, ..Row::default() };
        let evidence = Evidence {
            rows: vec![row("a", 12.0), row("b", -600.0)],
            accepted: ["a", "b"].map(|id| Accepted { at: 10.0, id: id.into(), unique: None }).to_vec(),
            started: vec![run("b", 11.0, 1, "-"), run("a", 15.0, 1, "-"), run("a", 18.0, 2, "-")],
            ..Evidence::default()
        };
        assert_eq!(waits(&evidence).0, [(3.0, None), (1.0, None)]);
    }

    #[test]
    fn an_inversion_is_a_job_that_waited_and_was_passed_by_a_lesser_one() {
        let row = |id: &str, priority| Row { id: id.into(), queue: "exports".into(), priority, ..Row::default() };
        let accepted = |id: &str, at| Accepted { at, id: id.into(), unique: None };
        let evidence = Evidence {
            rows: vec![row("high", 9), row("low", 1), row("late", 9)],
            accepted: vec![accepted("high", 1.0), accepted("low", 1.0), accepted("late", 2.9)],
            started: vec![run("low", 3.0, 1, "-"), run("high", 4.0, 1, "-"), run("late", 5.0, 1, "-")],
            ..Evidence::default()
        };
        // `late` had not waited beside `low` when that began, and has the priority of `high`.
        assert_eq!(order(&evidence), (1, 1));
    }
}
