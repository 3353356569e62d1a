//! Payloads of the jobs that look after audit entries.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::jobs::{Job, Queue};

/// Gives fresh entries their places in their tenants' chains.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct SealAudit {}

impl Job for SealAudit {
    const KIND: &'static str = "audit.seal";
    const QUEUE: Queue = Queue::Maintenance;
    const MAX_ATTEMPTS: i16 = 3;
    const TIMEOUT: Duration = Duration::from_secs(300);
}

/// Makes partitions ahead of time, and drops those whose retention is over.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ExpireAudit {}

impl Job for ExpireAudit {
    const KIND: &'static str = "audit.expire";
    const QUEUE: Queue = Queue::Maintenance;
    const MAX_ATTEMPTS: i16 = 5;
    const TIMEOUT: Duration = Duration::from_secs(900);
}
