//! Taking jobs back from workers that are gone.

use sqlx::PgConnection;

use crate::Result;
use crate::infra::ids::{JobId, TenantId, WorkerId};
use crate::jobs::dispatch::Ticket;
use crate::jobs::{JobError, Queue};

/// Attempts that may end with their worker before the job is quarantined.
const LOST_LIMIT: i16 = 3;

/// Gives up workers whose lease has run out. Answers those to be reaped now: the newly lost, and those given up or
/// stopped half a minute ago, once more, because a claim of theirs may have been under way the first time.
pub async fn mark_lost(conn: &mut PgConnection) -> Result<Vec<WorkerId>> {
    Ok(sqlx::query_scalar(
        r#"with lost as (
               update workers set lost_at = ledger_now()
                where lost_at is null and stopped_at is null and lease_until < ledger_now()
               returning id
           ), last as (
               update workers set reaped_at = ledger_now()
                where reaped_at is null and least(lost_at, stopped_at) < ledger_now() - interval '30 s'
               returning id
           )
           select id from lost union select id from last"#,
    )
    .fetch_all(conn)
    .await?)
}

/// How many workers this transaction gave up: [`mark_lost`] also answers those that are looked at once more.
pub async fn count_newly_lost(conn: &mut PgConnection) -> Result<i64> {
    Ok(sqlx::query_scalar("select count(*) from workers where lost_at = ledger_now()").fetch_one(conn).await?)
}

/// What was taken back from lost workers.
#[derive(Debug, Default)]
pub struct ReapReport {
    /// Due again at once.
    pub requeued: Vec<Ticket>,
    /// Killed their worker too often, and failed for good.
    pub quarantined: usize,
    /// Were to be cancelled anyway.
    pub cancelled: usize,
}

#[derive(sqlx::FromRow)]
struct Row {
    tenant_id: TenantId,
    id: JobId,
    queue: String,
    priority: i16,
    fate: String,
}

/// Takes back everything that `workers` run. Reads all live rows, which is rare enough not to deserve an index.
pub async fn reap(conn: &mut PgConnection, workers: &[WorkerId]) -> Result<ReapReport> {
    if workers.is_empty() {
        return Ok(ReapReport::default());
    }
    let error = JobError::new(JobError::WORKER_LOST, "the worker stopped renewing its lease while it ran this attempt");
    let rows: Vec<Row> = sqlx::query_as(
        r#"with gone as (
               select l.*, case when l.unwanted then 'cancelled'
                                when l.lost + 1 >= $3 then 'failed' else 'again' end as fate
                 from job_live l
                where l.running and l.lease_owner = any ($1)
                order by l.tenant_id, l.id
                  for update of l
           ), again as (
               update job_live l set running = false, lease_owner = null, lost = l.lost + 1
                 from gone g
                where l.tenant_id = g.tenant_id and l.id = g.id and g.fate = 'again'
           ), attempts as (
               insert into job_attempts (tenant_id, id, attempt, ended, worker_id, started_at, finished_at, error)
               select tenant_id, id, attempt, 'lost', lease_owner, started_at, ledger_now(), $2
                 from gone where fate = 'again'
           ), ended as (
               delete from job_live l using gone g
                where l.tenant_id = g.tenant_id and l.id = g.id and g.fate <> 'again'
           ), to_tell as (
               insert into job_ends (tenant_id, id, state)
               select tenant_id, id, fate::job_end from gone
                where fate <> 'again'
                  and (followed or fate = 'failed' and exists (select from alerts a
                          where a.tenant_id = gone.tenant_id and a.cause = 'job.failed' and a.disabled_at is null))
           ), outcomes as (
               insert into job_outcomes (tenant_id, id, state, attempt, worker_id, started_at, finished_at, error)
               select tenant_id, id, fate::job_end, attempt, lease_owner, started_at, ledger_now(), $2
                 from gone where fate <> 'again'
           )
           select tenant_id, id, queue, priority, fate from gone"#,
    )
    .bind(workers)
    .bind(serde_json::to_string(&error)?)
    .bind(LOST_LIMIT)
    .fetch_all(conn)
    .await?;
    let mut report = ReapReport::default();
    for row in rows {
        match row.fate.as_str() {
            "failed" => report.quarantined += 1,
            "cancelled" => report.cancelled += 1,
            _ => {
                let queue: Option<Queue> = row.queue.parse().ok();
                report
                    .requeued
                    .extend(queue.and_then(|q| Ticket::from_columns(row.tenant_id, row.id, q, row.priority)));
            }
        }
    }
    Ok(report)
}
