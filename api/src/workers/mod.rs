//! Live worker processes.

use millwork_shared::jobs::queries::{self, WorkerRow};
use poem::web::Data;
use poem_openapi::{Object, OpenApi};
use serde::Serialize;
use uuid::Uuid;

use crate::App;
use crate::http::{Answer, Permitted, Result, Time, to};
use crate::routes::Tag;

/// A worker process whose lease is alive.
#[derive(Debug, Object, Serialize)]
pub struct Worker {
    pub id: Uuid,
    pub host: String,
    pub version: String,
    pub queues: Vec<String>,
    /// Jobs at once, over all its queues
    pub concurrency: i32,
    /// Jobs it held at its last heartbeat, of all tenants
    pub running: i32,
    pub started_at: Time,
    pub last_heartbeat_at: Time,
}

impl From<WorkerRow> for Worker {
    fn from(row: WorkerRow) -> Self {
        Self {
            id: row.id.0,
            host: row.host,
            version: row.version,
            queues: row.queues,
            concurrency: row.concurrency,
            running: row.running,
            started_at: Time(row.started_at),
            last_heartbeat_at: Time(row.heartbeat_at),
        }
    }
}

pub struct WorkersApi;

#[OpenApi(tag = "Tag::Jobs")]
impl WorkersApi {
    /// List live workers, newest first
    #[oai(path = "/workers", method = "get", operation_id = "workers.list")]
    async fn list(&self, caller: Permitted<to::WorkersRead>, app: Data<&App>) -> Result<Answer<Vec<Worker>>> {
        let mut tx = app.db.tenant(caller.tenant).await?;
        let rows = queries::list_alive(&mut tx).await?;
        tx.commit().await?;
        Answer::new(&rows.into_iter().map(Worker::from).collect())
    }
}
