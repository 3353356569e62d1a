//! Payloads of the jobs that this feature asks for.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::jobs::{Job, Queue};

/// Compares storage and `objects`, and clears away what one has without the other.
///
/// A tenant's job looks at the tenant's objects, the platform's at everybody's.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct SweepObjects {
    /// Only counts.
    pub dry_run: bool,
    /// How long what nobody is at is left alone; [`GRACE`](super::GRACE) unless set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grace_s: Option<u32>,
}

impl Job for SweepObjects {
    const KIND: &'static str = "files.sweep";
    const QUEUE: Queue = Queue::Maintenance;
    const MAX_ATTEMPTS: i16 = 5;
    const TIMEOUT: Duration = Duration::from_secs(900);
}
