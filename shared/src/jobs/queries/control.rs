//! Stopping, repeating and pausing, at a tenant's wish.

use sqlx::PgConnection;

use super::intake;
use crate::infra::db::TenantTx;
use crate::infra::ids::{JobId, TenantId};
use crate::jobs::dispatch::Ticket;
use crate::jobs::{Queue, State, Unique};
use crate::{Error, Result};

/// What became of a wish to cancel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CancelResult {
    /// It waited, and has ended.
    Cancelled,
    /// It runs; its worker is told within a second.
    Requested,
}

/// Cancels a job that waits, or asks for the cancellation of one that runs. Its end is to be told to those who follow it:
/// see [`Followers`](crate::jobs::followers::Followers).
///
/// # Errors
/// [`Error::NotFound`]; [`Error::Conflict`] `job_has_ended` when there is nothing to cancel any more.
pub async fn cancel(tx: &mut TenantTx, id: JobId) -> Result<CancelResult> {
    let running: Option<bool> =
        sqlx::query_scalar("select running from job_live where tenant_id = $1 and id = $2 for update")
            .bind(tx.tenant())
            .bind(id)
            .fetch_optional(&mut **tx)
            .await?;
    match running {
        Some(true) => {
            sqlx::query(
                "with marked as (update job_live set unwanted = true where tenant_id = $1 and id = $2 and not unwanted)
                 insert into job_cancels (tenant_id, job_id) values ($1, $2) on conflict do nothing",
            )
            .bind(tx.tenant())
            .bind(id)
            .execute(&mut **tx)
            .await?;
            Ok(CancelResult::Requested)
        }
        Some(false) => {
            sqlx::query(
                r#"with ended as (
                       delete from job_live where tenant_id = $1 and id = $2 returning *
                   ), to_tell as (
                       insert into job_ends (tenant_id, id, state)
                       select tenant_id, id, 'cancelled' from ended where followed
                   )
                   insert into job_outcomes (tenant_id, id, state, attempt, finished_at)
                   select tenant_id, id, 'cancelled', attempt, ledger_now() from ended"#,
            )
            .bind(tx.tenant())
            .bind(id)
            .execute(&mut **tx)
            .await?;
            Ok(CancelResult::Cancelled)
        }
        None => match ending_of(tx, id).await? {
            Some(Some(state)) => {
                Err(Error::conflict("job_has_ended", format!("job {id} has ended already: it is {state}")))
            }
            Some(None) => Box::pin(cancel(tx, id)).await, // it was run again between the two looks
            None => Err(Error::NotFound("job")),
        },
    }
}

/// How a job ended, if it has ended; nothing at all if there is no such job.
async fn ending_of(tx: &mut TenantTx, id: JobId) -> Result<Option<Option<String>>> {
    Ok(sqlx::query_scalar(
        "select o.state::text from jobs j left join job_outcomes o on o.tenant_id = j.tenant_id and o.id = j.id
          where j.tenant_id = $1 and j.id = $2",
    )
    .bind(tx.tenant())
    .bind(id)
    .fetch_optional(&mut **tx)
    .await?)
}

/// Runs a job that failed or was cancelled once more, from now, with as many attempts as it had at first.
///
/// The outcome it had becomes one of its attempts. A wish to cancel it that came too late, or has had its effect, is
/// forgotten.
///
/// # Errors
/// [`Error::NotFound`]; [`Error::Conflict`] `job_not_retryable` when it succeeded or has not ended, `job_not_unique` when
/// another job has its unique key now.
pub async fn retry_now(tx: &mut TenantTx, id: JobId) -> Result<Ticket> {
    hold_key_again(tx, id).await?;
    let again = revive(tx, &[id], None).await?.pop();
    match again {
        Some(ticket) => Ok(ticket),
        None => {
            let job = super::get(tx, id).await?;
            let state: State = job.state();
            let detail = format!("job {id} is {}; only a failed or cancelled job can be retried", state.as_str());
            Err(Error::conflict("job_not_retryable", detail))
        }
    }
}

/// Gives jobs that ended as `state`, or as anything but succeeded, a live row again, whose keys are held by now. The
/// bounds on the ids let PostgreSQL open only the partitions that they are in. Answers those that live again.
pub(super) async fn revive(tx: &mut TenantTx, ids: &[JobId], state: Option<State>) -> Result<Vec<Ticket>> {
    Ok(sqlx::query_as(
        r#"with over as (
               delete from job_outcomes o using unnest($2::uuid[]) u(id)
                where o.tenant_id = $1 and o.id = u.id and o.id between $4 and $5
                  and o.state <> 'succeeded' and ($3::text is null or o.state = $3::job_end)
               returning o.*
           ), kept as (
               insert into job_attempts (tenant_id, id, attempt, ended, worker_id, started_at, finished_at, error, detail)
               select tenant_id, id, attempt, state::text, worker_id, started_at, finished_at, error, detail
                 from over where attempt > 0
               on conflict do nothing
           ), wish as (
               delete from job_cancels c using over o where c.tenant_id = o.tenant_id and c.job_id = o.id
           )
           insert into job_live (tenant_id, id, queue, priority, run_at, later, attempt, max_attempts)
           select j.tenant_id, j.id, j.queue, j.priority, ledger_now(), false, o.attempt,
                  least(o.attempt::int + j.max_attempts, 32000)
             from over o join jobs j on j.tenant_id = o.tenant_id and j.id = o.id and j.id between $4 and $5
           returning tenant_id, id, queue, priority"#,
    )
    .bind(tx.tenant())
    .bind(ids)
    .bind(state.map(State::as_str))
    .bind(ids.iter().min())
    .bind(ids.iter().max())
    .fetch_all(&mut **tx)
    .await?)
}

/// Takes the unique key of a job that is about to live again.
async fn hold_key_again(tx: &mut TenantTx, id: JobId) -> Result<()> {
    let tenant = tx.tenant();
    let key: Option<String> = sqlx::query_scalar(
        "select j.unique_key from jobs j
           join job_outcomes o on o.tenant_id = j.tenant_id and o.id = j.id and o.state <> 'succeeded'
          where j.tenant_id = $1 and j.id = $2 and j.unique_key is not null",
    )
    .bind(tenant)
    .bind(id)
    .fetch_optional(&mut **tx)
    .await?;
    let Some(key) = key else { return Ok(()) };
    let unique = Unique { key, hold: None };
    match intake::hold_key(tx, tenant, id, &unique).await? {
        None => Ok(()),
        Some(holder) => Err(intake::not_unique(&unique.key, holder)),
    }
}

/// Wishes to cancel among the jobs that a worker runs.
pub async fn list_cancels(conn: &mut PgConnection, running: &[(TenantId, JobId)]) -> Result<Vec<JobId>> {
    let (tenants, ids): (Vec<_>, Vec<_>) = running.iter().copied().unzip();
    Ok(sqlx::query_scalar(
        "select c.job_id from unnest($1::uuid[], $2::uuid[]) u(tenant_id, id)
           join job_cancels c on c.tenant_id = u.tenant_id and c.job_id = u.id",
    )
    .bind(tenants)
    .bind(ids)
    .fetch_all(conn)
    .await?)
}

/// Pauses a queue for the current tenant, everywhere. False when it was paused already.
pub async fn pause(tx: &mut TenantTx, queue: Queue) -> Result<bool> {
    let done = sqlx::query("insert into queue_pauses (tenant_id, queue) values ($1, $2) on conflict do nothing")
        .bind(tx.tenant())
        .bind(queue.as_str())
        .execute(&mut **tx)
        .await?;
    Ok(done.rows_affected() == 1)
}

/// Resumes a queue for the current tenant. False when it was not paused.
pub async fn resume(tx: &mut TenantTx, queue: Queue) -> Result<bool> {
    let done = sqlx::query("delete from queue_pauses where tenant_id = $1 and queue = $2")
        .bind(tx.tenant())
        .bind(queue.as_str())
        .execute(&mut **tx)
        .await?;
    Ok(done.rows_affected() == 1)
}

/// Paused (tenant, queue) pairs: all of them for the system, the current tenant's for a tenant.
pub async fn list_pauses(conn: &mut PgConnection) -> Result<Vec<(TenantId, Queue)>> {
    let rows: Vec<(TenantId, String)> =
        sqlx::query_as("select tenant_id, queue from queue_pauses limit 100000").fetch_all(conn).await?;
    Ok(rows.into_iter().filter_map(|(tenant, queue)| Some((tenant, queue.parse().ok()?))).collect())
}
