//! Replaying and cancelling many jobs: page by page in the order of their ids, each page with the position after it.

use std::time::Duration;

use sqlx::{Postgres, QueryBuilder};

use super::intake;
use crate::Result;
use crate::infra::db::TenantTx;
use crate::infra::ids::JobId;
use crate::jobs::bulk::{CancelJobs, Counts, ReplayJobs, Selection};
use crate::jobs::dispatch::Ticket;
use crate::jobs::{Job, State, Unique};

/// Rows looked at by one page at most.
pub const PAGE: usize = 500;

/// How far a bulk job has come.
#[derive(Debug, Clone)]
pub struct Sweep {
    pub position: JobId,
    pub until: JobId,
    pub counts: Counts,
    /// Since it last did something.
    pub idle: Option<Duration>,
}

#[derive(sqlx::FromRow)]
struct SweepRow {
    position: JobId,
    until: JobId,
    matched: i64,
    done: i64,
    skipped: i64,
    idle_ms: Option<i64>,
}

/// Where `job` stands, held until the transaction ends: of two workers that both believe to have it, one waits and goes
/// on where the other was.
pub async fn lock_sweep(tx: &mut TenantTx, job: JobId, selection: &Selection) -> Result<Sweep> {
    sqlx::query(
        "insert into job_bulk (tenant_id, job_id, position, until)
         values ($1, $2, coalesce(uuid_floor($3), '00000000-0000-0000-0000-000000000000'), least(uuid_floor($4), $2))
         on conflict do nothing",
    )
    .bind(tx.tenant())
    .bind(job)
    .bind(selection.from)
    .bind(selection.to)
    .execute(&mut **tx)
    .await?;
    let row: SweepRow = sqlx::query_as(
        "select position, until, matched, done, skipped,
                (extract(epoch from ledger_now() - stepped_at) * 1000)::int8 as idle_ms
           from job_bulk where tenant_id = $1 and job_id = $2 for update",
    )
    .bind(tx.tenant())
    .bind(job)
    .fetch_one(&mut **tx)
    .await?;
    let SweepRow { position, until, matched, done, skipped, idle_ms } = row;
    let idle = idle_ms.map(|ms| Duration::from_millis(u64::try_from(ms).unwrap_or(0)));
    Ok(Sweep { position, until, counts: Counts { matched, done, skipped }, idle })
}

/// Keeps where `job` stands now. `acted` says that it did something to other jobs.
pub async fn save_sweep(tx: &mut TenantTx, job: JobId, sweep: &Sweep, acted: bool) -> Result<()> {
    sqlx::query(
        "update job_bulk set position = $3, matched = $4, done = $5, skipped = $6,
                             stepped_at = case when $7 then ledger_now() else stepped_at end
          where tenant_id = $1 and job_id = $2",
    )
    .bind(tx.tenant())
    .bind(job)
    .bind(sweep.position)
    .bind(sweep.counts.matched)
    .bind(sweep.counts.done)
    .bind(sweep.counts.skipped)
    .bind(acted)
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// One page of jobs, in the order of their ids.
#[derive(Debug)]
pub struct SweepPage {
    /// Those that match.
    pub matching: Vec<JobId>,
    /// The last one that was looked at; none when there are no more.
    pub last: Option<JobId>,
}

/// Reads on among jobs that ended as `state`. Bulk jobs are never among them: a failed cancellation of many is not to be
/// taken up again by a replay of everything.
pub async fn page_of_ended(tx: &mut TenantTx, sweep: &Sweep, state: State, selection: &Selection) -> Result<SweepPage> {
    let ids: Vec<JobId> = sqlx::query_scalar(
        "select id from job_outcomes
          where tenant_id = $1 and state = $2::job_end and state <> 'succeeded' and id > $3 and id < $4
          order by id limit $5",
    )
    .bind(tx.tenant())
    .bind(state.as_str())
    .bind(sweep.position)
    .bind(sweep.until)
    .bind(PAGE as i64)
    .fetch_all(&mut **tx)
    .await?;
    narrow(tx, ids.clone(), ids, selection, &[ReplayJobs::KIND, CancelJobs::KIND]).await
}

/// Reads on among jobs that live.
pub async fn page_of_live(tx: &mut TenantTx, sweep: &Sweep, selection: &Selection) -> Result<SweepPage> {
    let mut query = QueryBuilder::<Postgres>::new("select l.id, ");
    query.push(is_in(selection.state)).push(" from job_live l where l.tenant_id = ").push_bind(tx.tenant());
    query.push(" and l.id > ").push_bind(sweep.position).push(" and l.id < ").push_bind(sweep.until);
    query.push(" order by l.id limit ").push_bind(PAGE as i64);
    let rows: Vec<(JobId, bool)> = query.build_query_as().fetch_all(&mut **tx).await?;
    let seen = rows.iter().map(|(id, _)| *id).collect();
    let in_state = rows.into_iter().filter(|(_, fits)| *fits).map(|(id, _)| id).collect();
    narrow(tx, seen, in_state, selection, &[]).await
}

/// Whether a row of `job_live l` is in `state`.
fn is_in(state: Option<State>) -> &'static str {
    match state {
        None => "true",
        Some(State::Scheduled) => "not l.running and l.run_at > ledger_now() and l.attempt = 0",
        Some(State::Retrying) => "not l.running and l.run_at > ledger_now() and l.attempt > 0",
        Some(State::Queued) => "not l.running and l.run_at <= ledger_now()",
        Some(State::Running) => "l.running",
        Some(State::Succeeded | State::Failed | State::Cancelled) => "false",
    }
}

/// Those of `candidates` whose job fits the rest of `selection` and is of none of the kinds `but`.
async fn narrow(
    tx: &mut TenantTx,
    seen: Vec<JobId>,
    candidates: Vec<JobId>,
    selection: &Selection,
    but: &[&str],
) -> Result<SweepPage> {
    let last = seen.last().copied();
    let Selection { kind, queue, tag, .. } = selection;
    if candidates.is_empty() || (kind.is_none() && queue.is_none() && tag.is_none() && but.is_empty()) {
        return Ok(SweepPage { matching: candidates, last });
    }
    // The bounds let PostgreSQL open only the partitions that the page touches.
    let matching = sqlx::query_scalar(
        "select j.id from unnest($2::uuid[]) u(id)
           join jobs j on j.tenant_id = $1 and j.id = u.id and j.id between $3 and $4
          where ($5::text is null or j.kind = $5) and ($6::text is null or j.queue = $6)
            and ($7::text is null or j.tags @> array[$7]) and j.kind <> all ($8)
          order by j.id",
    )
    .bind(tx.tenant())
    .bind(&candidates)
    .bind(candidates.first())
    .bind(candidates.last())
    .bind(kind)
    .bind(queue)
    .bind(tag)
    .bind(but)
    .fetch_all(&mut **tx)
    .await?;
    Ok(SweepPage { matching, last })
}

/// Runs those of `ids` that ended as `state` once more, as [`retry_now`](super::retry_now) does; the ones whose unique
/// key is held meanwhile are left alone. Answers those that live again.
pub async fn replay(tx: &mut TenantTx, ids: &[JobId], state: State) -> Result<Vec<Ticket>> {
    let free = hold_keys_again(tx, ids).await?;
    super::control::revive(tx, &free, Some(state)).await
}

/// Takes the unique keys of jobs that are about to live again, in the keys' order. Answers those that have what they need.
async fn hold_keys_again(tx: &mut TenantTx, ids: &[JobId]) -> Result<Vec<JobId>> {
    let tenant = tx.tenant();
    let keyed: Vec<(JobId, String)> = sqlx::query_as(
        "select j.id, j.unique_key from unnest($2::uuid[]) u(id)
           join jobs j on j.tenant_id = $1 and j.id = u.id and j.id between $3 and $4
          where j.unique_key is not null order by j.unique_key, j.id",
    )
    .bind(tenant)
    .bind(ids)
    .bind(ids.first())
    .bind(ids.last())
    .fetch_all(&mut **tx)
    .await?;
    let mut held = Vec::new();
    for same_key in keyed.chunk_by(|a, b| a.1 == b.1) {
        let (first, key) = &same_key[0];
        let unique = Unique { key: key.clone(), hold: None };
        // Of several with one key the first lives again; it has no live row yet by which the next would be refused.
        let taken = intake::hold_key(tx, tenant, *first, &unique).await?.is_some();
        held.extend(same_key.iter().skip(usize::from(!taken)).map(|(id, _)| *id));
    }
    Ok(ids.iter().copied().filter(|id| !held.contains(id)).collect())
}

/// Cancels those of `ids` that wait and asks for the cancellation of those that run, if they are still in `state`. Their
/// ends are told by the scheduler to those who follow them. Answers how many.
pub async fn cancel_many(tx: &mut TenantTx, ids: &[JobId], state: Option<State>) -> Result<u64> {
    let mut query = QueryBuilder::<Postgres>::new("select l.id, l.running from job_live l where l.tenant_id = ");
    query.push_bind(tx.tenant()).push(" and l.id = any (").push_bind(ids).push(") and ").push(is_in(state));
    query.push(" order by l.id for update");
    let rows: Vec<(JobId, bool)> = query.build_query_as().fetch_all(&mut **tx).await?;
    let (running, waiting): (Vec<_>, Vec<_>) = rows.into_iter().partition(|(_, running)| *running);
    let ids = |rows: &[(JobId, bool)]| rows.iter().map(|(id, _)| *id).collect::<Vec<_>>();
    sqlx::query(
        "with marked as (
             update job_live l set unwanted = true from unnest($2::uuid[]) u(id)
              where l.tenant_id = $1 and l.id = u.id and not l.unwanted
         )
         insert into job_cancels (tenant_id, job_id) select $1, u.id from unnest($2::uuid[]) u(id)
         on conflict do nothing",
    )
    .bind(tx.tenant())
    .bind(ids(&running))
    .execute(&mut **tx)
    .await?;
    sqlx::query(
        r#"with ended as (
               delete from job_live l using unnest($2::uuid[]) u(id) where l.tenant_id = $1 and l.id = u.id
               returning l.tenant_id, l.id, l.attempt, l.followed
           ), to_tell as (
               insert into job_ends (tenant_id, id, state)
               select tenant_id, id, 'cancelled' from ended where followed
           )
           insert into job_outcomes (tenant_id, id, state, attempt, finished_at)
           select tenant_id, id, 'cancelled', attempt, ledger_now() from ended"#,
    )
    .bind(tx.tenant())
    .bind(ids(&waiting))
    .execute(&mut **tx)
    .await?;
    Ok((running.len() + waiting.len()) as u64)
}
