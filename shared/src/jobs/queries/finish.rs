//! What became of an attempt. Every statement is fenced by owner and attempt: a stale worker's late result finds no row.
//! Rows are looked up by key as in [`CLAIM`](super::CLAIM).

use std::str::FromStr;

use serde_json::value::RawValue;
use sqlx::PgConnection;

use super::interval;
use crate::infra::ids::{JobId, TenantId, WorkerId};
use crate::jobs::JobError;
use crate::{Error, Result};

/// How a job ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    Succeeded,
    Failed,
    Cancelled,
}

impl Ending {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }
}

impl FromStr for Ending {
    type Err = Error;

    fn from_str(s: &str) -> Result<Self> {
        [Self::Succeeded, Self::Failed, Self::Cancelled]
            .into_iter()
            .find(|ending| ending.as_str() == s)
            .ok_or_else(|| Error::Internal(anyhow::anyhow!("`{s}` is not how a job ends")))
    }
}

/// A job that has ended.
#[derive(Debug)]
pub struct Finished {
    pub tenant: TenantId,
    pub id: JobId,
    pub attempt: i16,
    pub owner: WorkerId,
    pub ending: Ending,
    pub result: Option<Box<RawValue>>,
    pub error: Option<JobError>,
    pub detail: Option<Box<RawValue>>,
}

/// What ending a batch came to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, sqlx::FromRow)]
pub struct Ends {
    /// The rest were no longer their owner's.
    pub accepted: i64,
    /// Ends that are to be told: see [`Followers`](crate::jobs::followers::Followers).
    pub to_tell: i64,
}

/// Ends jobs that are still their owner's, and writes down the ends that somebody waits for or wants to be alerted of.
pub const END: &str = r#"with ended as (
       delete from job_live l
        using unnest($1::uuid[], $2::uuid[], $3::int2[], $4::uuid[], $5::text[], $6::text[], $7::text[], $8::text[])
              u(tenant_id, id, attempt, owner, state, result, error, detail)
        where l.tenant_id = any (array[u.tenant_id]) and l.id = u.id
          and l.running and l.attempt = u.attempt and l.lease_owner = u.owner
       returning l.tenant_id, l.id, l.attempt, l.lease_owner, l.started_at, l.followed,
         u.state, u.result, u.error, u.detail
   ), outcomes as (
       insert into job_outcomes
              (tenant_id, id, state, attempt, worker_id, started_at, finished_at, result, error, detail)
       select tenant_id, id, state::job_end, attempt, lease_owner, started_at, ledger_now(), result, error, detail
         from ended
   ), to_tell as (
       insert into job_ends (tenant_id, id, state)
       select tenant_id, id, state::job_end from ended
        where followed or state = 'failed' and exists (select from alerts a
                  where a.tenant_id = ended.tenant_id and a.cause = 'job.failed' and a.disabled_at is null)
       returning id
   )
   select (select count(*) from ended) as accepted, (select count(*) from to_tell) as to_tell"#;

/// Ends jobs. Answers how many were accepted; the rest were no longer their owner's. Telling their ends is left to the
/// scheduler.
pub async fn finish(conn: &mut PgConnection, batch: &mut [Finished]) -> Result<u64> {
    Ok(end(conn, batch).await?.accepted.unsigned_abs())
}

/// Ends jobs, and writes down the ends that somebody waits for or wants to be alerted of, in one statement.
pub async fn end(conn: &mut PgConnection, batch: &mut [Finished]) -> Result<Ends> {
    batch.sort_unstable_by_key(|f| (f.tenant, f.id));
    let errors: Vec<Option<String>> = batch.iter().map(|f| error_json(f.error.as_ref())).collect();
    Ok(sqlx::query_as(END)
        .bind(batch.iter().map(|f| f.tenant).collect::<Vec<_>>())
        .bind(batch.iter().map(|f| f.id).collect::<Vec<_>>())
        .bind(batch.iter().map(|f| f.attempt).collect::<Vec<_>>())
        .bind(batch.iter().map(|f| f.owner).collect::<Vec<_>>())
        .bind(batch.iter().map(|f| f.ending.as_str()).collect::<Vec<_>>())
        .bind(batch.iter().map(|f| f.result.as_deref().map(RawValue::get)).collect::<Vec<_>>())
        .bind(errors)
        .bind(batch.iter().map(|f| f.detail.as_deref().map(RawValue::get)).collect::<Vec<_>>())
        .fetch_one(conn)
        .await?)
}

/// An attempt that failed for now.
#[derive(Debug)]
pub struct Retried {
    pub tenant: TenantId,
    pub id: JobId,
    pub attempt: i16,
    pub owner: WorkerId,
    pub wait: std::time::Duration,
    pub error: JobError,
    pub detail: Option<Box<RawValue>>,
}

impl Retried {
    /// The same attempt as the end of a cancelled job.
    pub fn cancelled(&self) -> Finished {
        Finished {
            tenant: self.tenant,
            id: self.id,
            attempt: self.attempt,
            owner: self.owner,
            ending: Ending::Cancelled,
            result: None,
            error: Some(self.error.clone()),
            detail: self.detail.clone(),
        }
    }
}

/// Stores failed attempts and when to try again.
///
/// Answers the jobs that were accepted. A job whose cancellation was asked for meanwhile is not: finish it as cancelled.
pub async fn retry(conn: &mut PgConnection, batch: &mut [Retried]) -> Result<Vec<JobId>> {
    batch.sort_unstable_by_key(|r| (r.tenant, r.id));
    Ok(sqlx::query_scalar(
        r#"with failed as (
               update job_live l
                  set running = false, lease_owner = null, later = true, run_at = ledger_now() + u.wait
                 from unnest($1::uuid[], $2::uuid[], $3::int2[], $4::uuid[], $5::interval[], $6::text[], $7::text[])
                      u(tenant_id, id, attempt, owner, wait, error, detail)
                where l.tenant_id = any (array[u.tenant_id]) and l.id = u.id
                  and l.running and l.attempt = u.attempt and l.lease_owner = u.owner
                  and not l.unwanted
               returning l.tenant_id, l.id, l.attempt, u.owner, l.started_at, u.error, u.detail
           )
           insert into job_attempts (tenant_id, id, attempt, ended, worker_id, started_at, finished_at, error, detail)
           select tenant_id, id, attempt, 'retry', owner, started_at, ledger_now(), error, detail from failed
           returning id"#,
    )
    .bind(batch.iter().map(|r| r.tenant).collect::<Vec<_>>())
    .bind(batch.iter().map(|r| r.id).collect::<Vec<_>>())
    .bind(batch.iter().map(|r| r.attempt).collect::<Vec<_>>())
    .bind(batch.iter().map(|r| r.owner).collect::<Vec<_>>())
    .bind(batch.iter().map(|r| interval(r.wait)).collect::<Vec<_>>())
    .bind(batch.iter().map(|r| error_json(Some(&r.error))).collect::<Vec<_>>())
    .bind(batch.iter().map(|r| r.detail.as_deref().map(RawValue::get)).collect::<Vec<_>>())
    .fetch_all(conn)
    .await?)
}

/// An attempt that is put off and does not count.
#[derive(Debug)]
pub struct Snoozed {
    pub tenant: TenantId,
    pub id: JobId,
    pub attempt: i16,
    pub owner: WorkerId,
    pub wait: std::time::Duration,
}

impl Snoozed {
    /// The same attempt as the end of a cancelled job.
    pub fn cancelled(&self) -> Finished {
        Finished {
            tenant: self.tenant,
            id: self.id,
            attempt: self.attempt,
            owner: self.owner,
            ending: Ending::Cancelled,
            result: None,
            error: None,
            detail: None,
        }
    }
}

/// Puts running jobs off at no cost of an attempt. Answers those that were accepted, as [`retry`] does.
pub async fn snooze(conn: &mut PgConnection, batch: &mut [Snoozed]) -> Result<Vec<JobId>> {
    batch.sort_unstable_by_key(|s| (s.tenant, s.id));
    Ok(sqlx::query_scalar(
        r#"update job_live l
              set running = false, lease_owner = null, attempt = l.attempt - 1, later = true,
                  run_at = ledger_now() + u.wait
             from unnest($1::uuid[], $2::uuid[], $3::int2[], $4::uuid[], $5::interval[])
                  u(tenant_id, id, attempt, owner, wait)
            where l.tenant_id = any (array[u.tenant_id]) and l.id = u.id
              and l.running and l.attempt = u.attempt and l.lease_owner = u.owner
              and not l.unwanted
           returning l.id"#,
    )
    .bind(batch.iter().map(|s| s.tenant).collect::<Vec<_>>())
    .bind(batch.iter().map(|s| s.id).collect::<Vec<_>>())
    .bind(batch.iter().map(|s| s.attempt).collect::<Vec<_>>())
    .bind(batch.iter().map(|s| s.owner).collect::<Vec<_>>())
    .bind(batch.iter().map(|s| interval(s.wait)).collect::<Vec<_>>())
    .fetch_all(conn)
    .await?)
}

fn error_json(error: Option<&JobError>) -> Option<String> {
    error.and_then(|e| serde_json::to_string(e).ok())
}
