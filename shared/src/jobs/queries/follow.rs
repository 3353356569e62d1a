//! Jobs that are stored to run after others (decision 0019).

use std::collections::{HashMap, HashSet};

use sqlx::PgConnection;

use super::Ending;
use crate::Result;
use crate::infra::db::TenantTx;
use crate::infra::ids::{JobId, TenantId};
use crate::jobs::JobError;
use crate::jobs::chains::{OnFailure, Wait, predecessor_failed};

/// What became of waits.
#[derive(Debug, Default)]
pub struct Followed {
    /// Jobs that wait now. The others are due by their own time.
    pub waiting: HashSet<JobId>,
    /// Jobs that were cancelled at once, because a predecessor had ended badly.
    pub cancelled: HashMap<JobId, JobError>,
}

/// A predecessor that the tenant does not have, by its places: which wait, which of its predecessors.
pub type Unknown = (usize, usize);

/// Makes jobs wait that the same transaction has stored, for others that live, have ended, or were stored by it too.
///
/// Answers the unknown predecessors when there are any; nothing is to be committed then.
pub async fn follow(tx: &mut TenantTx, waits: &[Wait]) -> Result<Result<Followed, Vec<Unknown>>> {
    let live = hold_live(tx, waits).await?;
    let ended = ended(tx, waits, &live).await?;
    let mut unknown = Vec::new();
    let (mut waiting, mut cancelled) = (Vec::new(), Vec::new());
    for (n, wait) in waits.iter().enumerate() {
        let is_known = |id| live.contains(id) || ended.contains_key(id);
        unknown.extend(wait.after.iter().enumerate().filter(|(_, id)| !is_known(id)).map(|(m, _)| (n, m)));
        let failed =
            wait.after.iter().find_map(|id| ended.get(id).filter(|e| **e != Ending::Succeeded).map(|e| (id, e)));
        let pending: Vec<JobId> = wait.after.iter().copied().filter(|id| live.contains(id)).collect();
        match failed {
            Some((id, ending)) if wait.on_failure == OnFailure::Cancel => {
                cancelled.push((wait.job, predecessor_failed(*id, *ending)));
            }
            _ if !pending.is_empty() => waiting.push((wait, pending)),
            _ => {}
        }
    }
    if !unknown.is_empty() {
        return Ok(Err(unknown));
    }
    let tenant = tx.tenant();
    insert_links(tx, waits).await?;
    put_off(tx, tenant, waiting.iter().map(|(wait, _)| wait.job).chain(cancelled.iter().map(|(id, _)| *id))).await?;
    insert_waits(tx, tenant, &waiting).await?;
    let ends: Vec<_> = cancelled.iter().map(|(id, error)| (tenant, *id, error.clone())).collect();
    cancel_waiting(tx, &ends).await?;
    Ok(Ok(Followed {
        waiting: waiting.into_iter().map(|(wait, _)| wait.job).collect(),
        cancelled: cancelled.into_iter().collect(),
    }))
}

/// Marks those predecessors that live as followed, and holds them: whoever ends one waits for this transaction, and then
/// sees the mark.
async fn hold_live(tx: &mut TenantTx, waits: &[Wait]) -> Result<HashSet<JobId>> {
    let predecessors: HashSet<JobId> = waits.iter().flat_map(|wait| wait.after.iter().copied()).collect();
    let predecessors: Vec<JobId> = predecessors.into_iter().collect();
    let live: Vec<JobId> = sqlx::query_scalar(
        "select id from job_live where tenant_id = $1 and id = any ($2) order by id for no key update",
    )
    .bind(tx.tenant())
    .bind(predecessors)
    .fetch_all(&mut **tx)
    .await?;
    sqlx::query("update job_live set followed = true where tenant_id = $1 and id = any ($2) and not followed")
        .bind(tx.tenant())
        .bind(&live)
        .execute(&mut **tx)
        .await?;
    Ok(live.into_iter().collect())
}

/// How the other predecessors ended. To be asked after [`hold_live`]: one that ended meanwhile shows here.
async fn ended(tx: &mut TenantTx, waits: &[Wait], live: &HashSet<JobId>) -> Result<HashMap<JobId, Ending>> {
    let others: HashSet<JobId> =
        waits.iter().flat_map(|wait| wait.after.iter().copied()).filter(|id| !live.contains(id)).collect();
    if others.is_empty() {
        return Ok(HashMap::new());
    }
    let rows: Vec<(JobId, String)> =
        sqlx::query_as("select id, state::text from job_outcomes where tenant_id = $1 and id = any ($2)")
            .bind(tx.tenant())
            .bind(others.into_iter().collect::<Vec<_>>())
            .fetch_all(&mut **tx)
            .await?;
    rows.into_iter().map(|(id, state)| Ok((id, state.parse()?))).collect()
}

async fn insert_links(tx: &mut TenantTx, waits: &[Wait]) -> Result<()> {
    // Arrays of arrays must be rectangular in PostgreSQL, so each list travels as text.
    let after = |wait: &Wait| wait.after.iter().map(JobId::to_string).collect::<Vec<_>>().join(",");
    sqlx::query(
        r#"insert into job_links (tenant_id, id, after, on_predecessor_failure)
           select $1, id, string_to_array(after, ',')::uuid[], policy
             from unnest($2::uuid[], $3::text[], $4::text[]) u(id, after, policy)
           on conflict (tenant_id, id) do update
              set after = excluded.after, on_predecessor_failure = excluded.on_predecessor_failure"#,
    )
    .bind(tx.tenant())
    .bind(waits.iter().map(|wait| wait.job).collect::<Vec<_>>())
    .bind(waits.iter().map(after).collect::<Vec<_>>())
    .bind(waits.iter().map(|wait| wait.on_failure.as_str()).collect::<Vec<_>>())
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Takes their time away from jobs that were just stored.
async fn put_off(tx: &mut TenantTx, tenant: TenantId, jobs: impl Iterator<Item = JobId>) -> Result<()> {
    sqlx::query("update job_live set run_at = not_yet(), later = false where tenant_id = $1 and id = any ($2)")
        .bind(tenant)
        .bind(jobs.collect::<Vec<_>>())
        .execute(&mut **tx)
        .await?;
    Ok(())
}

async fn insert_waits(tx: &mut TenantTx, tenant: TenantId, waiting: &[(&Wait, Vec<JobId>)]) -> Result<()> {
    let pending = |after: &[JobId]| i32::try_from(after.len()).unwrap_or(i32::MAX);
    sqlx::query(
        r#"insert into job_waits (tenant_id, id, pending, on_predecessor_failure)
           select $1, id, pending, policy from unnest($2::uuid[], $3::int4[], $4::text[]) u(id, pending, policy)"#,
    )
    .bind(tenant)
    .bind(waiting.iter().map(|(wait, _)| wait.job).collect::<Vec<_>>())
    .bind(waiting.iter().map(|(_, after)| pending(after)).collect::<Vec<_>>())
    .bind(waiting.iter().map(|(wait, _)| wait.on_failure.as_str()).collect::<Vec<_>>())
    .execute(&mut **tx)
    .await?;
    let pairs = waiting.iter().flat_map(|(wait, after)| after.iter().map(|id| (*id, wait.job)));
    let (followed, followers): (Vec<JobId>, Vec<JobId>) = pairs.unzip();
    sqlx::query(
        r#"insert into job_followers (tenant_id, id, follower_id)
           select $1, id, follower_id from unnest($2::uuid[], $3::uuid[]) u(id, follower_id)"#,
    )
    .bind(tenant)
    .bind(followed)
    .bind(followers)
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Cancels those of `jobs` that still wait for others. Their own ends are to be told, where somebody follows. Answers how
/// many.
///
/// `jobs` are sorted, or locked already, so that no two batches can deadlock.
pub(super) async fn cancel_waiting(conn: &mut PgConnection, jobs: &[(TenantId, JobId, JobError)]) -> Result<u64> {
    if jobs.is_empty() {
        return Ok(0);
    }
    let errors: Result<Vec<String>, _> = jobs.iter().map(|(_, _, error)| serde_json::to_string(error)).collect();
    let done = sqlx::query(
        r#"with ended as (
               delete from job_live l using unnest($1::uuid[], $2::uuid[], $3::text[]) u(tenant_id, id, error)
                where l.tenant_id = any (array[u.tenant_id]) and l.id = u.id
                  and not l.running and (l.run_at = not_yet()) is true
               returning l.tenant_id, l.id, l.attempt, l.followed, u.error
           ), told as (
               insert into job_ends (tenant_id, id, state)
               select tenant_id, id, 'cancelled' from ended where followed
           )
           insert into job_outcomes (tenant_id, id, state, attempt, finished_at, error)
           select tenant_id, id, 'cancelled', attempt, ledger_now(), error from ended"#,
    )
    .bind(jobs.iter().map(|(tenant, ..)| *tenant).collect::<Vec<_>>())
    .bind(jobs.iter().map(|(_, id, _)| *id).collect::<Vec<_>>())
    .bind(errors?)
    .execute(conn)
    .await?;
    Ok(done.rows_affected())
}
