//! How late the event loop is.

use std::time::{Duration, Instant};

use super::Histogram;

const EVERY: Duration = Duration::from_millis(250);

/// Goes to sleep again and again, and records how much later than asked for it was woken: what every timer, request and
/// job of this process waits for a thread.
pub async fn measure(lag: &Histogram) {
    loop {
        let began = Instant::now();
        tokio::time::sleep(EVERY).await;
        lag.observe(began.elapsed().saturating_sub(EVERY).as_secs_f64());
    }
}
