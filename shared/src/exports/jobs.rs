//! Payloads of the jobs that this feature asks for.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::infra::ids::{ExportId, UserId};
use crate::jobs::{Job, Queue};

/// Writes an export.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct RunExport {
    pub export: ExportId,
}

impl Job for RunExport {
    const KIND: &'static str = "export.run";
    const QUEUE: Queue = Queue::Exports;
    const MAX_ATTEMPTS: i16 = 5;
    const TIMEOUT: Duration = Duration::from_secs(3_600);
}

/// Tells who asked for an export that it is ready.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct SendExportReady {
    pub user: UserId,
    pub export: ExportId,
}

impl Job for SendExportReady {
    const KIND: &'static str = "exports.send_ready";
    const QUEUE: Queue = Queue::Email;
}
