//! Gives entries their places in their tenants' chains.

use std::sync::Arc;

use millwork_shared::Result;
use millwork_shared::audit::chain::Ends;
use millwork_shared::audit::jobs::SealAudit;
use millwork_shared::audit::queries;
use millwork_shared::infra::db::ledger_now;
use millwork_shared::infra::ids::TenantId;
use millwork_shared::jobs::Outcome;

use crate::context::Context;
use crate::runtime::Run;

/// Entries sealed by one transaction.
const BATCH: i64 = 1_000;

/// Seals what has no place yet.
///
/// Safe to run twice, and beside itself: a chain is held while it is extended. A chain whose end was tampered with is left as
/// it is, for `millwork-api audit verify` to tell.
pub async fn seal(_: SealAudit, run: Arc<Run>, ctx: Arc<Context>) -> Result<Outcome> {
    let mut tx = ctx.system.system().await?;
    let tenants = queries::list_unsealed_tenants(&mut tx).await?;
    tx.commit().await?;
    let mut refused = None;
    for tenant in tenants {
        if run.cancelled.is_cancelled() {
            return Ok(Outcome::Cancelled);
        }
        if let Err(error) = seal_tenant(&ctx, tenant).await {
            tracing::error!(tenant.id = %tenant, %error, "audit entries cannot be sealed");
            refused = Some(error);
        }
    }
    refused.map_or(Ok(Outcome::Done(None)), Err)
}

async fn seal_tenant(ctx: &Context, tenant: TenantId) -> Result<()> {
    loop {
        let mut tx = ctx.system.system().await?;
        let mut ends = match queries::lock_chain(&mut tx, tenant).await? {
            Some(chain) => Ends::open(&ctx.keys, tenant, &chain.sealed)?,
            None => Ends::NONE,
        };
        let entries = queries::list_unsealed(&mut tx, tenant, BATCH).await?;
        if entries.is_empty() {
            return tx.commit().await;
        }
        let at = ledger_now(&mut tx).await?;
        let links = ends.extend(&entries, at);
        queries::seal(&mut tx, tenant, &links, at).await?;
        queries::store_chain(&mut tx, tenant, ends.seq, &ends.seal(&ctx.keys, tenant)?).await?;
        tx.commit().await?;
    }
}
