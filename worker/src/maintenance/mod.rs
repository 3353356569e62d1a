//! Partitions and retention.

/// The kind `maintenance.delete_finished`.
pub mod delete_finished;

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::FutureExt;
use millwork_shared::Result;
use millwork_shared::audit::jobs::ExpireAudit;
use millwork_shared::batches;
use millwork_shared::jobs::{Job, Outcome};
use millwork_shared::maintenance::{CleanUp, DeleteExpired, DeleteFinished, RollPartitions, queries};
use millwork_shared::objects::jobs::SweepObjects;
use serde_json::value::to_raw_value;

use self::delete_finished::delete_finished;
use crate::audit::expire::expire;
use crate::context::Context;
use crate::metrics::METRICS;
use crate::objects::sweep::sweep;
use crate::runtime::Run;

/// Days for which partitions exist in advance.
const DAYS_AHEAD: i32 = 7;

/// Makes partitions ahead of time and drops those whose retention is over.
///
/// Safe to run twice, and beside itself: the functions take a lock.
pub async fn roll_partitions(_: RollPartitions, _run: Arc<Run>, ctx: Arc<Context>) -> Result<Outcome> {
    let mut tx = ctx.system.system().await?;
    let made = queries::ensure_partitions(&mut tx, DAYS_AHEAD).await?;
    tx.commit().await?;
    let mut dropped = 0;
    for table in queries::ROLLED {
        let mut tx = ctx.system.system().await?;
        queries::allow_long_statements(&mut tx).await?;
        dropped += queries::drop_partitions(&mut tx, table, ctx.retention.longest()).await?;
        tx.commit().await?;
    }
    tracing::info!(made, dropped, "partitions rolled");
    Ok(Outcome::Done(Some(to_raw_value(&serde_json::json!({ "made": made, "dropped": dropped }))?)))
}

/// All that maintenance does, of the tenant's storage its own.
///
/// Safe to run twice: each step is, and one that has more to do than fits a run is gone on with by the next one.
pub async fn clean_up(_: CleanUp, run: Arc<Run>, ctx: Arc<Context>) -> Result<Outcome> {
    let mut results = BTreeMap::new();
    let steps = [
        (RollPartitions::KIND, roll_partitions(RollPartitions {}, run.clone(), ctx.clone()).boxed()),
        (DeleteExpired::KIND, delete_expired(DeleteExpired {}, run.clone(), ctx.clone()).boxed()),
        (DeleteFinished::KIND, delete_finished(DeleteFinished {}, run.clone(), ctx.clone()).boxed()),
        (ExpireAudit::KIND, expire(ExpireAudit {}, run.clone(), ctx.clone()).boxed()),
        (SweepObjects::KIND, sweep(SweepObjects::default(), run.clone(), ctx).boxed()),
    ];
    for (kind, step) in steps {
        match step.await? {
            Outcome::Done(result) => results.insert(kind, result),
            unfinished => return Ok(unfinished),
        };
    }
    Ok(Outcome::Done(Some(to_raw_value(&results)?)))
}

/// Deletes what has expired, in chunks, so that a stop or a cancellation loses nothing.
pub async fn delete_expired(_: DeleteExpired, run: Arc<Run>, ctx: Arc<Context>) -> Result<Outcome> {
    let mut deleted = BTreeMap::new();
    for expiry in &queries::EXPIRIES {
        loop {
            if run.cancelled.is_cancelled() {
                return Ok(Outcome::Cancelled);
            }
            let mut tx = ctx.system.system().await?;
            let rows = queries::delete_expired(&mut tx, expiry).await?;
            tx.commit().await?;
            METRICS.expired(expiry.table, rows);
            *deleted.entry(expiry.table).or_insert(0) += rows;
            if rows < queries::CHUNK {
                break;
            }
        }
    }
    loop {
        if run.cancelled.is_cancelled() {
            return Ok(Outcome::Cancelled);
        }
        let mut tx = ctx.system.system().await?;
        let rows = batches::queries::delete_finished(&mut tx, ctx.retention.longest()).await?;
        tx.commit().await?;
        METRICS.expired("batches", rows);
        *deleted.entry("batches").or_insert(0) += rows;
        if rows < queries::CHUNK {
            break;
        }
    }
    tracing::info!(?deleted, "expired rows deleted");
    Ok(Outcome::Done(Some(to_raw_value(&deleted)?)))
}
