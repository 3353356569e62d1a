//! What health checks ask the database.

use crate::Result;
use crate::infra::db::TenantTx;

/// Worker processes that are alive, over all queues. Not a tenant's secret: every tenant may read the table.
pub async fn count_live_workers(tx: &mut TenantTx) -> Result<i64> {
    Ok(sqlx::query_scalar(
        "select count(*) from workers where stopped_at is null and reaped_at is null and lease_until > ledger_now()",
    )
    .fetch_one(&mut **tx)
    .await?)
}
