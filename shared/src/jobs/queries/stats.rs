//! Figures per queue. The past is kept as counters by minute, so that reading it does not grow with the number of jobs.

use chrono::{DateTime, Utc};
use sqlx::PgConnection;

use crate::Result;
use crate::infra::db::TenantTx;
use crate::infra::ids::TenantId;
use crate::jobs::Queue;

/// Buckets of a histogram: the n-th counts times below 2^n ms, the last one everything longer.
pub const BUCKETS: usize = 24;

/// What a worker counted for one tenant's queue since it last stored its counts.
#[derive(Debug, Clone, Default)]
pub struct MinuteStats {
    pub succeeded: i64,
    pub failed: i64,
    pub cancelled: i64,
    pub retried: i64,
    pub wait_ms: [i64; BUCKETS],
    pub run_ms: [i64; BUCKETS],
}

impl MinuteStats {
    /// The bucket of a time in milliseconds.
    pub fn bucket(ms: i64) -> usize {
        let ms = u64::try_from(ms).unwrap_or(0);
        usize::min(64 - ms.leading_zeros() as usize, BUCKETS - 1)
    }
}

/// Adds counts to the current minute.
pub async fn add_stats(conn: &mut PgConnection, stats: &[((TenantId, Queue), MinuteStats)]) -> Result<()> {
    let mut rows: Vec<_> = stats.iter().collect();
    rows.sort_unstable_by_key(|((tenant, queue), _)| (*tenant, *queue));
    for ((tenant, queue), stats) in rows {
        sqlx::query(
            r#"insert into job_stats as s
                      (tenant_id, queue, minute, succeeded, failed, cancelled, retried, wait_ms, run_ms)
               values ($1, $2, date_trunc('minute', ledger_now()), $3, $4, $5, $6, $7, $8)
               on conflict (tenant_id, minute, queue) do update
                  set succeeded = s.succeeded + excluded.succeeded, failed = s.failed + excluded.failed,
                      cancelled = s.cancelled + excluded.cancelled, retried = s.retried + excluded.retried,
                      wait_ms = (select array_agg(a + b order by n)
                                   from unnest(s.wait_ms, excluded.wait_ms) with ordinality u(a, b, n)),
                      run_ms = (select array_agg(a + b order by n)
                                  from unnest(s.run_ms, excluded.run_ms) with ordinality u(a, b, n))"#,
        )
        .bind(tenant)
        .bind(queue.as_str())
        .bind(stats.succeeded)
        .bind(stats.failed)
        .bind(stats.cancelled)
        .bind(stats.retried)
        .bind(&stats.wait_ms[..])
        .bind(&stats.run_ms[..])
        .execute(&mut *conn)
        .await?;
    }
    Ok(())
}

/// Counts of one queue in one minute.
#[derive(Debug, Clone, sqlx::FromRow)]
pub struct StatsRow {
    pub queue: String,
    pub minute: DateTime<Utc>,
    pub succeeded: i64,
    pub failed: i64,
    pub cancelled: i64,
    pub retried: i64,
    pub wait_ms: Vec<i64>,
    pub run_ms: Vec<i64>,
}

/// The current tenant's counts of the last 15 minutes, and of the whole minute in which they began.
pub async fn list_stats(tx: &mut TenantTx) -> Result<Vec<StatsRow>> {
    Ok(sqlx::query_as(
        "select queue, minute, succeeded, failed, cancelled, retried, wait_ms, run_ms from job_stats
          where tenant_id = $1 and minute > ledger_now() - interval '16 min' order by minute",
    )
    .bind(tx.tenant())
    .fetch_all(&mut **tx)
    .await?)
}

/// Live jobs of one queue.
#[derive(Debug, Clone, sqlx::FromRow)]
pub struct QueueDepth {
    pub queue: String,
    pub scheduled: i64,
    pub queued: i64,
    pub running: i64,
    pub retrying: i64,
    /// When the longest waiting of the queued jobs became due.
    pub oldest_due_at: Option<DateTime<Utc>>,
}

/// The current tenant's live jobs by queue.
pub async fn list_depths(tx: &mut TenantTx) -> Result<Vec<QueueDepth>> {
    Ok(sqlx::query_as(
        r#"select queue,
                  count(*) filter (where not running and run_at > ledger_now() and attempt = 0) as scheduled,
                  count(*) filter (where not running and run_at <= ledger_now()) as queued,
                  count(*) filter (where running) as running,
                  count(*) filter (where not running and run_at > ledger_now() and attempt > 0) as retrying,
                  min(run_at) filter (where not running and run_at <= ledger_now()) as oldest_due_at
             from job_live
            where tenant_id = $1
            group by queue"#,
    )
    .bind(tx.tenant())
    .fetch_all(&mut **tx)
    .await?)
}
