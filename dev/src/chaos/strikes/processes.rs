//! Millwork's own processes: killed, held still, asked to end.

use std::time::Duration;

use anyhow::{Context, Result};

use super::Done;
use crate::chaos::member::Role;
use crate::chaos::plan::{Fault, Stroke};
use crate::chaos::rest;
use crate::chaos::site::Site;

/// Its grace for what runs, and its goodbye.
const STOP_LIMIT: Duration = Duration::from_secs(30);
const READY_LIMIT: Duration = Duration::from_secs(120);

pub fn kill(site: &mut Site, stroke: &Stroke) -> Result<Done> {
    let (victim, why) = victim(site, stroke)?;
    site.members[victim].process()?.kill9()?;
    rest(stroke.lasts)?;
    site.start(victim, &[])?;
    Ok(Done::Struck(why))
}

pub fn hang(site: &mut Site, stroke: &Stroke) -> Result<Done> {
    let (victim, why) = victim(site, stroke)?;
    let process = site.members[victim].process()?;
    process.sigstop()?;
    let rested = rest(stroke.lasts);
    process.sigcont()?;
    rested?;
    Ok(Done::Struck(format!("{why}, {:.0} s", stroke.lasts.as_secs_f64())))
}

/// As a deployment does: the next one is stopped when the one before is back.
pub fn roll(site: &mut Site, stroke: &Stroke) -> Result<Done> {
    let mut forced = Vec::new();
    for worker in site.of(Role::Worker) {
        let obeyed = site.members[worker].process()?.stop(STOP_LIMIT)?;
        if !obeyed {
            forced.push(site.members[worker].name.clone());
        }
        site.start(worker, &[])?;
        site.members[worker].wait_until_ready(READY_LIMIT)?;
        rest(stroke.lasts)?;
    }
    Ok(Done::Struck(match forced.as_slice() {
        [] => "all workers".to_owned(),
        forced => format!("all workers; {} did not obey and was killed", forced.join(", ")),
    }))
}

fn victim(site: &Site, stroke: &Stroke) -> Result<(usize, String)> {
    let role = match stroke.fault {
        Fault::ApiKill | Fault::ApiHang => Role::Api,
        Fault::WorkerKill | Fault::WorkerHang => Role::Worker,
        _ => Role::Scheduler,
    };
    let candidates = site.of(role);
    let any = candidates.get(stroke.pick as usize % candidates.len().max(1)).copied().context("no such process")?;
    if role != Role::Scheduler {
        return Ok((any, site.members[any].name.clone()));
    }
    // There may be none for a moment, after an earlier stroke.
    let leader = site.leader()?;
    let victim = leader.unwrap_or(any);
    let name = &site.members[victim].name;
    Ok((victim, if leader.is_some() { name.clone() } else { format!("{name}, while nobody led") }))
}
