//! Steps with their ids filled in, done in the real ledger.

use std::time::Duration;

use chrono::{DateTime, Utc};
use millwork_shared::infra::db::{Db, SystemTx, TenantTx};
use millwork_shared::infra::ids::{JobId, TenantId, WorkerId};
use millwork_shared::jobs::dispatch::Ticket;
use millwork_shared::jobs::queries::{self, CancelResult, Ending, Finished, Heartbeat, NewWorker, Retried, Snoozed};
use millwork_shared::jobs::{Due, JobError, NewJob, Queue};
use millwork_shared::{Error, Result};

use super::steps::{Manner, Said};
use crate::LEASE;

/// One transaction on real ids.
#[derive(Debug, Clone)]
pub enum Deed {
    Submit { jobs: Vec<NewJob>, manner: Manner },
    Register { id: WorkerId },
    Claim { owner: WorkerId, tickets: Vec<Ticket> },
    Complete { run: Run, said: Said },
    Release { run: Run },
    Heartbeat { owner: WorkerId },
    Stop { owner: WorkerId },
    Reap,
    Cancel { tenant: TenantId, id: JobId },
    RetryNow { tenant: TenantId, id: JobId },
    Pause { tenant: TenantId, queue: Queue },
    Resume { tenant: TenantId, queue: Queue },
}

/// What a worker knows of a job that it claimed, whether or not it is still its own.
#[derive(Debug, Clone, PartialEq)]
pub struct Run {
    pub tenant: TenantId,
    pub id: JobId,
    pub owner: WorkerId,
    pub attempt: i16,
    pub lost: i16,
    pub max_attempts: i16,
    pub wait_ms: i64,
}

/// What whoever did a deed was told.
#[derive(Debug, Clone, PartialEq)]
pub enum Seen {
    Nothing,
    /// Places in the batch whose unique key is held, and by whom.
    Stored {
        refused: Vec<(usize, JobId)>,
    },
    Claimed(Vec<Run>),
    LeaseGone,
    Accepted(bool),
    Tickets(Vec<JobId>),
    Renewed(bool),
    Reaped {
        requeued: Vec<JobId>,
        quarantined: usize,
        cancelled: usize,
    },
    Cancelled,
    CancelRequested,
    NotFound,
    Refused(&'static str),
    Changed(bool),
}

/// The beginning of the ledger's clock, whose milliseconds [`Promised`](super::promised::Promised) counts.
pub fn base() -> DateTime<Utc> {
    static BASE: std::sync::OnceLock<DateTime<Utc>> = std::sync::OnceLock::new();
    // Later than the time in any id, so that "due now" is the past of the standing clock.
    *BASE.get_or_init(|| {
        let at = (JobId::generate().created_at() + Duration::from_secs(86_400)).timestamp();
        DateTime::from_timestamp(at, 0).unwrap()
    })
}

/// When a job is due that is stored at `now`.
pub fn due_ms(job: &NewJob, now: i64) -> i64 {
    match job.due {
        Due::Now => (job.created_at() - base()).num_milliseconds(),
        Due::In(delay) => now + i64::try_from(delay.as_millis()).unwrap(),
        Due::At(at) => (at - base()).num_milliseconds(),
    }
}

impl Deed {
    /// Does it; `linger` is waited for before the commit. Tickets that would be offered then come back too.
    pub async fn done(&self, db: &Db, linger: Duration) -> Result<(Seen, Vec<Ticket>)> {
        let system = db.system();
        let mut tickets = Vec::new();
        let seen = match self {
            Self::Submit { jobs, manner } => {
                let mut tx = system.system().await?;
                let refused = match manner {
                    Manner::Whole => queries::enqueue_free(&mut tx, jobs).await?.into_iter().collect(),
                    Manner::Free | Manner::Dropped => store_free(&mut tx, jobs).await?,
                };
                match manner {
                    Manner::Dropped => Seen::Nothing,
                    Manner::Whole if !refused.is_empty() => Seen::Stored { refused },
                    Manner::Whole | Manner::Free => {
                        linger_and_commit(tx, linger).await?;
                        let stored = jobs.iter().enumerate().filter(|(n, _)| refused.iter().all(|(m, _)| m != n));
                        tickets = stored.filter(|(_, j)| j.due == Due::Now).map(|(_, j)| Ticket::from(j)).collect();
                        Seen::Stored { refused }
                    }
                }
            }
            Self::Register { id } => {
                let worker = NewWorker { host: "h".into(), version: "1", queues: Vec::new(), concurrency: 1 };
                let mut tx = system.system().await?;
                queries::register(&mut tx, *id, &worker, LEASE).await?;
                linger_and_commit(tx, linger).await?;
                Seen::Nothing
            }
            Self::Claim { owner, tickets } => {
                let mut tx = system.system_relaxed().await?;
                match queries::claim(&mut tx, *owner, tickets).await {
                    Ok(claimed) => {
                        linger_and_commit(tx, linger).await?;
                        let mut runs: Vec<Run> = claimed.iter().map(Run::from).collect();
                        runs.sort_unstable_by_key(|run| run.id);
                        Seen::Claimed(runs)
                    }
                    Err(Error::Conflict { code: queries::LEASE_GONE, .. }) => Seen::LeaseGone,
                    Err(error) => return Err(error),
                }
            }
            Self::Complete { run, said } => {
                let mut tx = system.system_by_index().await?;
                let accepted = complete(&mut tx, run, *said).await?;
                linger_and_commit(tx, linger).await?;
                Seen::Accepted(accepted)
            }
            Self::Release { run } => {
                let mut tx = system.system_by_index().await?;
                tickets = queries::release(&mut tx, run.owner, &[(run.tenant, run.id)]).await?;
                linger_and_commit(tx, linger).await?;
                Seen::Tickets(tickets.iter().map(|ticket| ticket.id).collect())
            }
            Self::Heartbeat { owner } => {
                let mut tx = system.system_relaxed().await?;
                let heartbeat = queries::heartbeat(&mut tx, *owner, 1, LEASE).await?;
                linger_and_commit(tx, linger).await?;
                Seen::Renewed(heartbeat == Heartbeat::Renewed)
            }
            Self::Stop { owner } => {
                let mut tx = system.system().await?;
                queries::say_goodbye(&mut tx, *owner).await?;
                linger_and_commit(tx, linger).await?;
                Seen::Nothing
            }
            Self::Reap => {
                let mut tx = system.system().await?;
                let lost = queries::mark_lost(&mut tx).await?;
                let report = queries::reap(&mut tx, &lost).await?;
                linger_and_commit(tx, linger).await?;
                let mut requeued: Vec<JobId> = report.requeued.iter().map(|ticket| ticket.id).collect();
                requeued.sort();
                tickets = report.requeued;
                Seen::Reaped { requeued, quarantined: report.quarantined, cancelled: report.cancelled }
            }
            Self::Cancel { tenant, id } => {
                let mut tx = db.tenant(*tenant).await?;
                match queries::cancel(&mut tx, *id).await {
                    Ok(CancelResult::Cancelled) => as_tenant(tx, linger, Seen::Cancelled).await?,
                    Ok(CancelResult::Requested) => as_tenant(tx, linger, Seen::CancelRequested).await?,
                    Err(error) => refusal(error)?,
                }
            }
            Self::RetryNow { tenant, id } => {
                let mut tx = db.tenant(*tenant).await?;
                match queries::retry_now(&mut tx, *id).await {
                    Ok(ticket) => {
                        tickets = vec![ticket];
                        as_tenant(tx, linger, Seen::Tickets(vec![ticket.id])).await?
                    }
                    Err(error) => refusal(error)?,
                }
            }
            Self::Pause { tenant, queue } => {
                let mut tx = db.tenant(*tenant).await?;
                let changed = queries::pause(&mut tx, *queue).await?;
                as_tenant(tx, linger, Seen::Changed(changed)).await?
            }
            Self::Resume { tenant, queue } => {
                let mut tx = db.tenant(*tenant).await?;
                let changed = queries::resume(&mut tx, *queue).await?;
                as_tenant(tx, linger, Seen::Changed(changed)).await?
            }
        };
        Ok((seen, tickets))
    }
}

/// As the API gathers submissions: who has its key is stored, the others are told.
async fn store_free(tx: &mut SystemTx, jobs: &[NewJob]) -> Result<Vec<(usize, JobId)>> {
    let all: Vec<&NewJob> = jobs.iter().collect();
    let refused = queries::hold_keys(tx, &all).await?;
    let free = jobs.iter().enumerate().filter(|(n, _)| refused.iter().all(|(m, _)| m != n));
    queries::insert(tx, free.map(|(_, job)| job)).await?;
    Ok(refused)
}

/// As the worker stores what a handler says. False when the fence refused it.
async fn complete(tx: &mut SystemTx, run: &Run, said: Said) -> Result<bool> {
    let Run { tenant, id, attempt, owner, lost, max_attempts, .. } = *run;
    let error = || JobError::new("boom", "it broke");
    let end = |ending| Finished { tenant, id, attempt, owner, ending, result: None, error: None, detail: None };
    let mut finished = match said {
        Said::Done => end(Ending::Succeeded),
        Said::Cancelled => end(Ending::Cancelled),
        Said::Retry(wait_s) if attempt - lost < max_attempts => {
            let wait = Duration::from_secs(wait_s);
            let mut batch = [Retried { tenant, id, attempt, owner, wait, error: error(), detail: None }];
            if queries::retry(tx, &mut batch).await? == [id] {
                return Ok(true);
            }
            batch[0].cancelled()
        }
        Said::Fail | Said::Retry(_) => Finished { error: Some(error()), ..end(Ending::Failed) },
        Said::Snooze(wait_s) => {
            let mut batch = [Snoozed { tenant, id, attempt, owner, wait: Duration::from_secs(wait_s) }];
            if queries::snooze(tx, &mut batch).await? == [id] {
                return Ok(true);
            }
            batch[0].cancelled()
        }
    };
    Ok(queries::finish(tx, std::slice::from_mut(&mut finished)).await? == 1)
}

async fn linger_and_commit(tx: SystemTx, linger: Duration) -> Result<()> {
    tokio::time::sleep(linger).await;
    tx.commit().await
}

async fn as_tenant(tx: TenantTx, linger: Duration, seen: Seen) -> Result<Seen> {
    tokio::time::sleep(linger).await;
    tx.commit().await.map(|()| seen)
}

fn refusal(error: Error) -> Result<Seen> {
    match error {
        Error::NotFound(_) => Ok(Seen::NotFound),
        Error::Conflict { code, .. } => Ok(Seen::Refused(code)),
        other => Err(other),
    }
}

impl From<&queries::Claimed> for Run {
    fn from(claimed: &queries::Claimed) -> Self {
        Self {
            tenant: claimed.tenant,
            id: claimed.id,
            owner: claimed.owner,
            attempt: claimed.attempt,
            lost: claimed.lost,
            max_attempts: claimed.max_attempts,
            wait_ms: claimed.wait_ms,
        }
    }
}
