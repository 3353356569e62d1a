//! Whether the stores answer, for the health routes of worker and scheduler.

use std::time::Duration;

use serde_json::{Value, json};

use crate::Result;
use crate::infra::db::Db;
use crate::jobs::dispatch::Dispatcher;

/// Longest wait for a dependency's answer.
const PROBE: Duration = Duration::from_secs(2);

/// What a process needs to know of its stores.
#[derive(Clone)]
pub struct Probes {
    pub db: Db,
    pub dispatcher: Dispatcher,
}

impl Probes {
    /// Whether the process can serve, and the report. Redis alone being down is `degraded`: the ledger still works.
    pub async fn check(&self) -> (bool, Value) {
        let (database, redis) = tokio::join!(answers(self.db.ping()), answers(self.dispatcher.ping()));
        let status = match (database, redis) {
            (true, true) => "ok",
            (true, false) => "degraded",
            (false, _) => "down",
        };
        (database, json!({ "status": status, "database": database, "redis": redis }))
    }
}

async fn answers(probe: impl Future<Output = Result<()>>) -> bool {
    matches!(tokio::time::timeout(PROBE, probe).await, Ok(Ok(())))
}
