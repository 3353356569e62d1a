//! Bodies of the routes of batches.

use millwork_shared::batches::queries::BatchRow;
use poem_openapi::Object;
use serde::Serialize;
use uuid::Uuid;

use crate::http::Time;

/// Jobs that are counted together.
#[derive(Debug, Object, Serialize)]
pub struct Batch {
    pub id: Uuid,
    pub name: Option<String>,
    pub total: i32,
    /// Jobs that have not ended
    pub pending: i32,
    pub succeeded: i32,
    pub failed: i32,
    pub cancelled: i32,
    /// The job that runs when all have ended
    pub on_complete_id: Option<Uuid>,
    pub created_at: Time,
    /// When the last of them had ended
    pub finished_at: Option<Time>,
}

impl From<BatchRow> for Batch {
    fn from(row: BatchRow) -> Self {
        Self {
            id: row.id.0,
            name: row.name,
            total: row.total,
            pending: row.total - row.succeeded - row.failed - row.cancelled,
            succeeded: row.succeeded,
            failed: row.failed,
            cancelled: row.cancelled,
            on_complete_id: row.on_complete_id.map(|id| id.0),
            created_at: Time(row.id.created_at()),
            finished_at: row.finished_at.map(Time),
        }
    }
}
