//! Counts the jobs of the queues, for whoever scrapes.
//!
//! There is no counter that every insert and every end of a job would have to keep: that would cost the hot path. The
//! leader counts the live rows instead, seldom enough to be cheap whatever their number (decision 0015).

use std::time::{Duration, Instant};

use millwork_shared::Result;
use millwork_shared::infra::db::SystemDb;
use millwork_shared::jobs::queries;

use crate::metrics::METRICS;

/// Time between two counts at least.
const EVERY: Duration = Duration::from_secs(10);
/// A count may take one part in so many of the time.
const SHARE: u32 = 20;
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
        tokio::time::sleep(pause(took)).await;
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

fn pause(took: Duration) -> Duration {
    EVERY.max(took * SHARE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_count_takes_less_than_a_twentieth_of_the_time() {
        let (ms, s) = (Duration::from_millis, Duration::from_secs);
        for (took, rest) in [(ms(1), s(10)), (ms(500), s(10)), (s(1), s(20)), (s(30), s(600))] {
            assert_eq!(pause(took), rest, "{took:?}");
        }
    }
}
