//! Live jobs by queue, over all tenants.

use chrono::{DateTime, Utc};
use sqlx::PgConnection;

use crate::Result;
use crate::jobs::Queue;

/// One queue as it was counted last.
#[derive(Debug, Clone, PartialEq, sqlx::FromRow)]
pub struct CountedQueue {
    pub queue: String,
    pub queued: i64,
    pub paused: i64,
    pub scheduled: i64,
    pub retrying: i64,
    pub running: i64,
    /// How long the longest waiting of the queued jobs had been due.
    pub oldest_age_ms: Option<i64>,
    /// Live worker processes that serve it.
    pub workers: i64,
    pub counted_at: DateTime<Utc>,
}

/// Lets the count of this transaction run for longer than other statements: it reads every live row.
pub async fn allow_long_count(conn: &mut PgConnection) -> Result<()> {
    sqlx::raw_sql("set local statement_timeout = '30s'; set local synchronous_commit = off").execute(conn).await?;
    Ok(())
}

/// Counts every queue anew and keeps the result.
pub async fn count_queues(conn: &mut PgConnection) -> Result<()> {
    sqlx::query(
        r#"insert into queue_depths as d
                  (queue, queued, paused, scheduled, retrying, running, oldest_due_at, workers, counted_at)
           select q.queue, coalesce(n.queued, 0), coalesce(n.paused, 0), coalesce(n.scheduled, 0),
                  coalesce(n.retrying, 0), coalesce(n.running, 0), n.oldest_due_at,
                  (select count(*) from workers w
                    where w.stopped_at is null and w.reaped_at is null and w.lost_at is null
                      and w.lease_until >= ledger_now() and q.queue = any (w.queues)),
                  ledger_now()
             from unnest($1::text[]) q(queue)
             left join (
                  select l.queue,
                         count(*) filter (where not l.running and l.run_at <= ledger_now() and p.queue is null) as queued,
                         count(*) filter (where not l.running and l.run_at <= ledger_now() and p.queue is not null) as paused,
                         count(*) filter (where not l.running and l.run_at > ledger_now() and l.attempt = 0) as scheduled,
                         count(*) filter (where not l.running and l.run_at > ledger_now() and l.attempt > 0) as retrying,
                         count(*) filter (where l.running) as running,
                         min(l.run_at) filter (where not l.running and l.run_at <= ledger_now() and p.queue is null)
                             as oldest_due_at
                    from job_live l
                    left join queue_pauses p on p.tenant_id = l.tenant_id and p.queue = l.queue
                   group by l.queue
             ) n on n.queue = q.queue
            order by q.queue
           on conflict (queue) do update
              set queued = excluded.queued, paused = excluded.paused, scheduled = excluded.scheduled,
                  retrying = excluded.retrying, running = excluded.running, oldest_due_at = excluded.oldest_due_at,
                  workers = excluded.workers, counted_at = excluded.counted_at"#,
    )
    .bind(Queue::ALL.map(Queue::as_str).to_vec())
    .execute(conn)
    .await?;
    Ok(())
}

/// What was counted last; nothing before the first count.
pub async fn list_counted_queues(conn: &mut PgConnection) -> Result<Vec<CountedQueue>> {
    Ok(sqlx::query_as(
        r#"select queue, queued, paused, scheduled, retrying, running, workers, counted_at,
                  (extract(epoch from counted_at - oldest_due_at) * 1000)::bigint as oldest_age_ms
             from queue_depths
            order by queue"#,
    )
    .fetch_all(conn)
    .await?)
}
