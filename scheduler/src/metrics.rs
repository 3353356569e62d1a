//! Figures of this process for Prometheus, see docs/OPERATIONS.md.

use std::sync::LazyLock;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use millwork_shared::infra::metrics::{Gauge, IntCounter, IntGauge, Registry, Vitals};
use millwork_shared::jobs::depths::DepthGauges;

/// Everything that this process counts.
pub static METRICS: LazyLock<Metrics> = LazyLock::new(Metrics::register);

pub struct Metrics {
    pub vitals: Vitals,
    pub depths: DepthGauges,
    leader: IntGauge,
    /// Tickets given to Redis because a lane ran low.
    pub demand: Offers,
    /// Tickets of jobs whose time had come.
    pub due: Offers,
    /// Tickets given to Redis by the comparison with the ledger.
    pub rescan: Offers,
    pub repaired: IntCounter,
    rescan_s: Gauge,
    rescanned_at: Gauge,
    pub count_s: Gauge,
    pub workers_lost: IntCounter,
    requeued: IntCounter,
    quarantined: IntCounter,
    cancelled: IntCounter,
}

/// Tickets offered for one reason.
#[derive(Debug, Clone)]
pub struct Offers {
    pub offered: IntCounter,
    /// Those that Redis did not have and had room for.
    pub added: IntCounter,
}

impl Metrics {
    fn register() -> Self {
        let registry = Registry::default();
        let offered = registry.counters(
            "millwork_tickets_offered_total",
            "Tickets that the scheduler offered to Redis: on demand of a lane, of due jobs, or by the rescan",
            &["reason"],
        );
        let added = registry.counters(
            "millwork_tickets_added_total",
            "Tickets among those that Redis did not have and took",
            &["reason"],
        );
        let offers = |reason| Offers {
            offered: offered.with_label_values(&[reason]),
            added: added.with_label_values(&[reason]),
        };
        let reaped = registry.counters(
            "millwork_jobs_reaped_total",
            "Jobs taken from lost workers, by what became of them; quarantined ones failed as worker_lost",
            &["fate"],
        );
        Self {
            leader: registry.int_gauge("millwork_scheduler_leader", "Whether this scheduler leads, 1 or 0"),
            demand: offers("demand"),
            due: offers("due"),
            rescan: offers("rescan"),
            repaired: registry.counter(
                "millwork_tickets_repaired_total",
                "Tickets that the rescan found missing from lanes that fit Redis whole: lost, or just then on their way",
            ),
            rescan_s: registry.gauge("millwork_rescan_seconds", "How long the last comparison with the ledger took"),
            rescanned_at: registry.gauge(
                "millwork_rescan_timestamp_seconds",
                "When the last comparison with the ledger was done, in Unix time; 0 before the first",
            ),
            count_s: registry.gauge("millwork_queue_count_seconds", "How long the last count of the queues took"),
            workers_lost: registry.counter("millwork_workers_lost_total", "Workers whose lease ran out"),
            requeued: reaped.with_label_values(&["requeued"]),
            quarantined: reaped.with_label_values(&["quarantined"]),
            cancelled: reaped.with_label_values(&["cancelled"]),
            depths: DepthGauges::register(&registry),
            vitals: Vitals::over(registry, "scheduler"),
        }
    }

    /// Says that this scheduler leads until the answer is dropped.
    pub fn lead(&'static self) -> Leading {
        self.leader.set(1);
        Leading(&self.leader)
    }

    pub fn reaped(&self, requeued: usize, quarantined: usize, cancelled: usize) {
        self.requeued.inc_by(requeued as u64);
        self.quarantined.inc_by(quarantined as u64);
        self.cancelled.inc_by(cancelled as u64);
    }

    /// Notes a comparison with the ledger that is done.
    pub fn rescanned(&self, took: Duration) {
        self.rescan_s.set(took.as_secs_f64());
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        self.rescanned_at.set(now.as_secs_f64());
    }
}

impl Offers {
    pub fn count(&self, offered: usize, added: usize) {
        self.offered.inc_by(offered as u64);
        self.added.inc_by(added as u64);
    }
}

pub struct Leading(&'static IntGauge);

impl Drop for Leading {
    fn drop(&mut self) {
        self.0.set(0);
    }
}
