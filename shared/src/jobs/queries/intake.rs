//! Storing jobs.

use chrono::{DateTime, Utc};
use sqlx::PgConnection;

use crate::infra::ids::{ActorId, JobId, ScheduleId, TenantId};
use crate::jobs::{Due, NewJob, Unique};
use crate::{Error, Result};

/// Stores jobs in the caller's transaction: they exist exactly when it commits. Offer them to the dispatcher after that.
///
/// # Errors
/// [`Error::Conflict`] `job_not_unique` when a live job holds a unique key; the transaction is to be dropped then.
pub async fn enqueue(conn: &mut PgConnection, jobs: &[NewJob]) -> Result<()> {
    match enqueue_free(conn, jobs).await? {
        None => Ok(()),
        Some((n, holder)) => Err(not_unique(jobs[n].unique.as_ref().map_or("", |unique| &unique.key), holder)),
    }
}

/// As [`enqueue`], but answers the first job whose unique key is held, by its place, and the job that holds it.
pub async fn enqueue_free(conn: &mut PgConnection, jobs: &[NewJob]) -> Result<Option<(usize, JobId)>> {
    let all: Vec<&NewJob> = jobs.iter().collect();
    let held = hold_keys(conn, &all).await?.first().copied();
    if held.is_none() {
        insert(conn, jobs).await?;
    }
    Ok(held)
}

/// Stores one job with a unique key, or answers the id of the job that holds it.
pub async fn insert_unique(conn: &mut PgConnection, job: &NewJob, unique: &Unique) -> Result<Option<JobId>> {
    let holder = hold_key(conn, job.tenant, job.id, unique).await?;
    if holder.is_none() {
        insert(conn, std::slice::from_ref(job)).await?;
    }
    Ok(holder)
}

pub(super) fn not_unique(key: &str, holder: JobId) -> Error {
    Error::conflict("job_not_unique", format!("the unique key `{key}` is held by job {holder}"))
}

/// Stores jobs in one statement, without a look at unique keys.
pub async fn insert<'a>(conn: &mut PgConnection, jobs: impl IntoIterator<Item = &'a NewJob>) -> Result<()> {
    let columns = Columns::of(jobs);
    if columns.ids.is_empty() {
        return Ok(());
    }
    sqlx::query(
        r#"with input as (
               select u.*, coalesce(u.at, ledger_now() + u.delay_ms * interval '1 ms', least(u.made, ledger_now())) as due
                 from unnest($1::uuid[], $2::uuid[], $3::text[], $4::text[], $5::int2[], $6::text[], $7::int2[], $8::int4[],
                             $9::timestamptz[], $10::int8[], $11::timestamptz[], $12::text[], $13::text[], $14::text[],
                             $15::text[], $16::uuid[], $17::uuid[])
                      as u(tenant_id, id, kind, queue, priority, payload, max_attempts, timeout_ms,
                           at, delay_ms, made, unique_key, tags, request_id, traceparent, schedule_id, submitted_by)
           ), stored as (
               insert into jobs (tenant_id, id, kind, queue, priority, payload, max_attempts, timeout_ms, run_at,
                                 unique_key, tags, request_id, traceparent, schedule_id, submitted_by)
               select tenant_id, id, kind, queue, priority, payload, max_attempts, timeout_ms, due,
                      unique_key, string_to_array(tags, E'\x1f'), request_id, traceparent,
                      schedule_id, submitted_by
                 from input
           )
           insert into job_live (tenant_id, id, queue, priority, run_at, later, max_attempts)
           select tenant_id, id, queue, priority, due, due > ledger_now(), max_attempts from input"#,
    )
    .bind(columns.tenants)
    .bind(columns.ids)
    .bind(columns.kinds)
    .bind(columns.queues)
    .bind(columns.priorities)
    .bind(columns.payloads)
    .bind(columns.max_attempts)
    .bind(columns.timeouts_ms)
    .bind(columns.at)
    .bind(columns.delays_ms)
    .bind(columns.made)
    .bind(columns.unique_keys)
    .bind(columns.tags)
    .bind(columns.request_ids)
    .bind(columns.traceparents)
    .bind(columns.schedules)
    .bind(columns.submitters)
    .execute(conn)
    .await?;
    Ok(())
}

/// Takes the unique keys of those of `jobs` that want one, in the keys' order, so that no two batches can deadlock.
///
/// Answers the places of those that did not get theirs, each with the job that holds it: a live one, or one of `jobs`.
/// The others are to be stored by the same transaction.
pub async fn hold_keys(conn: &mut PgConnection, jobs: &[&NewJob]) -> Result<Vec<(usize, JobId)>> {
    let wishes = jobs.iter().enumerate().filter_map(|(n, job)| Some((job.tenant, job.unique.as_ref()?, n)));
    let mut wishes: Vec<_> = wishes.collect();
    wishes.sort_unstable_by_key(|(tenant, unique, n)| (*tenant, &unique.key, *n));
    let mut held = Vec::new();
    for same_key in wishes.chunk_by(|a, b| (a.0, &a.1.key) == (b.0, &b.1.key)) {
        let mut holder = None;
        for &(tenant, unique, n) in same_key {
            if holder.is_none() {
                holder = hold_key(conn, tenant, jobs[n].id, unique).await?;
                if holder.is_none() {
                    holder = Some(jobs[n].id);
                    continue;
                }
            }
            held.extend(holder.map(|holder| (n, holder)));
        }
    }
    held.sort_unstable();
    Ok(held)
}

/// Takes a unique key for `job`, unless a live job or a running hold has it: then that job's id.
///
/// Whoever takes the same key meanwhile is waited for, and `job` must be stored by the same transaction.
pub async fn hold_key(conn: &mut PgConnection, tenant: TenantId, job: JobId, unique: &Unique) -> Result<Option<JobId>> {
    let hold_ms = unique.hold.map(|hold| i64::try_from(hold.as_millis()).unwrap_or(i64::MAX));
    loop {
        let free = sqlx::query(
            "insert into job_unique (tenant_id, unique_key, job_id, holds_until)
             values ($1, $2, $3, ledger_now() + $4 * interval '1 ms')
             on conflict do nothing",
        );
        let free = free.bind(tenant).bind(&unique.key).bind(job).bind(hold_ms).execute(&mut *conn).await?;
        if free.rows_affected() == 1 {
            return Ok(None);
        }
        let holder: Option<JobId> =
            sqlx::query_scalar("select job_id from job_unique where tenant_id = $1 and unique_key = $2 for update")
                .bind(tenant)
                .bind(&unique.key)
                .fetch_optional(&mut *conn)
                .await?;
        let Some(holder) = holder else { continue }; // it was cleared away just now
        if holder == job {
            return Ok(None);
        }
        // A statement of its own: only one that begins after the row is locked sees the holder's live row for certain.
        let taken = sqlx::query(
            r#"update job_unique u
                  set job_id = $3, holds_until = ledger_now() + $4 * interval '1 ms', created_at = ledger_now()
                where u.tenant_id = $1 and u.unique_key = $2 and coalesce(u.holds_until <= ledger_now(), true)
                  and not exists (select from job_live l where l.tenant_id = u.tenant_id and l.id = u.job_id)"#,
        );
        let taken = taken.bind(tenant).bind(&unique.key).bind(job).bind(hold_ms).execute(conn).await?;
        return Ok((taken.rows_affected() == 0).then_some(holder));
    }
}

/// The jobs as one array a column, sorted by tenant and id.
#[derive(Default)]
struct Columns<'a> {
    tenants: Vec<TenantId>,
    ids: Vec<JobId>,
    kinds: Vec<&'a str>,
    queues: Vec<&'static str>,
    priorities: Vec<i16>,
    payloads: Vec<&'a str>,
    max_attempts: Vec<i16>,
    timeouts_ms: Vec<i32>,
    at: Vec<Option<DateTime<Utc>>>,
    delays_ms: Vec<Option<i64>>,
    made: Vec<Option<DateTime<Utc>>>,
    unique_keys: Vec<Option<&'a str>>,
    tags: Vec<Option<String>>,
    request_ids: Vec<Option<&'a str>>,
    traceparents: Vec<Option<&'a str>>,
    schedules: Vec<Option<ScheduleId>>,
    submitters: Vec<Option<ActorId>>,
}

impl<'a> Columns<'a> {
    fn of(jobs: impl IntoIterator<Item = &'a NewJob>) -> Self {
        let mut order: Vec<&NewJob> = jobs.into_iter().collect();
        order.sort_unstable_by_key(|job| (job.tenant, job.id));
        let mut columns = Self::default();
        for job in order {
            let (at, delay_ms) = match job.due {
                Due::Now => (None, None),
                Due::In(delay) => (None, Some(i64::try_from(delay.as_millis()).unwrap_or(i64::MAX))),
                Due::At(at) => (Some(at), None),
            };
            columns.tenants.push(job.tenant);
            columns.ids.push(job.id);
            columns.kinds.push(&job.kind);
            columns.queues.push(job.queue.as_str());
            columns.priorities.push(i16::from(job.priority.get()));
            columns.payloads.push(job.payload.get());
            columns.max_attempts.push(job.max_attempts);
            columns.timeouts_ms.push(job.timeout_ms);
            columns.at.push(at);
            columns.delays_ms.push(delay_ms);
            columns.made.push(Some(job.created_at()));
            columns.unique_keys.push(job.unique.as_ref().map(|u| u.key.as_str()));
            columns.tags.push((!job.tags.is_empty()).then(|| job.tags.join("\x1f")));
            columns.request_ids.push(job.request_id.as_deref());
            columns.traceparents.push(job.traceparent.as_deref());
            columns.schedules.push(job.schedule);
            columns.submitters.push(job.submitted_by);
        }
        columns
    }
}
