//! What is said in the end, to people and to programs.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::checker::Promise;
use super::evidence::Evidence;
use super::figures::{Figures, Times};
use super::{Options, Sabotage};
use crate::terminal;

/// Examples of what broke a promise that are shown; the rest is in the file.
const SHOWN: usize = 5;

pub struct Report<'a> {
    pub options: &'a Options,
    pub evidence: &'a Evidence,
    pub promises: &'a [Promise],
    pub figures: &'a Figures,
}

impl Report<'_> {
    pub fn print(&self) {
        let Figures { accepted, unknown, jobs, runs, repeated, not_taken, cancelled, pairs, inverted, .. } =
            self.figures;
        terminal::step("figures");
        let note = |name: &str, text: String| terminal::note(format!("{name:<42} {text}"));
        note("accepted", format!("{accepted} jobs, and {unknown} submissions of unknown fate; {jobs} in the ledger"));
        note("runs", format!("{runs}, of which repeated {repeated} ({:.2} %)", percent(*repeated, *jobs)));
        note("outcomes not taken", format!("{not_taken}, of stale workers or gone with theirs"));
        note("cancelled in time", cancelled.to_string());
        note("priorities", format!("{inverted} of {pairs} pairs out of order ({:.2} %)", percent(*inverted, *pairs)));
        for (name, times) in self.times() {
            if times.0.is_empty() {
                note(name, "none".to_owned());
                continue;
            }
            let longest = times.longest().map_or(String::new(), |(seconds, fault)| {
                let after = fault.map_or(String::new(), |fault| format!(" after {}", fault.name()));
                format!(", longest {seconds:.2} s{after}")
            });
            let p = |percent| times.percentile(percent);
            note(name, format!("p50 {:.2} s, p99 {:.2} s of {}{longest}", p(50.0), p(99.0), times.0.len()));
            note("", times.histogram().iter().filter(|(_, count)| *count > 0).map(bar).collect::<Vec<_>>().join(", "));
        }
        for ((status, code), count) in &self.evidence.answers {
            note("other answers", format!("{count} times {status} {code}"));
        }
        terminal::step("promises");
        for Promise { name, broken } in self.promises {
            note(name, broken.len().to_string());
            broken.iter().take(SHOWN).for_each(|what| terminal::note(format!("  {what}")));
        }
    }

    /// Writes it for programs, and answers where.
    pub fn write(&self, folder: &Path) -> Result<PathBuf> {
        fs::create_dir_all(folder)?;
        let path = folder.join("report.json");
        fs::write(&path, self.json().to_string()).with_context(|| format!("cannot write {}", path.display()))?;
        Ok(path)
    }

    fn times(&self) -> [(&'static str, &Times); 6] {
        let Figures { to_accept, to_finish, none_accepted, none_finished, waits, rerun, .. } = self.figures;
        [
            ("from due to the first run", waits),
            ("a fault's end to an acceptance", to_accept),
            ("a fault's end to a finished job", to_finish),
            ("nothing accepted around a fault", none_accepted),
            ("nothing finished around a fault", none_finished),
            ("a worker's kill to a re-run", rerun),
        ]
    }

    fn json(&self) -> Value {
        let Figures { accepted, unknown, jobs, runs, repeated, not_taken, cancelled, pairs, inverted, .. } =
            self.figures;
        let strokes = self.evidence.strokes.iter().map(|stroke| {
            json!({"fault": stroke.fault.name(), "at": stroke.at, "over": stroke.over, "whom": stroke.whom, "skipped": stroke.skipped})
        });
        let answers = self.evidence.answers.iter();
        let times = self.times().map(|(name, times)| {
            let bars =
                times.histogram().into_iter().map(|(within_s, count)| json!({"within_s": within_s, "count": count}));
            let p = |percent| times.percentile(percent);
            json!({"name": name, "count": times.0.len(), "p50_s": p(50.0), "p99_s": p(99.0),
                   "longest_s": times.longest().map(|(seconds, _)| seconds), "histogram": bars.collect::<Vec<_>>()})
        });
        json!({
            "seed": self.options.seed,
            "minutes": self.options.length.as_secs_f64() / 60.0,
            "sabotage": self.options.sabotage.map(Sabotage::name),
            "kept": self.promises.iter().all(|promise| promise.broken.is_empty()),
            "promises": self.promises.iter().map(|p| json!({"name": p.name, "broken": p.broken})).collect::<Vec<_>>(),
            "accepted": accepted, "unknown": unknown, "jobs": jobs, "runs": runs, "repeated": repeated,
            "outcomes_not_taken": not_taken, "cancelled": cancelled,
            "priority_pairs": pairs, "priority_inversions": inverted,
            "times": times,
            "answers": answers.map(|((status, code), n)| json!({"status": status, "code": code, "count": n})).collect::<Vec<_>>(),
            "strokes": strokes.collect::<Vec<_>>(),
        })
    }
}

fn percent(part: usize, whole: usize) -> f64 {
    if whole == 0 { 0.0 } else { 100.0 * part as f64 / whole as f64 }
}

fn bar((bound, count): &(Option<f64>, usize)) -> String {
    match bound {
        Some(bound) => format!("≤ {bound} s: {count}"),
        None => format!("more: {count}"),
    }
}
