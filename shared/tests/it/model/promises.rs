//! The promises that can be read off the stores without a model: what every state must look like, and what no step may do.

use std::collections::{BTreeMap, BTreeSet};

use millwork_shared::infra::ids::{JobId, TenantId};
use millwork_shared::jobs::{Queue, State};

use super::promised::{Life, Promised};
use super::snapshot::{JobRow, Ledger, Tickets};

/// What was accepted and asked for, by whoever did it.
#[derive(Debug, Default)]
pub struct History {
    pub accepted: BTreeSet<JobId>,
    /// Nobody may start these until they are retried by hand.
    pub cancelled: BTreeSet<JobId>,
    pub succeeded: BTreeSet<JobId>,
}

/// What is wrong with the ledger by itself.
pub fn ledger(ledger: &Ledger, history: &History) -> Vec<String> {
    let mut wrong = Vec::new();
    let live: BTreeSet<JobId> = ledger.live.iter().map(|row| row.id).collect();
    let ended: BTreeSet<JobId> = ledger.outcomes.iter().map(|row| row.id).collect();
    let stored: BTreeSet<JobId> = ledger.jobs.iter().map(|row| row.id).collect();
    if stored != history.accepted {
        wrong.push(format!("accepted are {:?}, stored {stored:?}", history.accepted));
    }
    for id in &stored {
        match (live.contains(id), ended.contains(id)) {
            (true, true) => wrong.push(format!("{id} lives and has ended")),
            (false, false) => wrong.push(format!("{id} is lost: it neither lives nor has ended")),
            _ => {}
        }
    }
    for id in live.union(&ended).filter(|id| !stored.contains(id)) {
        wrong.push(format!("{id} has no row of its own"));
    }
    for row in &ledger.live {
        let same =
            |job: &&JobRow| (job.tenant_id, &job.queue, job.priority) == (row.tenant_id, &row.queue, row.priority);
        if ledger.jobs.iter().find(|job| job.id == row.id).is_some_and(|job| !same(&job)) {
            wrong.push(format!("is not in the lane it was stored for: {row:?}"));
        }
        let counted = row.attempt - row.lost;
        let told = format!("{row:?}");
        if row.running != row.lease_owner.is_some() {
            wrong.push(format!("runs without an owner, or the reverse: {told}"));
        }
        if counted < 0 || counted > row.max_attempts {
            wrong.push(format!("has {counted} attempts that count: {told}"));
        }
        if !(0..3).contains(&row.lost) {
            wrong.push(format!("should be in quarantine: {told}"));
        }
        if history.succeeded.contains(&row.id) {
            wrong.push(format!("lives again after it succeeded: {told}"));
        }
    }
    for row in ledger.outcomes.iter().filter(|row| history.succeeded.contains(&row.id)) {
        if row.state != State::Succeeded {
            wrong.push(format!("succeeded once: {row:?}"));
        }
    }
    let mut holders: BTreeMap<(TenantId, &str), Vec<JobId>> = BTreeMap::new();
    for row in ledger.jobs.iter().filter(|row| live.contains(&row.id)) {
        if let Some(key) = &row.unique_key {
            holders.entry((row.tenant_id, key)).or_default().push(row.id);
        }
    }
    wrong.extend(holders.iter().filter(|(_, ids)| ids.len() > 1).map(|(key, ids)| format!("{key:?} lives in {ids:?}")));
    wrong
}

/// What is wrong with Redis, beside what is `promised` of the ledger. `healed`: just after a comparison with it.
pub fn tickets(tickets: &BTreeMap<Queue, Tickets>, promised: &Promised, healed: bool) -> Vec<String> {
    let mut wrong = Vec::new();
    for (queue, tickets) in tickets {
        for (tenant, priority, id) in &tickets.ready {
            let known = promised.jobs.get(id);
            if known.is_none_or(|job| (job.tenant, job.queue, job.priority) != (*tenant, *queue, *priority)) {
                wrong.push(format!("a ticket of no job: {queue} {tenant} {priority} {id}"));
            }
            if !tickets.ring.contains(tenant) {
                wrong.push(format!("the tickets of {tenant} in {queue} have no turn"));
            }
            if healed && promised.paused.contains(&(*tenant, *queue)) {
                wrong.push(format!("a ticket of a paused queue: {queue} {tenant} {id}"));
            }
        }
        for (id, job) in promised.jobs.iter().filter(|(_, job)| healed && job.queue == *queue) {
            let is_due = matches!(job.life, Life::Live { run_at, owner: None, .. } if run_at <= promised.now);
            let has = tickets.ready.contains(&(job.tenant, job.priority, *id));
            if is_due && !has && !promised.paused.contains(&(job.tenant, *queue)) {
                wrong.push(format!("due, and forgotten by Redis: {id} in {queue}"));
            }
        }
    }
    wrong
}
