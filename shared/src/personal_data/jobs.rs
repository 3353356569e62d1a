//! Payloads of the jobs that this feature asks for.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::infra::ids::UserId;
use crate::jobs::{Job, Queue};

/// Erases a member of the tenant.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct EraseUser {
    pub user: UserId,
    /// The files that they stored, too.
    pub delete_files: bool,
}

impl Job for EraseUser {
    const KIND: &'static str = "users.erase";
    const QUEUE: Queue = Queue::Maintenance;
    const MAX_ATTEMPTS: i16 = 10;
    const TIMEOUT: Duration = Duration::from_secs(1_800);
}
