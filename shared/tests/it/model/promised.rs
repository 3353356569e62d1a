//! What must be true: a small ledger without a database, in which each deed happens at once.

use std::collections::{BTreeMap, BTreeSet};

use millwork_shared::infra::ids::{JobId, TenantId, WorkerId};
use millwork_shared::jobs::{NewJob, Queue, State};

use super::deeds::{Deed, Run, Seen};
use super::steps::{Manner, Said};

const LEASE_MS: i64 = 15_000;
/// How long after a worker's end its jobs are looked for once more.
const SECOND_LOOK_MS: i64 = 30_000;
const LOST_LIMIT: i16 = 3;

/// Times are milliseconds from the beginning of the ledger's clock.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Promised {
    pub now: i64,
    pub jobs: BTreeMap<JobId, Job>,
    pub workers: BTreeMap<WorkerId, Worker>,
    pub paused: BTreeSet<(TenantId, Queue)>,
    pub keys: BTreeMap<(TenantId, String), Hold>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Job {
    pub tenant: TenantId,
    pub queue: Queue,
    pub priority: u8,
    pub key: Option<String>,
    pub max_attempts: i16,
    pub life: Life,
    /// How the attempts before the last one ended.
    pub attempts: BTreeMap<i16, &'static str>,
    /// Its cancellation was asked for while it ran.
    pub wish: bool,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Life {
    Live { run_at: i64, later: bool, attempt: i16, lost: i16, max: i16, owner: Option<WorkerId> },
    Ended { state: State, attempt: i16 },
}

#[derive(Debug, Clone, PartialEq)]
pub struct Worker {
    pub lease_until: i64,
    pub lost_at: Option<i64>,
    pub stopped_at: Option<i64>,
    pub reaped: bool,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Hold {
    pub job: JobId,
    pub until: Option<i64>,
}

impl Job {
    pub fn state(&self, now: i64) -> State {
        match self.life {
            Life::Ended { state, .. } => state,
            Life::Live { owner: Some(_), .. } => State::Running,
            Life::Live { run_at, .. } if run_at <= now => State::Queued,
            Life::Live { attempt, .. } if attempt > 0 => State::Retrying,
            Life::Live { .. } => State::Scheduled,
        }
    }

    pub fn attempt(&self) -> i16 {
        match self.life {
            Life::Live { attempt, .. } | Life::Ended { attempt, .. } => attempt,
        }
    }

    fn is_live(&self) -> bool {
        matches!(self.life, Life::Live { .. })
    }

    fn end(&mut self, state: State) {
        self.life = Life::Ended { state, attempt: self.attempt() };
    }
}

impl Promised {
    /// Does `deed`, and says what whoever did it must be told.
    pub fn apply(&mut self, deed: &Deed) -> Seen {
        match deed {
            Deed::Submit { jobs, manner } => self.submit(jobs, *manner),
            Deed::Register { id } => {
                let lease_until = self.now + LEASE_MS;
                let worker = Worker { lease_until, lost_at: None, stopped_at: None, reaped: false };
                self.workers.insert(*id, worker);
                Seen::Nothing
            }
            Deed::Claim { owner, tickets } => {
                let mut ids: Vec<JobId> = tickets.iter().map(|ticket| ticket.id).collect();
                ids.sort();
                ids.dedup();
                self.claim(*owner, &ids)
            }
            Deed::Complete { run, said } => self.complete(run, *said),
            Deed::Release { run } => self.release(run),
            Deed::Heartbeat { owner } => {
                let now = self.now;
                let alive = self.workers.get_mut(owner).filter(|w| w.lost_at.is_none() && w.stopped_at.is_none());
                let renewed = alive.map(|worker| worker.lease_until = now + LEASE_MS);
                Seen::Renewed(renewed.is_some())
            }
            Deed::Stop { owner } => {
                let now = self.now;
                if let Some(worker) = self.workers.get_mut(owner) {
                    worker.stopped_at.get_or_insert(now);
                }
                Seen::Nothing
            }
            Deed::Reap => self.reap(),
            Deed::Cancel { tenant, id } => self.cancel(*tenant, *id),
            Deed::RetryNow { tenant, id } => self.retry_now(*tenant, *id),
            Deed::Pause { tenant, queue } => Seen::Changed(self.paused.insert((*tenant, *queue))),
            Deed::Resume { tenant, queue } => Seen::Changed(self.paused.remove(&(*tenant, *queue))),
        }
    }

    fn submit(&mut self, jobs: &[NewJob], manner: Manner) -> Seen {
        let before = self.clone();
        let mut refused = Vec::new();
        // Keys go in their own order, as who holds one is decided by place within the batch.
        for (n, job) in jobs.iter().enumerate() {
            if let Some(unique) = &job.unique {
                let until = unique.hold.map(|hold| self.now + hold.as_millis() as i64);
                let mates: Vec<JobId> = jobs[..n].iter().map(|mate| mate.id).collect();
                if let Some(holder) = self.hold(job.tenant, &unique.key, job.id, until, &mates) {
                    refused.push((n, holder));
                }
            }
        }
        let all = refused.is_empty();
        for (n, job) in jobs.iter().enumerate() {
            if !refused.iter().any(|(m, _)| *m == n) {
                self.store(job);
            }
        }
        match manner {
            Manner::Free => Seen::Stored { refused },
            Manner::Whole if all => Seen::Stored { refused },
            Manner::Whole => {
                *self = before;
                refused.truncate(1);
                Seen::Stored { refused }
            }
            Manner::Dropped => {
                *self = before;
                Seen::Nothing
            }
        }
    }

    fn store(&mut self, job: &NewJob) {
        let run_at = super::deeds::due_ms(job, self.now);
        let life =
            Life::Live { run_at, later: run_at > self.now, attempt: 0, lost: 0, max: job.max_attempts, owner: None };
        let job_ = Job {
            tenant: job.tenant,
            queue: job.queue,
            priority: job.priority.get(),
            key: job.unique.as_ref().map(|unique| unique.key.clone()),
            max_attempts: job.max_attempts,
            life,
            attempts: BTreeMap::new(),
            wish: false,
        };
        self.jobs.insert(job.id, job_);
    }

    /// Takes a key, or answers who has it: a live job, one whose hold still runs, or one of the same batch.
    fn hold(&mut self, tenant: TenantId, key: &str, job: JobId, until: Option<i64>, mates: &[JobId]) -> Option<JobId> {
        let slot = (tenant, key.to_owned());
        if let Some(hold) = self.keys.get(&slot) {
            if hold.job == job {
                return None;
            }
            let lives = mates.contains(&hold.job) || self.jobs.get(&hold.job).is_some_and(Job::is_live);
            if lives || hold.until.is_some_and(|until| until > self.now) {
                return Some(hold.job);
            }
        }
        self.keys.insert(slot, Hold { job, until });
        None
    }

    fn claim(&mut self, worker: WorkerId, ids: &[JobId]) -> Seen {
        let alive = self.workers.get(&worker).is_some_and(|w| w.lost_at.is_none() && w.stopped_at.is_none());
        let now = self.now;
        let mut claimed = Vec::new();
        for id in ids {
            let Some(job) = self.jobs.get_mut(id).filter(|job| !self.paused.contains(&(job.tenant, job.queue))) else {
                continue;
            };
            if let Life::Live { run_at, attempt, lost, max, owner: owner @ None, .. } = &mut job.life
                && alive
                && *run_at <= now
            {
                *owner = Some(worker);
                *attempt += 1;
                claimed.push(Run {
                    tenant: job.tenant,
                    id: *id,
                    owner: worker,
                    attempt: *attempt,
                    lost: *lost,
                    max_attempts: *max,
                    wait_ms: now - *run_at,
                });
            }
        }
        if claimed.is_empty() && !alive && !ids.is_empty() { Seen::LeaseGone } else { Seen::Claimed(claimed) }
    }

    /// The job, if `run` is still the one that counts.
    fn fenced(&mut self, run: &Run) -> Option<&mut Job> {
        self.jobs.get_mut(&run.id).filter(
            |job| matches!(job.life, Life::Live { owner: Some(owner), attempt, .. } if owner == run.owner && attempt == run.attempt),
        )
    }

    fn complete(&mut self, run: &Run, said: Said) -> Seen {
        let now = self.now;
        let Some(job) = self.fenced(run) else { return Seen::Accepted(false) };
        match said {
            Said::Done => job.end(State::Succeeded),
            Said::Fail => job.end(State::Failed),
            Said::Cancelled => job.end(State::Cancelled),
            Said::Retry(_) if run.attempt - run.lost >= run.max_attempts => job.end(State::Failed),
            Said::Retry(_) | Said::Snooze(_) if job.wish => job.end(State::Cancelled),
            Said::Retry(wait_s) => {
                job.attempts.insert(run.attempt, "retry");
                job.wait(now + wait_s as i64 * 1_000, 0);
            }
            Said::Snooze(wait_s) => job.wait(now + wait_s as i64 * 1_000, 1),
        }
        Seen::Accepted(true)
    }

    fn release(&mut self, run: &Run) -> Seen {
        let holds = |job: &&mut Job| matches!(job.life, Life::Live { owner: Some(owner), .. } if owner == run.owner);
        let Some(job) = self.jobs.get_mut(&run.id).filter(holds) else { return Seen::Tickets(Vec::new()) };
        if job.wish {
            job.end(State::Cancelled);
            return Seen::Tickets(Vec::new());
        }
        if let Life::Live { attempt, owner, .. } = &mut job.life {
            *owner = None;
            *attempt -= 1;
        }
        Seen::Tickets(vec![run.id])
    }

    fn reap(&mut self) -> Seen {
        let now = self.now;
        let mut gone = Vec::new();
        for (id, worker) in &mut self.workers {
            let end = worker.lost_at.into_iter().chain(worker.stopped_at).min();
            if end.is_none() && worker.lease_until < now {
                worker.lost_at = Some(now);
                gone.push(*id);
            } else if !worker.reaped && end.is_some_and(|end| end < now - SECOND_LOOK_MS) {
                worker.reaped = true;
                gone.push(*id);
            }
        }
        let (mut requeued, mut quarantined, mut cancelled) = (Vec::new(), 0, 0);
        for (id, job) in &mut self.jobs {
            let Life::Live { owner: owner @ Some(_), attempt, lost, .. } = &mut job.life else { continue };
            if !owner.is_some_and(|owner| gone.contains(&owner)) {
                continue;
            }
            if job.wish {
                job.end(State::Cancelled);
                cancelled += 1;
            } else if *lost + 1 >= LOST_LIMIT {
                job.end(State::Failed);
                quarantined += 1;
            } else {
                *owner = None;
                *lost += 1;
                job.attempts.insert(*attempt, "lost");
                requeued.push(*id);
            }
        }
        Seen::Reaped { requeued, quarantined, cancelled }
    }

    fn cancel(&mut self, tenant: TenantId, id: JobId) -> Seen {
        let Some(job) = self.jobs.get_mut(&id).filter(|job| job.tenant == tenant) else { return Seen::NotFound };
        match job.life {
            Life::Ended { .. } => Seen::Refused("job_has_ended"),
            Life::Live { owner: Some(_), .. } => {
                job.wish = true;
                Seen::CancelRequested
            }
            Life::Live { .. } => {
                job.end(State::Cancelled);
                Seen::Cancelled
            }
        }
    }

    fn retry_now(&mut self, tenant: TenantId, id: JobId) -> Seen {
        let Some(job) = self.jobs.get(&id).filter(|job| job.tenant == tenant) else { return Seen::NotFound };
        let Life::Ended { state: state @ (State::Failed | State::Cancelled), attempt } = job.life else {
            return Seen::Refused("job_not_retryable");
        };
        if let Some(key) = job.key.clone()
            && self.hold(tenant, &key, id, None, &[]).is_some()
        {
            return Seen::Refused("job_not_unique");
        }
        let now = self.now;
        if let Some(job) = self.jobs.get_mut(&id) {
            if attempt > 0 {
                job.attempts.entry(attempt).or_insert(state.as_str());
            }
            job.wish = false;
            let max = attempt + job.max_attempts;
            job.life = Life::Live { run_at: now, later: false, attempt, lost: 0, max, owner: None };
        }
        Seen::Tickets(vec![id])
    }
}

impl Job {
    /// Waits until `until`, as if the last `attempts` had not been.
    fn wait(&mut self, until: i64, attempts: i16) {
        if let Life::Live { run_at, later, attempt, owner, .. } = &mut self.life {
            (*run_at, *later, *owner) = (until, true, None);
            *attempt -= attempts;
        }
    }
}
