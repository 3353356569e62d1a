//! Replaying and cancelling many jobs at once: what is chosen, and the jobs that do it.

use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::{Job, Queue, State};

/// Jobs replayed or cancelled by second, unless the client says.
pub const RATE_PER_S: u32 = 100;
/// The most that a client may ask for.
pub const MAX_RATE_PER_S: u32 = 10_000;
/// A dry run counts no further.
pub const DRY_RUN_MOST: i64 = 100_000;

/// Which jobs.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Selection {
    pub state: Option<State>,
    pub kind: Option<String>,
    pub queue: Option<String>,
    pub tag: Option<String>,
    /// Created at or after.
    pub from: Option<DateTime<Utc>>,
    /// Created before.
    pub to: Option<DateTime<Utc>>,
}

/// What is done to which jobs of a tenant, and how fast. Jobs that were created after the one that does it are left alone.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Bulk {
    pub selection: Selection,
    pub rate_per_s: u32,
    /// Only counts.
    pub dry_run: bool,
}

/// What came of it so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Counts {
    pub matched: i64,
    pub done: i64,
    /// Matched, but could not be: the unique key is held, or the state has changed meanwhile.
    pub skipped: i64,
}

/// Runs failed or cancelled jobs again.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ReplayJobs(pub Bulk);

impl Job for ReplayJobs {
    const KIND: &'static str = "jobs.replay";
    const QUEUE: Queue = Queue::Maintenance;
    const TIMEOUT: Duration = Duration::from_secs(120);
}

/// Cancels jobs that have not ended.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(transparent)]
pub struct CancelJobs(pub Bulk);

impl Job for CancelJobs {
    const KIND: &'static str = "jobs.cancel";
    const QUEUE: Queue = Queue::Maintenance;
    const TIMEOUT: Duration = Duration::from_secs(120);
}
