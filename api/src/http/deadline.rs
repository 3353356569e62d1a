//! How long a request may take until its answer begins.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use poem::Request;

/// Longest time a request may take until its answer begins.
pub const DEADLINE: Duration = Duration::from_secs(15);

/// A request's deadline. One whose body is read as it comes has none: its client must keep a pace instead, see
/// [`Streamed`](super::streamed::Streamed).
#[derive(Debug, Clone, Default)]
pub struct Deadline(Arc<AtomicBool>);

impl Deadline {
    /// Lifts the deadline of `request`.
    pub fn lift(request: &Request) {
        if let Some(Self(lifted)) = request.data() {
            lifted.store(true, Ordering::Relaxed);
        }
    }

    /// Waits until the request has taken too long.
    pub async fn pass(&self) {
        tokio::time::sleep(DEADLINE).await;
        if self.0.load(Ordering::Relaxed) {
            std::future::pending().await
        }
    }
}
