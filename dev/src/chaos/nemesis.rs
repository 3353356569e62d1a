//! Carries out the plan, one stroke after the other.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::plan::{Fault, Plan};
use super::record::uptime;
use super::rest;
use super::site::Site;
use super::strikes::{self, Done};
use crate::terminal;

/// Between two strokes at least, however long the first one took.
const BREATH: Duration = Duration::from_secs(2);
/// How often it is looked whether a process ended by itself.
const LOOK: Duration = Duration::from_millis(500);

/// A stroke that was carried out. Times are this machine's uptime.
#[derive(Debug, Clone)]
pub struct Struck {
    pub fault: Fault,
    pub at: f64,
    /// When all was as before.
    pub over: f64,
    pub whom: String,
    pub skipped: bool,
}

/// Strikes for `length`. Notes the last words of processes that ended by themselves in `deaths`.
pub fn rage(site: &mut Site, plan: Plan, length: Duration, deaths: &mut Vec<String>) -> Result<Vec<Struck>> {
    let started = Instant::now();
    let mut strokes: Vec<Struck> = Vec::new();
    let mut last = Instant::now();
    for stroke in plan {
        let next = (last + stroke.gap).max(Instant::now() + BREATH);
        if next > started + length {
            watch(site, (started + length).saturating_duration_since(Instant::now()), deaths)?;
            break;
        }
        watch(site, next.saturating_duration_since(Instant::now()), deaths)?;
        last = Instant::now();
        let at = uptime();
        let done =
            strikes::strike(site, &stroke).with_context(|| format!("cannot carry out {}", stroke.fault.name()))?;
        let (whom, skipped) = match done {
            Done::Struck(whom) => (whom, false),
            Done::Skipped(why) => (format!("skipped: {why}"), true),
        };
        let (since, what) = (last.duration_since(started).as_secs(), stroke.fault.what());
        terminal::note(format!("{since:>4} s  {:<18} {what}: {whom}", stroke.fault.name()));
        if skipped {
            last = last.checked_sub(stroke.gap).unwrap_or(last); // goes on at once with the next one
        }
        strokes.push(Struck { fault: stroke.fault, at, over: uptime(), whom, skipped });
    }
    Ok(strokes)
}

/// Waits, and starts again whoever ended by itself.
fn watch(site: &mut Site, length: Duration, deaths: &mut Vec<String>) -> Result<()> {
    let until = Instant::now() + length;
    loop {
        deaths.extend(site.revive()?);
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(());
        }
        rest(left.min(LOOK))?;
    }
}
