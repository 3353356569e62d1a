//! Work on the platform itself: partitions and retention.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::infra::ids::TenantId;
use crate::jobs::{Job, Queue};

/// Statements of the maintenance jobs.
pub mod queries;
/// How long finished jobs, events and deliveries are kept.
pub mod retention;

pub use retention::Retention;

/// The tenant of maintenance jobs: the platform itself. It has no members.
pub const PLATFORM: TenantId = TenantId(Uuid::from_u128(0x00000000_0000_7000_8000_000000000000));

/// Makes partitions ahead of time and drops those whose retention is over.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct RollPartitions {}

impl Job for RollPartitions {
    const KIND: &'static str = "maintenance.roll_partitions";
    const QUEUE: Queue = Queue::Maintenance;
    const MAX_ATTEMPTS: i16 = 5;
    const TIMEOUT: Duration = Duration::from_secs(900);
}

/// Deletes what has expired: tokens, idempotency keys, unique keys, wishes to cancel, worker rows, counters.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct DeleteExpired {}

impl Job for DeleteExpired {
    const KIND: &'static str = "maintenance.delete_expired";
    const QUEUE: Queue = Queue::Maintenance;
    const MAX_ATTEMPTS: i16 = 5;
    const TIMEOUT: Duration = Duration::from_secs(900);
}

/// Deletes finished jobs, events and deliveries of tenants whose plan keeps them for less than others.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct DeleteFinished {}

impl Job for DeleteFinished {
    const KIND: &'static str = "maintenance.delete_finished";
    const QUEUE: Queue = Queue::Maintenance;
    const MAX_ATTEMPTS: i16 = 5;
    const TIMEOUT: Duration = Duration::from_secs(900);
}

/// All of the above at once, with old audit entries and the tenant's storage, at a tenant's wish.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct CleanUp {}

impl Job for CleanUp {
    const KIND: &'static str = "maintenance.clean_up";
    const QUEUE: Queue = Queue::Maintenance;
    const MAX_ATTEMPTS: i16 = 5;
    const TIMEOUT: Duration = Duration::from_secs(1_800);
}
