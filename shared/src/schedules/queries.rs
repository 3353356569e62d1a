//! Every statement on schedules.

use std::time::Duration;

use chrono::{DateTime, Utc};
use serde_json::value::RawValue;
use sqlx::{PgConnection, Postgres, QueryBuilder};

use super::{Misfire, Rhythm, SCHEDULES_PER_TENANT};
use crate::infra::db::TenantTx;
use crate::infra::ids::{JobId, ScheduleId, TenantId};
use crate::jobs::{Due, NewJob, Priority, Unique};
use crate::{Error, Result};

/// A schedule as stored.
#[derive(Debug, Clone, sqlx::FromRow)]
pub struct ScheduleRow {
    pub tenant_id: TenantId,
    pub id: ScheduleId,
    pub name: String,
    pub cron: String,
    pub timezone: String,
    pub misfire: String,
    pub kind: String,
    pub queue: String,
    pub priority: i16,
    pub payload: String,
    pub max_attempts: i16,
    pub timeout_ms: i32,
    pub unique_key: Option<String>,
    pub unique_hold_ms: Option<i64>,
    pub tags: Option<Vec<String>>,
    pub paused_at: Option<DateTime<Utc>>,
    /// Null while paused.
    pub next_run_at: Option<DateTime<Utc>>,
    pub last_run_at: Option<DateTime<Utc>>,
    pub last_job_id: Option<JobId>,
    pub created_at: DateTime<Utc>,
    pub updated_at: DateTime<Utc>,
    pub version: i32,
}

const COLUMNS: &str = "tenant_id, id, name, cron, timezone, misfire, kind, queue, priority, payload, max_attempts, \
                       timeout_ms, unique_key, unique_hold_ms, tags, paused_at, next_run_at, last_run_at, last_job_id, \
                       created_at, updated_at, version";

impl ScheduleRow {
    /// When it comes.
    ///
    /// # Errors
    /// Fails when this build knows less of cron or time zones than the one that stored it.
    pub fn rhythm(&self) -> Result<Rhythm> {
        Rhythm::parse(&self.cron, &self.timezone)
            .map_err(|faults| anyhow::anyhow!("schedule {} has no rhythm: {faults:?}", self.id).into())
    }

    pub fn misfire(&self) -> Misfire {
        self.misfire.parse().unwrap_or(Misfire::Skip)
    }

    /// A job of it, due now.
    ///
    /// # Errors
    /// Fails for a queue or payload that this build cannot read.
    pub fn job(&self) -> Result<NewJob> {
        let unique = self.unique_key.clone().map(|key| {
            let hold = self.unique_hold_ms.and_then(|ms| u64::try_from(ms).ok()).map(Duration::from_millis);
            Unique { key, hold }
        });
        Ok(NewJob {
            id: JobId::generate(),
            tenant: self.tenant_id,
            kind: self.kind.clone(),
            queue: self.queue.parse().map_err(|e: String| anyhow::anyhow!(e))?,
            priority: u8::try_from(self.priority).ok().and_then(Priority::new).unwrap_or(Priority::DEFAULT),
            payload: RawValue::from_string(self.payload.clone())?,
            max_attempts: self.max_attempts,
            timeout_ms: self.timeout_ms,
            due: Due::Now,
            unique,
            tags: self.tags.clone().unwrap_or_default(),
            schedule: Some(self.id),
            submitted_by: None,
            request_id: None,
            traceparent: None,
        })
    }
}

/// The time by which schedules come.
pub async fn now(conn: &mut PgConnection) -> Result<DateTime<Utc>> {
    Ok(sqlx::query_scalar("select ledger_now()").fetch_one(conn).await?)
}

/// A schedule to be stored.
#[derive(Debug)]
pub struct NewSchedule<'a> {
    pub name: &'a str,
    pub cron: &'a str,
    pub timezone: &'a str,
    pub misfire: Misfire,
    /// What it does; its id, tenant and due time are not kept.
    pub job: &'a NewJob,
    /// None for one that begins paused.
    pub next_run_at: Option<DateTime<Utc>>,
}

/// # Errors
/// [`Error::Conflict`] `too_many_schedules`.
pub async fn insert(tx: &mut TenantTx, new: &NewSchedule<'_>) -> Result<ScheduleRow> {
    // Creations of one tenant queue up here, so that the count below is exact.
    sqlx::query("select from tenants where id = $1 for no key update").bind(tx.tenant()).execute(&mut **tx).await?;
    let mut query = QueryBuilder::<Postgres>::new(
        "insert into schedules (tenant_id, id, name, cron, timezone, misfire, next_run_at, paused_at, kind, queue, \
         priority, payload, max_attempts, timeout_ms, unique_key, unique_hold_ms, tags) select ",
    );
    let mut values = query.separated(", ");
    values.push_bind(tx.tenant()).push_bind(ScheduleId::generate()).push_bind(new.name).push_bind(new.cron);
    values.push_bind(new.timezone).push_bind(new.misfire.as_str()).push_bind(new.next_run_at);
    values.push(if new.next_run_at.is_none() { "ledger_now()" } else { "null" });
    values.push_bind(&new.job.kind).push_bind(new.job.queue.as_str()).push_bind(i16::from(new.job.priority.get()));
    values.push_bind(new.job.payload.get()).push_bind(new.job.max_attempts).push_bind(new.job.timeout_ms);
    values.push_bind(unique_key(new.job)).push_bind(unique_hold_ms(new.job)).push_bind(&new.job.tags);
    query.push(" where (select count(*) from schedules where tenant_id = ");
    query.push_bind(tx.tenant()).push(") < ").push_bind(SCHEDULES_PER_TENANT);
    query.push(" returning ").push(COLUMNS);
    let row: Option<ScheduleRow> = query.build_query_as().fetch_optional(&mut **tx).await?;
    row.ok_or_else(|| {
        Error::conflict("too_many_schedules", format!("a tenant has at most {SCHEDULES_PER_TENANT} schedules"))
    })
}

fn unique_key(job: &NewJob) -> Option<&str> {
    job.unique.as_ref().map(|unique| unique.key.as_str())
}

fn unique_hold_ms(job: &NewJob) -> Option<i64> {
    let hold = job.unique.as_ref()?.hold?;
    Some(i64::try_from(hold.as_millis()).unwrap_or(i64::MAX))
}

/// # Errors
/// [`Error::NotFound`]
pub async fn get(tx: &mut TenantTx, id: ScheduleId) -> Result<ScheduleRow> {
    read(tx, id, "").await
}

/// The schedule, held until the transaction ends: neither changed by others nor fired meanwhile.
///
/// # Errors
/// [`Error::NotFound`]
pub async fn lock(tx: &mut TenantTx, id: ScheduleId) -> Result<ScheduleRow> {
    read(tx, id, " for no key update").await
}

async fn read(tx: &mut TenantTx, id: ScheduleId, lock: &'static str) -> Result<ScheduleRow> {
    let mut query = QueryBuilder::<Postgres>::new("select ");
    query.push(COLUMNS).push(" from schedules where tenant_id = ").push_bind(tx.tenant());
    query.push(" and id = ").push_bind(id).push(lock);
    query.build_query_as().fetch_optional(&mut **tx).await?.ok_or(Error::NotFound("schedule"))
}

/// A page of schedules, newest first.
pub async fn list(tx: &mut TenantTx, before: Option<ScheduleId>, limit: i64) -> Result<Vec<ScheduleRow>> {
    let mut query = QueryBuilder::<Postgres>::new("select ");
    query.push(COLUMNS).push(" from schedules where tenant_id = ").push_bind(tx.tenant());
    if let Some(before) = before {
        query.push(" and id < ").push_bind(before);
    }
    query.push(" order by id desc limit ").push_bind(limit);
    Ok(query.build_query_as().fetch_all(&mut **tx).await?)
}

/// What changes of a schedule; None leaves it.
#[derive(Debug, Default)]
pub struct Change<'a> {
    pub name: Option<&'a str>,
    pub cron: Option<&'a str>,
    pub timezone: Option<&'a str>,
    pub misfire: Option<Misfire>,
    pub job: Option<&'a NewJob>,
    pub paused: Option<bool>,
    /// When it comes next, null for never.
    pub next_run_at: Option<Option<DateTime<Utc>>>,
}

/// Changes the schedule.
///
/// # Errors
/// [`Error::NotFound`]
pub async fn update(tx: &mut TenantTx, id: ScheduleId, change: &Change<'_>) -> Result<ScheduleRow> {
    let mut query =
        QueryBuilder::<Postgres>::new("update schedules set version = version + 1, updated_at = ledger_now()");
    for (column, value) in [("name", change.name), ("cron", change.cron), ("timezone", change.timezone)] {
        if let Some(value) = value {
            query.push(", ").push(column).push(" = ").push_bind(value);
        }
    }
    if let Some(misfire) = change.misfire {
        query.push(", misfire = ").push_bind(misfire.as_str());
    }
    match change.paused {
        Some(true) => query.push(", paused_at = coalesce(paused_at, ledger_now())"),
        Some(false) => query.push(", paused_at = null"),
        None => &mut query,
    };
    if let Some(next) = change.next_run_at {
        query.push(", next_run_at = ").push_bind(next);
    }
    if let Some(job) = change.job {
        query.push(", kind = ").push_bind(&job.kind).push(", queue = ").push_bind(job.queue.as_str());
        query.push(", priority = ").push_bind(i16::from(job.priority.get()));
        query.push(", payload = ").push_bind(job.payload.get());
        query.push(", max_attempts = ").push_bind(job.max_attempts);
        query.push(", timeout_ms = ").push_bind(job.timeout_ms);
        query.push(", unique_key = ").push_bind(unique_key(job));
        query.push(", unique_hold_ms = ").push_bind(unique_hold_ms(job));
        query.push(", tags = ").push_bind(&job.tags);
    }
    query.push(" where tenant_id = ").push_bind(tx.tenant());
    query.push(" and id = ").push_bind(id).push(" returning ").push(COLUMNS);
    query.build_query_as().fetch_optional(&mut **tx).await?.ok_or(Error::NotFound("schedule"))
}

/// Deletes the schedule. The jobs that it made stay.
///
/// # Errors
/// [`Error::NotFound`]
pub async fn delete(tx: &mut TenantTx, id: ScheduleId) -> Result<()> {
    let deleted = sqlx::query("delete from schedules where tenant_id = $1 and id = $2")
        .bind(tx.tenant())
        .bind(id)
        .execute(&mut **tx)
        .await?;
    if deleted.rows_affected() == 0 { Err(Error::NotFound("schedule")) } else { Ok(()) }
}

/// Where a due schedule stands.
#[derive(Debug, Clone, sqlx::FromRow)]
pub struct DueSchedule {
    pub id: ScheduleId,
    pub next_run_at: DateTime<Utc>,
}

/// Reads on in the schedules whose time has come.
pub const LIST_DUE: &str = r#"select id, next_run_at from schedules
     where next_run_at <= ledger_now() and (next_run_at, id) > ($1, $2)
     order by next_run_at, id
     limit $3"#;

/// Schedules of all tenants whose time has come, in the order of their times, after the position `after`.
pub async fn list_due(conn: &mut PgConnection, after: Option<&DueSchedule>, limit: i64) -> Result<Vec<DueSchedule>> {
    Ok(sqlx::query_as(LIST_DUE)
        .bind(after.map_or(DateTime::<Utc>::UNIX_EPOCH, |p| p.next_run_at))
        .bind(after.map_or(ScheduleId(uuid::Uuid::nil()), |p| p.id))
        .bind(limit)
        .fetch_all(conn)
        .await?)
}

/// Those of `ids` that are still due and that nobody else holds; they are held until the transaction ends.
pub async fn take_due(conn: &mut PgConnection, ids: &[ScheduleId]) -> Result<Vec<ScheduleRow>> {
    let mut query = QueryBuilder::<Postgres>::new("select ");
    query.push(COLUMNS).push(" from schedules where id = any (").push_bind(ids);
    query.push(") and next_run_at <= ledger_now() order by id for no key update skip locked");
    Ok(query.build_query_as().fetch_all(conn).await?)
}

/// What became of a schedule that was due.
#[derive(Debug)]
pub struct Fired {
    pub id: ScheduleId,
    /// The job that it made, unless it made none.
    pub job: Option<JobId>,
    pub next_run_at: Option<DateTime<Utc>>,
}

/// Moves schedules on. They are to be held by this transaction, which also stores their jobs.
pub async fn move_on(conn: &mut PgConnection, fired: &[Fired]) -> Result<()> {
    sqlx::query(
        r#"update schedules s
              set next_run_at = u.next_run_at, last_job_id = coalesce(u.job_id, s.last_job_id),
                  last_run_at = case when u.job_id is null then s.last_run_at else ledger_now() end
             from unnest($1::uuid[], $2::timestamptz[], $3::uuid[]) u(id, next_run_at, job_id)
            where s.id = u.id"#,
    )
    .bind(fired.iter().map(|f| f.id).collect::<Vec<_>>())
    .bind(fired.iter().map(|f| f.next_run_at).collect::<Vec<_>>())
    .bind(fired.iter().map(|f| f.job).collect::<Vec<_>>())
    .execute(conn)
    .await?;
    Ok(())
}
