//! What staff look at, over all tenants. Nothing here counts a large table.

use chrono::{DateTime, Utc};
use sqlx::{Postgres, QueryBuilder};
use uuid::Uuid;

use crate::Result;
use crate::audit::queries::EntryRow;
use crate::infra::db::StaffTx;
use crate::infra::ids::TenantId;

/// Rows that are counted one by one; of more there is PostgreSQL's estimate.
const COUNTED: i64 = 10_000;

/// How many there are, and whether that is an estimate.
#[derive(Debug, Clone, Copy, sqlx::FromRow)]
pub struct Count {
    pub count: i64,
    pub estimated: bool,
}

/// Rows of `tenants` or `users`: counted up to a bound, estimated beyond it.
pub async fn count(tx: &mut StaffTx, table: Table) -> Result<Count> {
    let sql = match table {
        Table::Tenants => "select count(*) from (select 1 from tenants limit $1) t",
        Table::Users => "select count(*) from (select 1 from users limit $1) t",
    };
    let counted: i64 = sqlx::query_scalar(sql).bind(COUNTED + 1).fetch_one(&mut **tx).await?;
    if counted <= COUNTED {
        let platform = i64::from(table == Table::Tenants); // which is in there, and is none
        return Ok(Count { count: (counted - platform).max(0), estimated: false });
    }
    let estimate: i64 = sqlx::query_scalar("select reltuples::bigint from pg_class where oid = $1::regclass")
        .bind(table.name())
        .fetch_one(&mut **tx)
        .await?;
    Ok(Count { count: estimate.max(counted), estimated: true })
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Table {
    Tenants,
    Users,
}

impl Table {
    const fn name(self) -> &'static str {
        match self {
            Self::Tenants => "tenants",
            Self::Users => "users",
        }
    }
}

/// A queue over all tenants, as the scheduler counted it last.
#[derive(Debug, Clone, sqlx::FromRow)]
pub struct QueueRow {
    pub queue: String,
    pub queued: i64,
    pub paused: i64,
    pub scheduled: i64,
    pub retrying: i64,
    pub running: i64,
    pub workers: i64,
    pub oldest_due_at: Option<DateTime<Utc>>,
    pub counted_at: DateTime<Utc>,
}

/// One row a queue.
pub async fn list_queues(tx: &mut StaffTx) -> Result<Vec<QueueRow>> {
    Ok(sqlx::query_as(
        "select queue, queued, paused, scheduled, retrying, running, workers, oldest_due_at, counted_at
           from queue_depths order by queue",
    )
    .fetch_all(&mut **tx)
    .await?)
}

/// Bytes of the database on disk.
pub async fn database_bytes(tx: &mut StaffTx) -> Result<i64> {
    Ok(sqlx::query_scalar("select pg_database_size(current_database())").fetch_one(&mut **tx).await?)
}

/// An audit entry and whose it is.
#[derive(Debug, sqlx::FromRow)]
pub struct FeedRow {
    pub tenant_id: TenantId,
    #[sqlx(flatten)]
    pub entry: EntryRow,
}

/// What to show.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    pub tenant: Option<Uuid>,
    /// Only what staff did.
    pub by_staff: bool,
    /// Older than this entry: the last of the page before.
    pub before: Option<Uuid>,
}

/// A page of the audit entries of all tenants, newest first.
pub async fn list(tx: &mut StaffTx, filter: &Filter, limit: i64) -> Result<Vec<FeedRow>> {
    let mut query = QueryBuilder::<Postgres>::new(
        "select tenant_id, id, actor_type, actor_id, host(ip) as ip, user_agent, request_id, action, resource_type,
                resource_id, before::text as before, after::text as after
           from audit_logs where true",
    );
    if let Some(tenant) = filter.tenant {
        query.push(" and tenant_id = ").push_bind(tenant);
    }
    if filter.by_staff {
        query.push(" and actor_type = 'staff'");
    }
    if let Some(before) = filter.before {
        query.push(" and id < ").push_bind(before);
    }
    query.push(" order by id desc limit ").push_bind(limit);
    Ok(query.build_query_as().fetch_all(&mut **tx).await?)
}
