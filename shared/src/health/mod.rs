//! What health checks ask the database.

use crate::Result;
use crate::infra::db::Db;
use crate::infra::ids::TenantId;

/// Worker processes that are alive, over all queues. Not a tenant's secret: every tenant may read the table, and so may
/// one that does not exist.
pub async fn count_live_workers(db: &Db) -> Result<i64> {
    let mut tx = db.tenant(TenantId(uuid::Uuid::nil())).await?;
    let workers = sqlx::query_scalar(
        "select count(*) from workers where stopped_at is null and reaped_at is null and lease_until > ledger_now()",
    )
    .fetch_one(&mut *tx)
    .await?;
    tx.commit().await?;
    Ok(workers)
}
