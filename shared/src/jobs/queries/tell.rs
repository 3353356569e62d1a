//! Telling ends to those who wait for them (decision 0019).
//!
//! Each step is a transaction of its own, and any process may do it at any time: rows of `job_ends` are taken by one at a
//! time, and what a step does, it does to the row of the follower, under its lock. Locks are taken in one order: ends,
//! waits, batches, live rows, alerts, each sorted.

use std::collections::{BTreeMap, HashMap};

use sqlx::PgConnection;

use super::Ending;
use super::count::{Counts, count_ends};
use super::follow::cancel_waiting;
use crate::Result;
use crate::alerts::queries::note_failures;
use crate::infra::ids::{BatchId, JobId, TenantId};
use crate::jobs::chains::{OnFailure, predecessor_failed};
use crate::jobs::dispatch::Ticket;
use crate::jobs::{JobError, Queue};

/// Ends taken by one step.
const ENDS: i64 = 200;
/// Followers told by one step: a job may have any number of them.
const FOLLOWERS: i64 = 2_000;
/// Rows of `job_followers` that one look at what was forgotten goes through.
const LOOK: i64 = 1_000;

/// What a step did.
#[derive(Debug, Default)]
pub struct Told {
    /// Jobs that need not wait any more and are due, and jobs that tell of failures: to be offered after the commit.
    pub due: Vec<Ticket>,
    pub cancelled: u64,
    /// There was something to tell, and there may be more.
    pub more: bool,
}

type Key = (TenantId, JobId);

#[derive(Debug, sqlx::FromRow)]
struct End {
    seq: i64,
    tenant_id: TenantId,
    id: JobId,
    state: String,
}

#[derive(Debug, sqlx::FromRow)]
struct Follower {
    tenant_id: TenantId,
    id: JobId,
    follower_id: uuid::Uuid,
    is_batch: bool,
    seq: i64,
}

/// What followers are told.
#[derive(Debug, Default)]
struct News {
    /// The predecessors of a waiting job that have ended, and how. Sorted.
    jobs: BTreeMap<Key, Vec<(JobId, Ending)>>,
    batches: BTreeMap<(TenantId, BatchId), Counts>,
}

#[derive(Debug, sqlx::FromRow)]
struct Waiting {
    tenant_id: TenantId,
    id: JobId,
    pending: i32,
    on_predecessor_failure: String,
}

/// What is to become of those who waited.
#[derive(Debug, Default)]
struct Fates {
    /// Still pending, and how many.
    wait_on: Vec<(Key, i32)>,
    release: Vec<Key>,
    cancel: Vec<(TenantId, JobId, JobError)>,
}

/// Tells some ends to those who wait for them: releases jobs whose last predecessor has ended, cancels jobs by their
/// policy, counts the jobs of batches, raises the alerts of jobs that failed. Again until there is nothing [`more`](Told::more).
pub async fn tell_ends(conn: &mut PgConnection) -> Result<Told> {
    let ends: Vec<End> = sqlx::query_as(
        "select seq, tenant_id, id, state::text from job_ends order by seq limit $1 for update skip locked",
    )
    .bind(ENDS)
    .fetch_all(&mut *conn)
    .await?;
    if ends.is_empty() {
        return Ok(Told::default());
    }
    let followers = take_followers(conn, &ends).await?;
    let mut alerting = Vec::new();
    if i64::try_from(followers.len()).is_ok_and(|told| told < FOLLOWERS) {
        alerting.extend(ends.iter().filter(|end| end.state == "failed").map(|end| (end.tenant_id, end.id)));
        alerting.sort_unstable();
        alerting.dedup();
        sqlx::query("delete from job_ends where seq = any ($1)")
            .bind(ends.iter().map(|end| end.seq).collect::<Vec<_>>())
            .execute(&mut *conn)
            .await?;
    }
    let news = news(&ends, &followers)?;
    let mut fates = decide(lock_waits(conn, &news.jobs).await?, &news.jobs)?;
    fates.release.extend(count_ends(conn, &news.batches).await?);
    let (mut due, cancelled) = carry_out(conn, &fates).await?;
    due.extend(note_failures(conn, &alerting).await?.iter().map(Ticket::from));
    Ok(Told { due, cancelled, more: true })
}

/// Those who followed a job before its end.
async fn take_followers(conn: &mut PgConnection, ends: &[End]) -> Result<Vec<Follower>> {
    // The last end of each job: whoever followed before an earlier one did so before it too.
    let last: BTreeMap<Key, i64> = ends.iter().map(|end| ((end.tenant_id, end.id), end.seq)).collect();
    Ok(sqlx::query_as(
        r#"delete from job_followers f
            using (select f.tenant_id, f.id, f.follower_id
                     from unnest($1::int8[], $2::uuid[], $3::uuid[]) e(seq, tenant_id, id)
                     join job_followers f
                       on f.tenant_id = any (array[e.tenant_id]) and f.id = e.id and f.seq < e.seq
                    limit $4) told
            where f.tenant_id = told.tenant_id and f.id = told.id and f.follower_id = told.follower_id
           returning f.tenant_id, f.id, f.follower_id, f.is_batch, f.seq"#,
    )
    .bind(last.values().copied().collect::<Vec<_>>())
    .bind(last.keys().map(|(tenant, _)| *tenant).collect::<Vec<_>>())
    .bind(last.keys().map(|(_, id)| *id).collect::<Vec<_>>())
    .bind(FOLLOWERS)
    .fetch_all(conn)
    .await?)
}

fn news(ends: &[End], followers: &[Follower]) -> Result<News> {
    let mut by_job: HashMap<Key, Vec<(i64, Ending)>> = HashMap::new();
    for end in ends {
        by_job.entry((end.tenant_id, end.id)).or_default().push((end.seq, end.state.parse()?));
    }
    let mut news = News::default();
    for follower in followers {
        // A job that was run again may have ended twice: the first end since it was followed counts.
        let ends = by_job.get(&(follower.tenant_id, follower.id)).into_iter().flatten();
        let first = ends.filter(|(seq, _)| *seq > follower.seq).min_by_key(|(seq, _)| *seq);
        let Some(&(_, ending)) = first else { continue };
        if follower.is_batch {
            news.batches.entry((follower.tenant_id, BatchId(follower.follower_id))).or_default().add(ending);
        } else {
            let key = (follower.tenant_id, JobId(follower.follower_id));
            news.jobs.entry(key).or_default().push((follower.id, ending));
        }
    }
    news.jobs.values_mut().for_each(|ended| ended.sort_unstable_by_key(|(id, _)| *id));
    Ok(news)
}

async fn lock_waits(conn: &mut PgConnection, news: &BTreeMap<Key, Vec<(JobId, Ending)>>) -> Result<Vec<Waiting>> {
    let (tenants, ids): (Vec<_>, Vec<_>) = news.keys().copied().unzip();
    Ok(sqlx::query_as(
        r#"select w.tenant_id, w.id, w.pending, w.on_predecessor_failure
             from unnest($1::uuid[], $2::uuid[]) u(tenant_id, id)
             join job_waits w on w.tenant_id = any (array[u.tenant_id]) and w.id = u.id
            order by w.tenant_id, w.id
              for update of w"#,
    )
    .bind(tenants)
    .bind(ids)
    .fetch_all(conn)
    .await?)
}

fn decide(waiting: Vec<Waiting>, news: &BTreeMap<Key, Vec<(JobId, Ending)>>) -> Result<Fates> {
    let mut fates = Fates::default();
    for wait in waiting {
        let key = (wait.tenant_id, wait.id);
        let ended = news.get(&key).map_or(&[][..], Vec::as_slice);
        let failed = ended.iter().find(|(_, ending)| *ending != Ending::Succeeded);
        let left = wait.pending - i32::try_from(ended.len()).unwrap_or(i32::MAX);
        match failed {
            Some(&(predecessor, ending)) if parse(&wait.on_predecessor_failure)? == OnFailure::Cancel => {
                fates.cancel.push((wait.tenant_id, wait.id, predecessor_failed(predecessor, ending)));
            }
            _ if left > 0 => fates.wait_on.push((key, left)),
            _ => fates.release.push(key),
        }
    }
    Ok(fates)
}

fn parse(policy: &str) -> Result<OnFailure> {
    policy.parse().map_err(|e: String| anyhow::anyhow!(e).into())
}

#[derive(sqlx::FromRow)]
struct Released {
    tenant_id: TenantId,
    id: JobId,
    queue: String,
    priority: i16,
    due: bool,
}

async fn carry_out(conn: &mut PgConnection, fates: &Fates) -> Result<(Vec<Ticket>, u64)> {
    let (keys, left): (Vec<Key>, Vec<i32>) = fates.wait_on.iter().copied().unzip();
    if !keys.is_empty() {
        let (tenants, ids): (Vec<_>, Vec<_>) = keys.into_iter().unzip();
        sqlx::query(
            r#"update job_waits w set pending = u.pending
                 from unnest($1::uuid[], $2::uuid[], $3::int4[]) u(tenant_id, id, pending)
                where w.tenant_id = any (array[u.tenant_id]) and w.id = u.id"#,
        )
        .bind(tenants)
        .bind(ids)
        .bind(left)
        .execute(&mut *conn)
        .await?;
    }
    let over = fates.release.iter().copied().chain(fates.cancel.iter().map(|(tenant, id, _)| (*tenant, *id)));
    let mut over: Vec<Key> = over.collect();
    if over.is_empty() {
        return Ok((Vec::new(), 0));
    }
    over.sort_unstable();
    let (tenants, ids): (Vec<_>, Vec<_>) = over.into_iter().unzip();
    sqlx::query(
        r#"delete from job_waits w using unnest($1::uuid[], $2::uuid[]) u(tenant_id, id)
            where w.tenant_id = any (array[u.tenant_id]) and w.id = u.id"#,
    )
    .bind(&tenants)
    .bind(&ids)
    .execute(&mut *conn)
    .await?;
    // All live rows in one sweep and in order; one that was cancelled or run by hand meanwhile is left alone below.
    sqlx::query(
        r#"select from unnest($1::uuid[], $2::uuid[]) u(tenant_id, id)
             join job_live l on l.tenant_id = any (array[u.tenant_id]) and l.id = u.id
            order by l.tenant_id, l.id
              for update of l"#,
    )
    .bind(tenants)
    .bind(ids)
    .execute(&mut *conn)
    .await?;
    Ok((release(conn, &fates.release).await?, cancel_waiting(conn, &fates.cancel).await?))
}

/// Gives jobs their time: as they asked, but not before now.
async fn release(conn: &mut PgConnection, jobs: &[Key]) -> Result<Vec<Ticket>> {
    if jobs.is_empty() {
        return Ok(Vec::new());
    }
    let (tenants, ids): (Vec<TenantId>, Vec<JobId>) = jobs.iter().copied().unzip();
    let released: Vec<Released> = sqlx::query_as(
        r#"update job_live l
              set run_at = greatest(j.run_at, ledger_now()), later = j.run_at > ledger_now()
             from unnest($1::uuid[], $2::uuid[]) u(tenant_id, id)
             join jobs j on j.tenant_id = any (array[u.tenant_id]) and j.id = u.id and j.id between $3 and $4
            where l.tenant_id = any (array[u.tenant_id]) and l.id = u.id
              and not l.running and (l.run_at = not_yet()) is true
           returning l.tenant_id, l.id, l.queue, l.priority, not l.later as due"#,
    )
    .bind(&tenants)
    .bind(&ids)
    .bind(ids.iter().min())
    .bind(ids.iter().max())
    .fetch_all(conn)
    .await?;
    let ticket = |row: Released| {
        let queue: Queue = row.queue.parse().ok()?;
        Ticket::from_columns(row.tenant_id, row.id, queue, row.priority)
    };
    Ok(released.into_iter().filter(|row| row.due).filter_map(ticket).collect())
}

/// Where a look at what was forgotten has come to.
#[derive(Debug, Clone, sqlx::FromRow)]
pub struct Place {
    tenant_id: TenantId,
    id: JobId,
    follower_id: JobId,
}

/// Looks through some of those who follow, after `place`, for jobs that have ended without a word, and writes their ends
/// to be told. Every end is written with its job, so this finds nothing but what was deleted by hand; a waiter is not
/// stranded by that either. Answers where to go on, none at the end, and how many were found.
pub async fn find_untold(conn: &mut PgConnection, place: Option<&Place>) -> Result<(Option<Place>, u64)> {
    let nil = uuid::Uuid::nil();
    let seen: Vec<Place> = sqlx::query_as(
        r#"select tenant_id, id, follower_id from job_followers
            where (tenant_id, id, follower_id) > ($1, $2, $3)
            order by tenant_id, id, follower_id
            limit $4"#,
    )
    .bind(place.map_or(TenantId(nil), |p| p.tenant_id))
    .bind(place.map_or(JobId(nil), |p| p.id))
    .bind(place.map_or(JobId(nil), |p| p.follower_id))
    .bind(LOOK)
    .fetch_all(&mut *conn)
    .await?;
    if seen.is_empty() {
        return Ok((None, 0));
    }
    let mut jobs: Vec<Key> = seen.iter().map(|p| (p.tenant_id, p.id)).collect();
    jobs.dedup();
    let (tenants, ids): (Vec<_>, Vec<_>) = jobs.into_iter().unzip();
    let found = sqlx::query(
        r#"insert into job_ends (tenant_id, id, state)
           select u.tenant_id, u.id, coalesce(o.state, 'failed')
             from unnest($1::uuid[], $2::uuid[]) u(tenant_id, id)
             left join job_outcomes o on o.tenant_id = u.tenant_id and o.id = u.id
            where exists (select from job_followers f where f.tenant_id = u.tenant_id and f.id = u.id)
              and not exists (select from job_live l where l.tenant_id = u.tenant_id and l.id = u.id)
              and not exists (select from job_ends e where e.tenant_id = u.tenant_id and e.id = u.id)"#,
    )
    .bind(tenants)
    .bind(ids)
    .execute(conn)
    .await?;
    let more = i64::try_from(seen.len()).is_ok_and(|n| n == LOOK);
    Ok((seen.into_iter().next_back().filter(|_| more), found.rows_affected()))
}
