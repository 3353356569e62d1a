//! Lets go of entries that are past their retention.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use millwork_shared::Result;
use millwork_shared::audit::chain::Ends;
use millwork_shared::audit::jobs::ExpireAudit;
use millwork_shared::audit::queries;
use millwork_shared::infra::db::ledger_now;
use millwork_shared::infra::ids::TenantId;
use millwork_shared::jobs::Outcome;
use millwork_shared::maintenance::queries::allow_long_statements;
use millwork_shared::tenants::Plan;

use crate::context::Context;
use crate::runtime::Run;

/// Months for which partitions exist in advance.
const MONTHS_AHEAD: i32 = 2;

/// Makes partitions ahead of time, and drops months that are past their tenants' retention.
///
/// Safe to run twice, and beside itself: partitions are made and dropped under a lock, and chains are held meanwhile.
pub async fn expire(_: ExpireAudit, run: Arc<Run>, ctx: Arc<Context>) -> Result<Outcome> {
    let mut tx = ctx.system.system().await?;
    let made = queries::ensure_partitions(&mut tx, MONTHS_AHEAD).await?;
    let partitions = queries::list_partitions(&mut tx).await?;
    let now = ledger_now(&mut tx).await?;
    tx.commit().await?;
    let mut dropped = 0;
    for (name, end) in partitions {
        if run.cancelled.is_cancelled() {
            return Ok(Outcome::Cancelled);
        }
        if end + Plan::Starter.audit_retention() > now {
            break; // nobody's is over
        }
        dropped += u32::from(drop_month(&ctx, &name, end, now).await?);
    }
    tracing::info!(made, dropped, "audit partitions rolled");
    Ok(Outcome::Done(None))
}

/// Answers whether anything went. The floor of a chain rises in the transaction that takes the entries below it.
async fn drop_month(ctx: &Context, name: &str, end: DateTime<Utc>, now: DateTime<Utc>) -> Result<bool> {
    let mut tx = ctx.system.system().await?;
    allow_long_statements(&mut tx).await?;
    let (mut keep, mut gone): (Vec<TenantId>, Vec<(TenantId, i64)>) = Default::default();
    for (tenant, plan, last, unsealed) in queries::list_tenants_between(&mut tx, end).await? {
        let plan = plan.and_then(|plan| plan.parse().ok()).unwrap_or(Plan::Enterprise);
        match last {
            Some(last) if !unsealed && end + plan.audit_retention() <= now => gone.push((tenant, last)),
            _ => keep.push(tenant),
        }
    }
    if gone.is_empty() && !keep.is_empty() {
        return Ok(false);
    }
    gone.sort_unstable(); // one order for all who hold several chains
    for (tenant, last) in gone {
        let Some(chain) = queries::lock_chain(&mut tx, tenant).await? else { continue };
        let mut ends = Ends::open(&ctx.keys, tenant, &chain.sealed)?;
        ends.floor = ends.floor.max(last);
        queries::store_chain(&mut tx, tenant, ends.seq, &ends.seal(&ctx.keys, tenant)?).await?;
    }
    queries::drop_partition(&mut tx, name, &keep).await?;
    tx.commit().await?;
    Ok(true)
}
