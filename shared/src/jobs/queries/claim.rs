//! Taking jobs to run, and giving them back.

use std::collections::HashMap;

use serde_json::value::RawValue;
use sqlx::PgConnection;

use crate::infra::ids::{JobId, TenantId, WorkerId};
use crate::jobs::Cause;
use crate::jobs::dispatch::Ticket;
use crate::{Error, Result};

/// A job that this worker now runs.
#[derive(Debug)]
pub struct Claimed {
    pub tenant: TenantId,
    pub id: JobId,
    /// With `owner` the fence: a result is accepted from this worker for this attempt only.
    pub attempt: i16,
    pub owner: WorkerId,
    /// Attempts that ended with their worker, and do not count against `max_attempts`.
    pub lost: i16,
    pub max_attempts: i16,
    pub timeout_ms: i32,
    pub kind: String,
    pub payload: Box<RawValue>,
    /// How long the job was due before this claim.
    pub wait_ms: i64,
    pub cause: Cause,
}

#[derive(sqlx::FromRow)]
struct Row {
    tenant_id: TenantId,
    id: JobId,
    attempt: i16,
    lost: i16,
    max_attempts: i16,
    wait_ms: i64,
    timeout_ms: i32,
    kind: String,
    payload: String,
    request_id: Option<String>,
    traceparent: Option<String>,
}

/// Looks up each ticket by key, in whatever state the table's statistics are: plain equalities could also be met by a
/// walk over all live rows in an index's order, which looks cheap where the last ANALYZE saw none (decision 0013). The
/// bounds on `j.id` let PostgreSQL open only the partitions that the batch touches.
pub const CLAIM: &str = r#"with taken as (
       update job_live l
          set running = true, attempt = l.attempt + 1, lease_owner = $3, started_at = ledger_now()
         from unnest($1::uuid[], $2::uuid[]) u(tenant_id, id)
        where l.tenant_id = any (array[u.tenant_id]) and l.id = u.id
          and not l.running and (l.run_at <= ledger_now()) is true
          and not exists (select from queue_pauses p where p.tenant_id = any (array[l.tenant_id]) and (p.queue = l.queue) is true)
          and exists (select from workers w where w.id = $3 and w.lost_at is null and w.stopped_at is null)
       returning l.tenant_id, l.id, l.attempt, l.lost, l.max_attempts,
         (extract(epoch from ledger_now() - l.run_at) * 1000)::int8 as wait_ms
   )
   select t.*, j.timeout_ms, j.kind, j.payload, j.request_id, j.traceparent
     from taken t
     join jobs j on j.tenant_id = any (array[t.tenant_id]) and j.id = t.id and j.id between $4 and $5"#;

/// Code of the refusal of a claim by a worker that was given up: it is to begin afresh under another id.
pub const LEASE_GONE: &str = "lease_gone";

/// Claims those of `tickets` that are due, not running and not paused. Duplicates and finished jobs fall away here; the
/// others come back in the order of the tickets.
///
/// # Errors
/// [`Error::Conflict`] [`LEASE_GONE`] when `owner` was given up: what it claimed now would be found half a minute later.
pub async fn claim(conn: &mut PgConnection, owner: WorkerId, tickets: &[Ticket]) -> Result<Vec<Claimed>> {
    let mut jobs: Vec<_> = tickets.iter().map(|t| (t.tenant, t.id)).collect();
    jobs.sort_unstable();
    let (tenants, ids): (Vec<TenantId>, Vec<JobId>) = jobs.into_iter().unzip();
    let mut rows: Vec<Row> = sqlx::query_as(CLAIM)
        .bind(&tenants)
        .bind(&ids)
        .bind(owner)
        .bind(ids.iter().min())
        .bind(ids.iter().max())
        .fetch_all(&mut *conn)
        .await?;
    if rows.is_empty() && !ids.is_empty() && !is_alive(conn, owner).await? {
        return Err(Error::conflict(LEASE_GONE, format!("worker {owner} was given up")));
    }
    let places: HashMap<JobId, usize> = tickets.iter().enumerate().map(|(place, t)| (t.id, place)).collect();
    rows.sort_unstable_by_key(|row| places.get(&row.id));
    rows.into_iter().map(|row| row.into_claimed(owner)).collect()
}

async fn is_alive(conn: &mut PgConnection, owner: WorkerId) -> Result<bool> {
    let alive = "select exists (select from workers where id = $1 and lost_at is null and stopped_at is null)";
    Ok(sqlx::query_scalar(alive).bind(owner).fetch_one(conn).await?)
}

impl Row {
    fn into_claimed(self, owner: WorkerId) -> Result<Claimed> {
        Ok(Claimed {
            tenant: self.tenant_id,
            id: self.id,
            attempt: self.attempt,
            owner,
            lost: self.lost,
            max_attempts: self.max_attempts,
            timeout_ms: self.timeout_ms,
            kind: self.kind,
            payload: RawValue::from_string(self.payload)?,
            wait_ms: self.wait_ms,
            cause: Cause { request_id: self.request_id, traceparent: self.traceparent },
        })
    }
}

/// Gives jobs back as if they had not been claimed: at once due again, at no cost of an attempt. One whose cancellation
/// was asked for ends as cancelled instead: nobody is to start it any more.
///
/// Answers those that were given back; a job that is no longer `owner`'s is left alone.
pub async fn release(conn: &mut PgConnection, owner: WorkerId, jobs: &[(TenantId, JobId)]) -> Result<Vec<Ticket>> {
    let mut jobs = jobs.to_vec();
    jobs.sort_unstable();
    let (tenants, ids): (Vec<_>, Vec<_>) = jobs.into_iter().unzip();
    Ok(sqlx::query_as(
        r#"with held as (
               select l.tenant_id, l.id, l.unwanted
                 from unnest($1::uuid[], $2::uuid[]) u(tenant_id, id)
                 join job_live l on l.tenant_id = any (array[u.tenant_id]) and l.id = u.id
                where l.running and l.lease_owner = $3
                order by l.tenant_id, l.id
                  for update of l
           ), ended as (
               delete from job_live l using held h
                where l.tenant_id = any (array[h.tenant_id]) and l.id = h.id and h.unwanted
               returning l.*
           ), to_tell as (
               insert into job_ends (tenant_id, id, state) select tenant_id, id, 'cancelled' from ended where followed
           ), outcomes as (
               insert into job_outcomes (tenant_id, id, state, attempt, worker_id, started_at, finished_at)
               select tenant_id, id, 'cancelled', attempt, lease_owner, started_at, ledger_now() from ended
           )
           update job_live l
              set running = false, attempt = l.attempt - 1, lease_owner = null
             from held h
            where l.tenant_id = any (array[h.tenant_id]) and l.id = h.id and not h.unwanted
           returning l.tenant_id, l.id, l.queue, l.priority"#,
    )
    .bind(tenants)
    .bind(ids)
    .bind(owner)
    .fetch_all(conn)
    .await?)
}
