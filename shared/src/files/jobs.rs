//! Payloads of the jobs that this feature asks for.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::infra::ids::FileId;
use crate::jobs::{Job, Queue};

/// Looks at what a client sent straight to storage, before anybody may have it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct VerifyFile {
    pub file: FileId,
    /// The version.
    pub number: i32,
}

impl Job for VerifyFile {
    const KIND: &'static str = "file.verify";
    const QUEUE: Queue = Queue::Files;
    const TIMEOUT: Duration = Duration::from_secs(900);
}
