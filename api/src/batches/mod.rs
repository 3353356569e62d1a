//! Jobs that are counted together.

mod types;

use millwork_shared::batches::queries;
use millwork_shared::infra::ids::BatchId;
use poem::web::Data;
use poem_openapi::OpenApi;
use poem_openapi::param::Path;
use uuid::Uuid;

use self::types::Batch;
use crate::App;
use crate::http::{Answer, List, Page, Permitted, Result, to};
use crate::routes::Tag;

pub struct BatchesApi;

#[OpenApi(tag = "Tag::Jobs")]
impl BatchesApi {
    /// List batches, newest first
    #[oai(path = "/batches", method = "get", operation_id = "batches.list")]
    async fn list(&self, caller: Permitted<to::JobsRead>, app: Data<&App>, page: Page) -> Result<List<Batch>> {
        let mut tx = app.db.tenant(caller.tenant).await?;
        let rows = queries::list(&mut tx, page.before().map(BatchId), page.fetch()).await?;
        tx.commit().await?;
        List::new(&page, rows.into_iter().map(Batch::from).collect(), |batch| batch.id)
    }

    /// Get a batch
    ///
    /// How many of its jobs have ended, and how. Each counts once, by its first end: one that is run again by hand is not
    /// counted again. `GET /jobs?batch_id=` lists them.
    #[oai(path = "/batches/:id", method = "get", operation_id = "batches.get")]
    async fn get(&self, caller: Permitted<to::JobsRead>, app: Data<&App>, id: Path<Uuid>) -> Result<Answer<Batch>> {
        let mut tx = app.db.tenant(caller.tenant).await?;
        let row = queries::get(&mut tx, BatchId(id.0)).await?;
        tx.commit().await?;
        Answer::new(&Batch::from(row))
    }
}
