//! Counts the jobs of the queues, for whoever scrapes.
//!
//! There is no counter that every insert and every end of a job would have to keep: that would cost the hot path. The
//! leader counts the live rows instead, seldom enough to be cheap whatever their number (decision 0015).

use std::time::{Duration, Instant};

use millwork_shared::Result;
use millwork_shared::infra::db::SystemDb;
use millwork_shared::jobs::queries;

use crate::metrics::METRICS;
use crate::pace;

/// Time between two counts at least.
const EVERY: Duration = Duration::from_secs(10);
/// Longest time for one count; the server ends the statement earlier.
const PATIENCE: Duration = Duration::from_secs(40);

/// Counts for ever. A count that fails leaves the last one, which grows old for everybody to see.
pub async fn count_queues(system: SystemDb) {
    loop {
        let began = Instant::now();
        let counted = system.within(PATIENCE, count_once(&system)).await;
        let took = began.elapsed();
        match counted {
            Ok(()) => METRICS.count_s.set(took.as_secs_f64()),
            Err(error) => {
                tracing::warn!(
                    %error, error.category = %error.category(),
                    "cannot count the jobs of the queues; trying again"
                )
            }
        }
        tokio::time::sleep(pace::rest(EVERY, took)).await;
    }
}

/// # Errors
/// Fails when the database does not answer, or takes too long to count; nothing is changed then.
pub async fn count_once(system: &SystemDb) -> Result<()> {
    let mut tx = system.system().await?;
    queries::allow_long_count(&mut tx).await?;
    queries::count_queues(&mut tx).await?;
    tx.commit().await
}
