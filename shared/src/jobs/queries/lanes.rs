//! What waits in the ledger, by lane: (queue, tenant, priority), in the order of admission.
//!
//! `priority >= 0` holds of every row: it opens the index of lanes to a statement.

use chrono::{DateTime, Utc};
use sqlx::PgConnection;

use crate::Result;
use crate::infra::ids::{JobId, TenantId};
use crate::jobs::Queue;
use crate::jobs::dispatch::{Lane, Ticket};

#[derive(sqlx::FromRow)]
struct LaneRow {
    queue: String,
    tenant_id: TenantId,
    priority: i16,
}

/// Every lane that has live rows, by hopping from one to the next in the index. At most `limit`, after `after`.
pub async fn list_lanes(conn: &mut PgConnection, after: Option<Lane>, limit: i64) -> Result<Vec<Lane>> {
    let (queue, tenant, priority) = match after {
        Some(lane) => (lane.queue.as_str(), lane.tenant, i16::from(lane.priority.get())),
        None => ("", TenantId(uuid::Uuid::nil()), -1),
    };
    let rows: Vec<LaneRow> = sqlx::query_as(
        r#"with recursive lanes as (
               (select queue, tenant_id, priority from job_live
                 where (queue, tenant_id, priority) > ($1, $2, $3) and priority >= 0
                 order by queue, tenant_id, priority limit 1)
               union all
               select next.* from lanes l, lateral (
                   select queue, tenant_id, priority from job_live j
                    where (j.queue, j.tenant_id, j.priority) > (l.queue, l.tenant_id, l.priority) and j.priority >= 0
                    order by queue, tenant_id, priority limit 1) next
           )
           select queue, tenant_id, priority from lanes limit $4"#,
    )
    .bind(queue)
    .bind(tenant)
    .bind(priority)
    .bind(limit)
    .fetch_all(conn)
    .await?;
    Ok(rows.into_iter().filter_map(|row| Lane::from_columns(&row.queue, row.tenant_id, row.priority)).collect())
}

/// A due job and where it stands in its lane.
#[derive(Debug, Clone, sqlx::FromRow)]
pub struct DueJob {
    pub id: JobId,
    pub run_at: DateTime<Utc>,
}

/// Reads on in one lane.
pub const LIST_LANE: &str = r#"select id, run_at from job_live
     where queue = $1 and tenant_id = $2 and priority = $3 and priority >= 0
       and (run_at, id) > ($4, $5) and run_at <= ledger_now() and not running
       and not exists (select from queue_pauses p where p.tenant_id = $2 and p.queue = $1)
     order by run_at, id
     limit $6"#;

/// Due jobs of one lane that do not run, oldest first, after the position `after`.
pub async fn list_lane(conn: &mut PgConnection, lane: Lane, after: Option<&DueJob>, limit: i64) -> Result<Vec<DueJob>> {
    Ok(sqlx::query_as(LIST_LANE)
        .bind(lane.queue.as_str())
        .bind(lane.tenant)
        .bind(i16::from(lane.priority.get()))
        .bind(after.map_or(DateTime::<Utc>::UNIX_EPOCH, |p| p.run_at))
        .bind(after.map_or(JobId(uuid::Uuid::nil()), |p| p.id))
        .bind(limit)
        .fetch_all(conn)
        .await?)
}

#[derive(sqlx::FromRow)]
struct DueRow {
    tenant_id: TenantId,
    id: JobId,
    queue: String,
    priority: i16,
    run_at: DateTime<Utc>,
}

/// Reads on in the jobs that were stored for later.
pub const LIST_DUE: &str = r#"select tenant_id, id, queue, priority, run_at from job_live
     where later and (run_at, id) > ($1, $2) and run_at <= ledger_now() and not running
     order by run_at, id
     limit $3"#;

/// Jobs stored for later whose time has come, in the order of their times, after the position `after`; and the
/// position of the last of them.
pub async fn list_due(
    conn: &mut PgConnection,
    after: Option<&DueJob>,
    limit: i64,
) -> Result<(Vec<Ticket>, Option<DueJob>)> {
    let rows: Vec<DueRow> = sqlx::query_as(LIST_DUE)
        .bind(after.map_or(DateTime::<Utc>::UNIX_EPOCH, |p| p.run_at))
        .bind(after.map_or(JobId(uuid::Uuid::nil()), |p| p.id))
        .bind(limit)
        .fetch_all(conn)
        .await?;
    let last = rows.last().map(|row| DueJob { id: row.id, run_at: row.run_at });
    let tickets = rows
        .into_iter()
        .filter_map(|row| {
            let queue: Queue = row.queue.parse().ok()?;
            Ticket::from_columns(row.tenant_id, row.id, queue, row.priority)
        })
        .collect();
    Ok((tickets, last))
}
