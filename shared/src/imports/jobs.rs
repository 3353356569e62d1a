//! Payloads of the jobs that this feature asks for.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::infra::ids::ImportId;
use crate::jobs::{Job, Queue};

/// Brings in the rows of a file.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct RunImport {
    pub import: ImportId,
}

impl Job for RunImport {
    const KIND: &'static str = "import.run";
    const QUEUE: Queue = Queue::Files;
    const MAX_ATTEMPTS: i16 = 5;
    const TIMEOUT: Duration = Duration::from_secs(3_600);
}
