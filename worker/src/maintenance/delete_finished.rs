//! The kind `maintenance.delete_finished`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use millwork_shared::Result;
use millwork_shared::jobs::Outcome;
use millwork_shared::maintenance::{DeleteFinished, queries};
use millwork_shared::tenants::Plan;
use serde_json::value::to_raw_value;

use crate::context::Context;
use crate::metrics::METRICS;
use crate::runtime::Run;

/// How long one run goes on before others get its slot.
const SLICE: Duration = Duration::from_secs(60);

/// Deletes finished jobs, events and deliveries of tenants whose plan keeps them for less than the longest, which partitions go by.
///
/// A few pages a transaction, whose end is kept: it may be killed at any moment and run twice, and comes to each page of a partition
/// once.
pub async fn delete_finished(_: DeleteFinished, run: Arc<Run>, ctx: Arc<Context>) -> Result<Outcome> {
    let began = Instant::now();
    let mut deleted = BTreeMap::new();
    let shorter = Plan::ALL.into_iter().filter(|plan| ctx.retention.of(*plan) < ctx.retention.longest());
    for (plan, table) in shorter.flat_map(|plan| queries::ROLLED.map(|table| (plan, table))) {
        loop {
            if run.cancelled.is_cancelled() {
                return Ok(Outcome::Cancelled);
            }
            if began.elapsed() > SLICE {
                return Ok(Outcome::Snooze(Duration::from_secs(1)));
            }
            let mut tx = ctx.system.system().await?;
            let rows = queries::expire_rows(&mut tx, table, plan, ctx.retention.of(plan)).await?;
            tx.commit().await?;
            let Some(rows) = rows else { break };
            METRICS.expired(table, rows);
            *deleted.entry(table).or_insert(0) += rows;
            run.progress(&deleted);
        }
    }
    tracing::info!(?deleted, "rows past their plan's retention deleted");
    Ok(Outcome::Done(Some(to_raw_value(&deleted)?)))
}
