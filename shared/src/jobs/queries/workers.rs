//! Worker processes and their leases.

use std::time::Duration;

use chrono::{DateTime, Utc};
use sqlx::PgConnection;

use super::interval;
use crate::Result;
use crate::infra::ids::WorkerId;

/// A worker process that starts.
#[derive(Debug, Clone)]
pub struct NewWorker {
    pub host: String,
    pub version: &'static str,
    pub queues: Vec<String>,
    pub concurrency: i32,
}

/// Makes a worker known; its lease begins.
pub async fn register(conn: &mut PgConnection, id: WorkerId, worker: &NewWorker, lease: Duration) -> Result<()> {
    sqlx::query(
        "insert into workers (id, host, version, queues, concurrency, lease_until)
         values ($1, $2, $3, $4, $5, ledger_now() + $6)",
    )
    .bind(id)
    .bind(&worker.host)
    .bind(worker.version)
    .bind(&worker.queues)
    .bind(worker.concurrency)
    .bind(interval(lease))
    .execute(conn)
    .await?;
    Ok(())
}

/// What a heartbeat found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Heartbeat {
    Renewed,
    /// The lease had run out and was taken away: whatever this worker still runs is no longer its own.
    Lost,
}

/// Renews the lease.
pub async fn heartbeat(conn: &mut PgConnection, id: WorkerId, running: i32, lease: Duration) -> Result<Heartbeat> {
    let done = sqlx::query(
        "update workers set heartbeat_at = ledger_now(), lease_until = ledger_now() + $3, running = $2
          where id = $1 and lost_at is null and stopped_at is null",
    )
    .bind(id)
    .bind(running)
    .bind(interval(lease))
    .execute(conn)
    .await?;
    Ok(if done.rows_affected() == 1 { Heartbeat::Renewed } else { Heartbeat::Lost })
}

/// Notes a clean stop.
pub async fn say_goodbye(conn: &mut PgConnection, id: WorkerId) -> Result<()> {
    sqlx::query("update workers set stopped_at = ledger_now(), running = 0 where id = $1 and stopped_at is null")
        .bind(id)
        .execute(conn)
        .await?;
    Ok(())
}

/// A live worker.
#[derive(Debug, Clone, sqlx::FromRow)]
pub struct WorkerRow {
    pub id: WorkerId,
    pub host: String,
    pub version: String,
    pub queues: Vec<String>,
    pub concurrency: i32,
    pub running: i32,
    pub started_at: DateTime<Utc>,
    pub heartbeat_at: DateTime<Utc>,
}

/// Workers whose lease has not run out, newest first, at most 1,000.
pub async fn list_alive(conn: &mut PgConnection) -> Result<Vec<WorkerRow>> {
    Ok(sqlx::query_as(
        "select id, host, version, queues, concurrency, running, started_at, heartbeat_at
           from workers
          where stopped_at is null and reaped_at is null and lost_at is null and lease_until >= ledger_now()
          order by id desc limit 1000",
    )
    .fetch_all(conn)
    .await?)
}
