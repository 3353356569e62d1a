//! From a request to its side effect: API, worker and scheduler over one database.

mod alerts;
mod chains;
mod jobs;

use std::time::{Duration, Instant};

use millwork_shared::testing::HttpReceiver;

use crate::support::{Options, PATIENCE, TestApp};

/// An API that may call this machine.
async fn start() -> TestApp {
    TestApp::start_with(Options { nets: "127.0.0.0/8".parse().unwrap(), ..Options::default() }).await
}

/// Waits until a receiver was called so often.
async fn hits(receiver: &HttpReceiver, count: usize) {
    let began = Instant::now();
    while receiver.hits() < count {
        assert!(began.elapsed() < PATIENCE, "{} of {count} calls came", receiver.hits());
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
