//! What both sides can do.

use std::future::Future;
use std::ops::Range;
use std::time::Instant;

use anyhow::Result;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

/// A handler began.
#[derive(Debug, Clone, Copy)]
pub struct Start {
    pub at: Instant,
}

/// A way of ids through Redis.
pub trait Queue: Sync {
    /// Adds an id for each number in one call, and returns once Redis has them.
    fn push(&self, numbers: Range<usize>) -> impl Future<Output = Result<()>> + Send;

    /// Runs a worker whose handlers do nothing but tell that they have begun.
    fn work(&self, started: mpsc::UnboundedSender<Start>) -> JoinHandle<Option<()>>;
}
