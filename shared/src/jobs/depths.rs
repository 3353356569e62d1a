//! What a scrape shows of the queues: the last count, whoever made it.

use std::time::Duration;

use super::Queue;
use super::queries::{self, CountedQueue};
use crate::Result;
use crate::infra::db::{PATIENCE, SystemDb};
use crate::infra::metrics::{Gauge, GaugeVec, IntGaugeVec, Registry};

/// How often the last count is read: as often as it is made at most.
const EVERY: Duration = Duration::from_secs(10);

/// Until there is a first count.
const SOON: Duration = Duration::from_secs(1);

/// Every process that shows these shows the same figures: take the maximum over processes, not the sum.
pub struct DepthGauges {
    jobs: IntGaugeVec,
    oldest_age_s: GaugeVec,
    workers: IntGaugeVec,
    counted_at: Gauge,
}

impl DepthGauges {
    pub fn register(registry: &Registry) -> Self {
        Self {
            jobs: registry.int_gauges(
                "millwork_queue_jobs",
                "Live jobs of all tenants, by queue and state, as the leading scheduler counted them last",
                &["queue", "state"],
            ),
            oldest_age_s: registry.gauges(
                "millwork_queue_oldest_age_seconds",
                "How long the longest waiting of the queued jobs had been due; 0 when none waits",
                &["queue"],
            ),
            workers: registry.int_gauges(
                "millwork_queue_workers",
                "Live worker processes that serve the queue",
                &["queue"],
            ),
            counted_at: registry.gauge(
                "millwork_queue_counted_timestamp_seconds",
                "When the queues were counted last, in Unix time by the ledger's clock; 0 before the first count",
            ),
        }
    }

    /// Reads the last count again and again, for ever. With the database down the figures stay, and grow old.
    pub async fn watch(&self, system: SystemDb) {
        loop {
            let read = system.within(PATIENCE, read(&system)).await;
            let counted = read.as_ref().is_ok_and(|queues| !queues.is_empty());
            match read {
                Ok(queues) => self.show(&queues),
                Err(error) => tracing::debug!(%error, "cannot read how many jobs the queues hold"),
            }
            tokio::time::sleep(if counted { EVERY } else { SOON }).await;
        }
    }

    /// Shows a count. Queues that this build does not know are left out.
    pub fn show(&self, queues: &[CountedQueue]) {
        for counted in queues {
            let Ok(queue) = counted.queue.parse::<Queue>() else { continue };
            let queue = queue.as_str();
            for (state, jobs) in [
                ("queued", counted.queued),
                ("paused", counted.paused),
                ("scheduled", counted.scheduled),
                ("retrying", counted.retrying),
                ("running", counted.running),
            ] {
                self.jobs.with_label_values(&[queue, state]).set(jobs);
            }
            let oldest_age_s = counted.oldest_age_ms.unwrap_or(0) as f64 / 1_000.0;
            self.oldest_age_s.with_label_values(&[queue]).set(oldest_age_s);
            self.workers.with_label_values(&[queue]).set(counted.workers);
            self.counted_at.set(counted.counted_at.timestamp_millis() as f64 / 1_000.0);
        }
    }
}

async fn read(system: &SystemDb) -> Result<Vec<CountedQueue>> {
    let mut tx = system.system().await?;
    let queues = queries::list_counted_queues(&mut tx).await?;
    tx.commit().await?;
    Ok(queues)
}
