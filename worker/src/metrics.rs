//! Figures of this process for Prometheus, see docs/OPERATIONS.md.

use std::sync::{Arc, LazyLock, OnceLock};
use std::time::Duration;

use millwork_shared::infra::metrics::{
    COUNTS, Histogram, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, OTHER, QUICK, Registry, SLOW,
    Vitals,
};
use millwork_shared::jobs::Queue;
use millwork_shared::maintenance::queries;
use millwork_shared::objects::sweep::Finding;

/// Everything that this process counts.
pub static METRICS: LazyLock<Metrics> = LazyLock::new(Metrics::register);

const BY_QUEUE: [&str; 1] = ["queue"];
const BY_KIND: [&str; 2] = ["kind", "queue"];

pub struct Metrics {
    pub vitals: Vitals,
    queues: [QueueFigures; Queue::ALL.len()],
    slots: IntGaugeVec,
    pub claim_s: Histogram,
    pub completion_batch: Histogram,
    pub completion_s: Histogram,
    wait_s: HistogramVec,
    run_s: HistogramVec,
    ended: IntCounterVec,
    pub leases_lost: IntCounter,
    pub jobs_abandoned: IntCounter,
    pub late_results: IntCounter,
    swept: IntCounterVec,
    expired: IntCounterVec,
}

/// Figures of one queue.
pub struct QueueFigures {
    pub taken: IntCounter,
    pub claimed: IntCounter,
    running: IntGauge,
}

impl Metrics {
    fn register() -> Self {
        let registry = Registry::default();
        let taken = registry.counters("millwork_tickets_taken_total", "Tickets taken from Redis", &BY_QUEUE);
        let claimed = registry.counters(
            "millwork_jobs_claimed_total",
            "Jobs that became this worker's; tickets beyond these were duplicates, or of jobs that ended or paused",
            &BY_QUEUE,
        );
        let running = registry.int_gauges("millwork_jobs_running", "Handlers that run now", &BY_QUEUE);
        let queues = Queue::ALL.map(|queue| QueueFigures {
            taken: taken.with_label_values(&[queue.as_str()]),
            claimed: claimed.with_label_values(&[queue.as_str()]),
            running: running.with_label_values(&[queue.as_str()]),
        });
        let swept = registry.counters(
            "millwork_storage_swept_total",
            "What sweeps of storage did; missing objects are losses",
            &["finding"],
        );
        // From the first scrape on, so that an increase is seen.
        Finding::ALL.into_iter().for_each(|finding| drop(swept.with_label_values(&[finding.as_str()])));
        let expired = registry.counters(
            "millwork_rows_expired_total",
            "Rows that maintenance deleted because their time was over",
            &["table"],
        );
        tables().for_each(|table| drop(expired.with_label_values(&[table])));
        Self {
            queues,
            slots: registry.int_gauges("millwork_worker_slots", "Handlers that may run at once", &BY_QUEUE),
            claim_s: registry.histogram("millwork_claim_seconds", "How long claiming a batch of jobs took", QUICK),
            completion_batch: registry.histogram(
                "millwork_completion_batch_size",
                "Outcomes that were stored by one transaction",
                COUNTS,
            ),
            completion_s: registry.histogram(
                "millwork_completion_seconds",
                "How long storing a batch of outcomes took",
                QUICK,
            ),
            wait_s: registry.histograms(
                "millwork_job_wait_seconds",
                "How long jobs had been due when they were claimed",
                SLOW,
                &BY_KIND,
            ),
            run_s: registry.histograms("millwork_job_run_seconds", "How long handlers ran", SLOW, &BY_KIND),
            ended: registry.counters(
                "millwork_attempts_total",
                "Attempts at jobs that ended here: succeeded, failed, cancelled, retried or snoozed",
                &["kind", "queue", "end"],
            ),
            leases_lost: registry.counter(
                "millwork_leases_lost_total",
                "How often this worker found its lease taken away, and began anew",
            ),
            jobs_abandoned: registry
                .counter("millwork_jobs_abandoned_total", "Jobs that this worker held when it lost its lease"),
            late_results: registry
                .counter("millwork_late_results_total", "Results that the ledger refused because the lease was gone"),
            swept,
            expired,
            vitals: Vitals::over(registry, "worker"),
        }
    }

    pub fn queue(&self, queue: Queue) -> &QueueFigures {
        &self.queues[queue as usize]
    }

    /// Counts what a sweep did.
    pub fn swept(&self, finding: Finding, objects: usize) {
        self.swept.with_label_values(&[finding.as_str()]).inc_by(objects as u64);
    }

    /// Counts rows that maintenance deleted.
    pub fn expired(&self, table: &'static str, rows: u64) {
        self.expired.with_label_values(&[table]).inc_by(rows);
    }

    /// Says that the worker serves `queue`.
    pub fn serves(&self, queue: Queue, slots: usize) {
        self.slots.with_label_values(&[queue.as_str()]).set(i64::try_from(slots).unwrap_or(i64::MAX));
    }
}

/// Whose rows expire.
fn tables() -> impl Iterator<Item = &'static str> {
    queries::EXPIRIES.iter().map(|expiry| expiry.table).chain(queries::ROLLED).chain(["batches"])
}

impl QueueFigures {
    /// Counts a handler as running until the answer is dropped.
    pub fn run(&'static self) -> Running {
        self.running.inc();
        Running(&self.running)
    }
}

pub struct Running(&'static IntGauge);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// How an attempt ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    Succeeded,
    Failed,
    Cancelled,
    Retried,
    Snoozed,
}

impl End {
    const ALL: [Self; 5] = [Self::Succeeded, Self::Failed, Self::Cancelled, Self::Retried, Self::Snoozed];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
            Self::Retried => "retried",
            Self::Snoozed => "snoozed",
        }
    }
}

/// The figures of one kind, made when its first job of a queue runs. Kinds are those that have a handler: what else a
/// job may be called is counted as one.
pub struct KindFigures {
    kind: &'static str,
    queues: [OnceLock<Arc<JobFigures>>; Queue::ALL.len()],
}

/// The figures of the jobs of one kind in one queue.
#[derive(Debug)]
pub struct JobFigures {
    wait_s: Histogram,
    run_s: Histogram,
    ended: [IntCounter; End::ALL.len()],
}

impl KindFigures {
    pub fn of(kind: &'static str) -> Self {
        Self { kind, queues: Default::default() }
    }

    /// Of kinds without a handler.
    pub fn other() -> Self {
        Self::of(OTHER)
    }

    pub fn in_queue(&self, queue: Queue) -> Arc<JobFigures> {
        let labels = [self.kind, queue.as_str()];
        let made = self.queues[queue as usize].get_or_init(|| {
            let ended = End::ALL.map(|end| METRICS.ended.with_label_values(&[labels[0], labels[1], end.as_str()]));
            Arc::new(JobFigures {
                wait_s: METRICS.wait_s.with_label_values(&labels),
                run_s: METRICS.run_s.with_label_values(&labels),
                ended,
            })
        });
        made.clone()
    }
}

impl JobFigures {
    /// Notes a run that has ended.
    pub fn ran(&self, waited: Duration, took: Duration) {
        self.wait_s.observe(waited.as_secs_f64());
        self.run_s.observe(took.as_secs_f64());
    }

    pub fn ended(&self, end: End) {
        self.ended[end as usize].inc();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_queue_and_end_has_the_place_of_its_name() {
        for (n, queue) in Queue::ALL.into_iter().enumerate() {
            assert_eq!(queue as usize, n, "{queue}");
        }
        for (n, end) in End::ALL.into_iter().enumerate() {
            assert_eq!(end as usize, n, "{end:?}");
        }
    }
}
