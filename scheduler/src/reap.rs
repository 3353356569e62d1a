//! Takes jobs back from workers that are gone.

use std::sync::Arc;
use std::time::{Duration, Instant};

use millwork_shared::Result;
use millwork_shared::infra::db::{PATIENCE, SystemDb};
use millwork_shared::jobs::dispatch::Dispatcher;
use millwork_shared::jobs::queries::{self, ReapReport};
use tokio::sync::Notify;

use crate::admit::Admission;
use crate::metrics::METRICS;

const EVERY: Duration = Duration::from_secs(1);
/// After the database was away, every lease may have run out: workers are given the time of a heartbeat to come back.
const AMNESTY: Duration = Duration::from_secs(7);

/// Looks for lost workers, for ever. `ended` is told when that ended jobs.
pub async fn reap_lost(system: SystemDb, dispatcher: Dispatcher, admission: Arc<Admission>, ended: Arc<Notify>) {
    let mut watching_since = Instant::now();
    let mut last_look = Instant::now();
    loop {
        tokio::time::sleep(EVERY).await;
        if last_look.elapsed() > AMNESTY / 2 {
            watching_since = Instant::now();
        }
        let looking = async {
            if watching_since.elapsed() < AMNESTY { ping(&system).await } else { look(&system).await.map(Some) }
        };
        let looked = system.within(PATIENCE, looking).await;
        match looked {
            Ok(report) => {
                last_look = Instant::now();
                if let Some(report) = report {
                    if report.1.quarantined + report.1.cancelled > 0 {
                        ended.notify_one();
                    }
                    put_back(report, &dispatcher, &admission).await;
                }
            }
            Err(error) => {
                tracing::warn!(%error, error.category = %error.category(), "cannot look for lost workers; trying again")
            }
        }
    }
}

async fn ping(system: &SystemDb) -> Result<Option<(usize, ReapReport)>> {
    system.system().await?.commit().await?;
    Ok(None)
}

/// Gives up workers whose lease has run out, and takes their jobs back.
///
/// # Errors
/// Fails when the database does not answer; nothing is changed then.
pub async fn look(system: &SystemDb) -> Result<(usize, ReapReport)> {
    let mut tx = system.system().await?;
    let lost = queries::mark_lost(&mut tx).await?;
    let report = queries::reap(&mut tx, &lost).await?;
    let newly_lost = if lost.is_empty() { 0 } else { queries::count_newly_lost(&mut tx).await? };
    tx.commit().await?;
    METRICS.workers_lost.inc_by(u64::try_from(newly_lost).unwrap_or(0));
    METRICS.reaped(report.requeued.len(), report.quarantined, report.cancelled);
    Ok((lost.len(), report))
}

async fn put_back((workers, report): (usize, ReapReport), dispatcher: &Dispatcher, admission: &Admission) {
    if workers == 0 {
        return;
    }
    let ReapReport { requeued, quarantined, cancelled } = &report;
    if !requeued.is_empty() || *quarantined + *cancelled > 0 {
        tracing::warn!(workers, requeued = requeued.len(), quarantined, cancelled, "took jobs back from lost workers");
    }
    if let Err(error) = dispatcher.offer_now(requeued).await {
        tracing::warn!(%error, error.category = %error.category(), "cannot offer them yet");
    }
    admission.rescan_soon(); // for tickets that a lost worker had taken and not yet claimed
}
