//! One scheduler of several leads.
//!
//! The leader holds a session-level advisory lock on a connection of its own, so that PostgreSQL itself notices when it
//! is gone. Everything a leader does is safe beside a second one: the lock saves work, it does not guard the data.

use std::time::Duration;

use millwork_shared::Result;
use millwork_shared::infra::db::{Db, LeaderLock};
use tokio_util::sync::CancellationToken;

use crate::metrics::METRICS;

/// How often a standby tries to lead, and a leader makes sure that it still does.
const CHECK: Duration = Duration::from_secs(2);

/// Runs `duties` whenever this process leads, until `stop`.
pub async fn lead<F, Fut>(db: Db, stop: CancellationToken, duties: F)
where
    F: Fn(CancellationToken) -> Fut,
    Fut: Future<Output = ()>,
{
    while !stop.is_cancelled() {
        match LeaderLock::try_take(&db).await {
            Ok(Some(lock)) => {
                tracing::info!("leading");
                let _leading = METRICS.lead();
                let term = stop.child_token();
                tokio::select! {
                    () = duties(term.clone()) => {}
                    error = hold(lock, &term) => match error {
                        Some(error) => tracing::warn!(%error, error.category = %error.category(), "no longer leading"),
                        None => tracing::info!("leaving the lead"),
                    }
                }
                term.cancel();
            }
            Ok(None) => tracing::debug!("standing by"),
            Err(error) => tracing::warn!(%error, error.category = %error.category(), "cannot try to lead"),
        }
        tokio::select! {
            () = tokio::time::sleep(CHECK) => {}
            () = stop.cancelled() => {}
        }
    }
}

/// Returns when the lock is lost, with the reason, or at the end of the term.
async fn hold(mut lock: LeaderLock, term: &CancellationToken) -> Option<millwork_shared::Error> {
    loop {
        tokio::select! {
            () = tokio::time::sleep(CHECK) => {}
            () = term.cancelled() => return None,
        }
        let check: Result<()> = lock.check().await;
        if let Err(error) = check {
            return Some(error);
        }
    }
}
