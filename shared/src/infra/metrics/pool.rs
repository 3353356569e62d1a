//! The pool of connections to PostgreSQL.

use std::sync::atomic::{AtomicI64, Ordering};

use super::{IntGauge, IntGaugeVec, Registry};
use crate::infra::db::Db;

/// sqlx does not say how many wait; a process has one pool.
static WAITING: AtomicI64 = AtomicI64::new(0);

/// Held while a transaction waits for a connection and for its own beginning.
pub struct Waiting(());

pub fn waiting() -> Waiting {
    WAITING.fetch_add(1, Ordering::Relaxed);
    Waiting(())
}

impl Drop for Waiting {
    fn drop(&mut self) {
        WAITING.fetch_sub(1, Ordering::Relaxed);
    }
}

pub(super) struct Pool {
    connections: IntGaugeVec,
    max: IntGauge,
    waiting: IntGauge,
}

impl Pool {
    pub fn register(registry: &Registry) -> Self {
        Self {
            connections: registry.int_gauges(
                "millwork_db_connections",
                "Open connections of the pool to PostgreSQL, by whether they are in use",
                &["state"],
            ),
            max: registry.int_gauge("millwork_db_connections_max", "Connections that the pool may open"),
            waiting: registry.int_gauge("millwork_db_waiting", "Transactions that wait for a connection, or to begin"),
        }
    }

    pub fn look(&self, db: &Db) {
        let pool = db.pool();
        let (open, idle) = (i64::from(pool.size()), i64::try_from(pool.num_idle()).unwrap_or(i64::MAX));
        self.connections.with_label_values(&["idle"]).set(idle);
        self.connections.with_label_values(&["used"]).set((open - idle).max(0));
        self.max.set(pool.options().get_max_connections().into());
        self.waiting.set(WAITING.load(Ordering::Relaxed));
    }
}
