//! Jobs that were submitted together: how many have ended, and what runs when all have.

use crate::infra::ids::{BatchId, JobId};

/// Every statement on batches but the counting, which [`tell_ends`](crate::jobs::queries::tell_ends) does.
pub mod queries;

/// What the payload of an `on_complete` job may say of its batch: each of these, in any of its strings, stands for what
/// is known when the batch has finished.
pub const PLACEHOLDERS: [&str; 5] =
    ["{{batch.id}}", "{{batch.total}}", "{{batch.succeeded}}", "{{batch.failed}}", "{{batch.cancelled}}"];

/// A batch to be stored.
#[derive(Debug, Clone)]
pub struct NewBatch {
    pub id: BatchId,
    pub name: Option<String>,
    /// Its jobs, stored by the same transaction.
    pub jobs: Vec<JobId>,
    /// Stored by the same transaction too.
    pub on_complete: Option<JobId>,
}
