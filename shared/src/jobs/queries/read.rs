//! Looking at jobs.

use chrono::{DateTime, Utc};
use sqlx::{Postgres, QueryBuilder};

use crate::infra::db::TenantTx;
use crate::infra::ids::{ActorId, BatchId, JobId, ScheduleId, WorkerId};
use crate::jobs::State;
use crate::{Error, Result};

/// A job as stored, its three parts joined. Times are null where nothing has happened yet.
#[derive(Debug, Clone, sqlx::FromRow)]
pub struct JobRow {
    pub id: JobId,
    pub kind: String,
    pub queue: String,
    pub priority: i16,
    pub payload: String,
    pub max_attempts: i16,
    pub run_at: DateTime<Utc>,
    pub unique_key: Option<String>,
    pub tags: Option<Vec<String>>,
    pub schedule_id: Option<ScheduleId>,
    pub submitted_by: Option<ActorId>,
    pub request_id: Option<String>,
    /// The jobs that it was to run after.
    pub after: Option<Vec<JobId>>,
    pub on_predecessor_failure: Option<String>,
    pub batch_id: Option<BatchId>,
    pub attempt: i16,
    /// Null once the job has ended.
    running: Option<bool>,
    due: bool,
    ended: Option<String>,
    pub started_at: Option<DateTime<Utc>>,
    pub finished_at: Option<DateTime<Utc>>,
    pub result: Option<String>,
    pub error: Option<String>,
    pub progress: Option<String>,
}

impl JobRow {
    pub fn state(&self) -> State {
        State::of(self.ended.as_deref(), self.running, self.due, self.attempt)
    }
}

/// Selects [`JobRow`] from `jobs j`; what follows narrows it.
const SELECT: &str = r#"
    select j.id, j.kind, j.queue, j.priority, j.payload, coalesce(l.max_attempts, j.max_attempts) as max_attempts,
           case when l.run_at < not_yet() then l.run_at else j.run_at end as run_at, j.unique_key, j.tags,
           j.schedule_id, j.submitted_by, j.request_id,
           k.after, k.on_predecessor_failure, k.batch_id,
           coalesce(l.attempt, o.attempt, 0::smallint) as attempt, l.running,
           coalesce(l.run_at <= ledger_now(), true) as due, o.state::text as ended,
           case when l.running then l.started_at else o.started_at end as started_at, o.finished_at, o.result,
           coalesce(o.error, (select a.error from job_attempts a
                               where a.tenant_id = j.tenant_id and a.id = j.id and l.attempt > 0
                               order by a.attempt desc limit 1)) as error, p.progress
      from jobs j
      left join job_live l on l.tenant_id = j.tenant_id and l.id = j.id
      left join job_outcomes o on o.tenant_id = j.tenant_id and o.id = j.id
      left join job_progress p on p.tenant_id = j.tenant_id and p.id = j.id
      left join job_links k on k.tenant_id = j.tenant_id and k.id = j.id
     where j.tenant_id = "#;

/// The job of that id.
pub async fn find(tx: &mut TenantTx, id: JobId) -> Result<Option<JobRow>> {
    let mut query = QueryBuilder::<Postgres>::new(SELECT);
    query.push_bind(tx.tenant()).push(" and j.id = ").push_bind(id);
    Ok(query.build_query_as().fetch_optional(&mut **tx).await?)
}

/// The job of that id.
///
/// # Errors
/// [`Error::NotFound`]
pub async fn get(tx: &mut TenantTx, id: JobId) -> Result<JobRow> {
    find(tx, id).await?.ok_or(Error::NotFound("job"))
}

/// Who submitted a job. Nobody, of one that is not there or that nobody asked for.
pub async fn find_submitter(tx: &mut TenantTx, id: JobId) -> Result<Option<ActorId>> {
    let found: Option<Option<ActorId>> =
        sqlx::query_scalar("select submitted_by from jobs where tenant_id = $1 and id = $2")
            .bind(tx.tenant())
            .bind(id)
            .fetch_optional(&mut **tx)
            .await?;
    Ok(found.flatten())
}

/// What to list.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    pub state: Option<State>,
    pub kind: Option<String>,
    pub queue: Option<String>,
    pub tag: Option<String>,
    pub schedule: Option<ScheduleId>,
    pub batch: Option<BatchId>,
    /// Created at or after.
    pub from: Option<DateTime<Utc>>,
    /// Created before.
    pub to: Option<DateTime<Utc>>,
    /// Older than this job: the last one of the page before.
    pub before: Option<JobId>,
}

/// A page of jobs, newest first.
pub async fn list(tx: &mut TenantTx, filter: &Filter, limit: i64) -> Result<Vec<JobRow>> {
    let mut query = QueryBuilder::<Postgres>::new(SELECT);
    query.push_bind(tx.tenant());
    match filter.state {
        Some(State::Scheduled) => query.push(" and not l.running and l.run_at > ledger_now() and l.attempt = 0"),
        Some(State::Retrying) => query.push(" and not l.running and l.run_at > ledger_now() and l.attempt > 0"),
        Some(State::Queued) => query.push(" and not l.running and l.run_at <= ledger_now()"),
        Some(State::Running) => query.push(" and l.running"),
        Some(end) => query.push(" and o.state = ").push_bind(end.as_str()).push("::job_end"),
        None => &mut query,
    };
    if let Some(kind) = &filter.kind {
        query.push(" and j.kind = ").push_bind(kind.clone());
    }
    if let Some(queue) = &filter.queue {
        query.push(" and j.queue = ").push_bind(queue.clone());
    }
    if let Some(tag) = &filter.tag {
        query.push(" and j.tags @> array[").push_bind(tag.clone()).push("]");
    }
    if let Some(schedule) = filter.schedule {
        query.push(" and j.schedule_id = ").push_bind(schedule);
    }
    if let Some(batch) = filter.batch {
        query.push(" and k.batch_id = ").push_bind(batch);
    }
    if let Some(from) = filter.from {
        query.push(" and j.id >= uuid_floor(").push_bind(from).push(")");
    }
    if let Some(to) = filter.to {
        query.push(" and j.id < uuid_floor(").push_bind(to).push(")");
    }
    if let Some(before) = filter.before {
        query.push(" and j.id < ").push_bind(before);
    }
    query.push(" order by j.id desc limit ").push_bind(limit);
    Ok(query.build_query_as().fetch_all(&mut **tx).await?)
}

/// One attempt at a job.
#[derive(Debug, Clone, sqlx::FromRow)]
pub struct Attempt {
    pub attempt: i16,
    pub ended: String,
    pub worker_id: Option<WorkerId>,
    pub started_at: Option<DateTime<Utc>>,
    pub finished_at: Option<DateTime<Utc>>,
    pub error: Option<String>,
    pub detail: Option<String>,
}

/// The attempts at a job, newest first, at most 200. `ended` is `running` for the one under way.
pub async fn list_attempts(tx: &mut TenantTx, id: JobId) -> Result<Vec<Attempt>> {
    Ok(sqlx::query_as(
        r#"select * from (
               select attempt, 'running' as ended, lease_owner as worker_id, started_at,
                      null::timestamptz as finished_at, null::text as error, null::text as detail
                 from job_live where tenant_id = $1 and id = $2 and running
               union all
               select attempt, state::text, worker_id, started_at, finished_at, error, detail
                 from job_outcomes where tenant_id = $1 and id = $2 and attempt > 0 and started_at is not null
               union all
               select attempt, ended, worker_id, started_at, finished_at, error, detail
                 from job_attempts where tenant_id = $1 and id = $2
           ) a order by attempt desc limit 200"#,
    )
    .bind(tx.tenant())
    .bind(id)
    .fetch_all(&mut **tx)
    .await?)
}

/// The changing part of a job, for watching many at once.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
pub struct StateRow {
    pub id: JobId,
    pub attempt: i16,
    running: Option<bool>,
    due: bool,
    ended: Option<String>,
    /// When its progress last changed.
    pub progressed_at: Option<DateTime<Utc>>,
}

impl StateRow {
    pub fn state(&self) -> State {
        State::of(self.ended.as_deref(), self.running, self.due, self.attempt)
    }
}

/// The states of `ids`; absent ones are left out.
pub async fn list_states(tx: &mut TenantTx, ids: &[JobId]) -> Result<Vec<StateRow>> {
    Ok(sqlx::query_as(
        r#"select u.id, coalesce(l.attempt, o.attempt, 0::smallint) as attempt, l.running,
                  coalesce(l.run_at <= ledger_now(), true) as due, o.state::text as ended, p.progressed_at
             from unnest($2::uuid[]) u(id)
             left join job_live l on l.tenant_id = $1 and l.id = u.id
             left join job_outcomes o on o.tenant_id = $1 and o.id = u.id
             left join job_progress p on p.tenant_id = $1 and p.id = u.id
            where l.id is not null or o.id is not null"#,
    )
    .bind(tx.tenant())
    .bind(ids)
    .fetch_all(&mut **tx)
    .await?)
}
