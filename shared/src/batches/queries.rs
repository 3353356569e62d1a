//! Every statement on batches but the counting.

use std::time::Duration;

use chrono::{DateTime, Utc};
use sqlx::PgConnection;

use super::NewBatch;
use crate::infra::db::TenantTx;
use crate::infra::ids::{BatchId, JobId};
use crate::{Error, Result};

/// Makes a batch of jobs that the same transaction has stored, and its `on_complete` job wait for them.
///
/// To be done before any of them is made to wait for others, which may cancel it at once.
pub async fn insert(tx: &mut TenantTx, batch: &NewBatch) -> Result<()> {
    let tenant = tx.tenant();
    sqlx::query("insert into batches (tenant_id, id, name, on_complete_id, total) values ($1, $2, $3, $4, $5)")
        .bind(tenant)
        .bind(batch.id)
        .bind(&batch.name)
        .bind(batch.on_complete)
        .bind(i32::try_from(batch.jobs.len()).unwrap_or(i32::MAX))
        .execute(&mut **tx)
        .await?;
    sqlx::query("update job_live set followed = true where tenant_id = $1 and id = any ($2)")
        .bind(tenant)
        .bind(&batch.jobs)
        .execute(&mut **tx)
        .await?;
    sqlx::query(
        r#"with members as (
               insert into job_followers (tenant_id, id, follower_id, is_batch)
               select $1, id, $3, true from unnest($2::uuid[]) u(id)
           )
           insert into job_links (tenant_id, id, batch_id) select $1, id, $3 from unnest($2::uuid[]) u(id)"#,
    )
    .bind(tenant)
    .bind(&batch.jobs)
    .bind(batch.id)
    .execute(&mut **tx)
    .await?;
    sqlx::query("update job_live set run_at = not_yet(), later = false where tenant_id = $1 and id = $2")
        .bind(tenant)
        .bind(batch.on_complete)
        .execute(&mut **tx)
        .await?;
    Ok(())
}

/// A batch as it stands. The rest of its jobs have not ended.
#[derive(Debug, Clone, sqlx::FromRow)]
pub struct BatchRow {
    pub id: BatchId,
    pub name: Option<String>,
    pub on_complete_id: Option<JobId>,
    pub total: i32,
    pub succeeded: i32,
    pub failed: i32,
    pub cancelled: i32,
    pub finished_at: Option<DateTime<Utc>>,
}

/// The batch of that id.
///
/// # Errors
/// [`Error::NotFound`]
pub async fn get(tx: &mut TenantTx, id: BatchId) -> Result<BatchRow> {
    sqlx::query_as(
        r#"select id, name, on_complete_id, total, succeeded, failed, cancelled, finished_at
             from batches where tenant_id = $1 and id = $2"#,
    )
    .bind(tx.tenant())
    .bind(id)
    .fetch_optional(&mut **tx)
    .await?
    .ok_or(Error::NotFound("batch"))
}

/// A page of batches, newest first.
pub async fn list(tx: &mut TenantTx, before: Option<BatchId>, limit: i64) -> Result<Vec<BatchRow>> {
    Ok(sqlx::query_as(
        r#"select id, name, on_complete_id, total, succeeded, failed, cancelled, finished_at
             from batches where tenant_id = $1 and ($2::uuid is null or id < $2)
            order by id desc limit $3"#,
    )
    .bind(tx.tenant())
    .bind(before)
    .bind(limit)
    .fetch_all(&mut **tx)
    .await?)
}

/// Deletes some batches that finished longer ago than `age`. Answers how many; see
/// [`CHUNK`](crate::maintenance::queries::CHUNK).
pub async fn delete_finished(conn: &mut PgConnection, age: Duration) -> Result<u64> {
    let deleted = sqlx::query(
        r#"delete from batches where ctid = any (array(
               select ctid from batches where finished_at < ledger_now() - $1 * interval '1 s' limit 5000))"#,
    )
    .bind(i64::try_from(age.as_secs()).unwrap_or(i64::MAX))
    .execute(conn)
    .await?;
    Ok(deleted.rows_affected())
}
