//! Counts of what was done, added to the ledger once a second.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use millwork_shared::Result;
use millwork_shared::infra::db::{PATIENCE, SystemDb};
use millwork_shared::infra::ids::TenantId;
use millwork_shared::infra::tasks;
use millwork_shared::jobs::Queue;
use millwork_shared::jobs::queries::{self, MinuteStats};

use super::complete::Completion;
use crate::metrics::End;

const EVERY: Duration = Duration::from_secs(1);

type Counts = HashMap<(TenantId, Queue), MinuteStats>;

/// Counts by tenant and queue since the last time they were stored. Lost with the process: they are figures, not jobs.
pub struct Stats {
    counts: Arc<Mutex<Counts>>,
    system: SystemDb,
    flusher: tokio::task::JoinHandle<Option<()>>,
}

impl Stats {
    pub fn start(system: SystemDb) -> Self {
        let counts = Arc::new(Mutex::new(Counts::new()));
        let flusher = tasks::spawn("stats", {
            let (counts, system) = (counts.clone(), system.clone());
            async move {
                loop {
                    tokio::time::sleep(EVERY).await;
                    store(&counts, &system).await;
                }
            }
        });
        Self { counts, system, flusher }
    }

    pub fn count(&self, completion: &Completion) {
        let end = completion.end();
        completion.figures.ended(end);
        let mut counts = self.counts.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let stats = counts.entry((completion.tenant, completion.queue)).or_default();
        match end {
            End::Succeeded => stats.succeeded += 1,
            End::Failed => stats.failed += 1,
            End::Cancelled => stats.cancelled += 1,
            End::Retried => stats.retried += 1,
            End::Snoozed => return,
        }
        stats.wait_ms[MinuteStats::bucket(completion.wait_ms)] += 1;
        stats.run_ms[MinuteStats::bucket(completion.run_ms)] += 1;
    }

    /// Stores what is left and stops.
    pub async fn flush(&self) {
        self.flusher.abort();
        store(&self.counts, &self.system).await;
    }
}

async fn store(counts: &Mutex<Counts>, system: &SystemDb) {
    let taken = std::mem::take(&mut *counts.lock().unwrap_or_else(std::sync::PoisonError::into_inner));
    if taken.is_empty() {
        return;
    }
    let rows: Vec<_> = taken.into_iter().collect();
    if let Err(error) = system.within(PATIENCE, add(system, &rows)).await {
        tracing::debug!(%error, "counts of one second are lost");
    }
}

async fn add(system: &SystemDb, rows: &[((TenantId, Queue), MinuteStats)]) -> Result<()> {
    let mut tx = system.system_relaxed().await?;
    queries::add_stats(&mut tx, rows).await?;
    tx.commit().await
}
