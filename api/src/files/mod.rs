//! Files that people and programs store.

/// Content, out and in.
pub mod content;
/// Uploads that go straight to storage.
pub mod direct;
/// Links to content.
pub mod links;
mod receive;
/// Bodies.
pub mod types;

use millwork_shared::files::queries::{self as rows, Change, Filter};
use millwork_shared::infra::ids::FileId;
use poem::web::Data;
use poem_openapi::OpenApi;
use poem_openapi::param::{Path, Query};
use poem_openapi::types::MaybeUndefined;
use uuid::Uuid;

use self::types::{File, FileChange, Version, check_expiry};
use crate::App;
use crate::http::idempotency::no_body;
use crate::http::{Answer, Begun, Body, Idempotency, IfMatch, List, NoContent, Page, Permitted, Result, to};
use crate::quotas;
use crate::routes::Tag;

pub struct FilesApi;

#[OpenApi(tag = "Tag::Files")]
impl FilesApi {
    /// List files
    ///
    /// Newest first. Files whose first content is still on its way are left out.
    #[oai(path = "/files", method = "get", operation_id = "files.list")]
    async fn list(
        &self,
        caller: Permitted<to::FilesRead>,
        app: Data<&App>,
        page: Page,
        /// Only files of this media type
        #[oai(validator(max_length = 255))]
        media_type: Query<Option<String>>,
        /// Those that were deleted and can be had back, in place of the others
        deleted: Query<Option<bool>>,
    ) -> Result<List<File>> {
        let filter = Filter { media_type: media_type.0, deleted: deleted.0.unwrap_or_default() };
        let mut tx = app.db.tenant(caller.tenant).await?;
        let files = rows::list(&mut tx, &filter, page.before().map(FileId), page.fetch()).await?;
        tx.commit().await?;
        List::new(&page, files.into_iter().map(File::from).collect(), |file| file.id)
    }

    /// Show a file
    ///
    /// One that was deleted is shown too, for as long as it can be had back.
    #[oai(path = "/files/:id", method = "get", operation_id = "files.get")]
    async fn get(&self, caller: Permitted<to::FilesRead>, app: Data<&App>, id: Path<Uuid>) -> Result<Answer<File>> {
        let mut tx = app.db.tenant(caller.tenant).await?;
        let file = rows::get(&mut tx, FileId(id.0)).await?;
        tx.commit().await?;
        Answer::new(&file.into())
    }

    /// Change a file
    ///
    /// Its name, when it expires, and how many versions of it are kept; those beyond go at once.
    #[oai(path = "/files/:id", method = "patch", operation_id = "files.update")]
    async fn update(
        &self,
        caller: Permitted<to::FilesWrite>,
        app: Data<&App>,
        id: Path<Uuid>,
        if_match: IfMatch,
        body: Body<FileChange>,
    ) -> Result<Answer<File>> {
        let (id, body) = (FileId(id.0), body.into_inner());
        let change = Change {
            name: body.name()?,
            keep_versions: body.keep_versions,
            expires_at: match body.expires_at {
                MaybeUndefined::Undefined => None,
                MaybeUndefined::Null => Some(None),
                MaybeUndefined::Value(at) => Some(Some(check_expiry(at, app.clock.now())?)),
            },
        };
        let mut tx = app.db.tenant(caller.tenant).await?;
        if_match.check(rows::lock(&mut tx, id).await?)?;
        rows::update(&mut tx, id, &change).await?;
        let file = rows::get(&mut tx, id).await?;
        tx.commit().await?;
        Answer::new(&file.into())
    }

    /// Delete a file
    ///
    /// Its content cannot be read from then on, and takes nothing of the quota. For seven days it can be had back.
    #[oai(path = "/files/:id", method = "delete", operation_id = "files.delete")]
    async fn delete(&self, caller: Permitted<to::FilesWrite>, app: Data<&App>, id: Path<Uuid>) -> Result<NoContent> {
        let mut tx = app.db.tenant(caller.tenant).await?;
        rows::delete(&mut tx, FileId(id.0)).await?;
        tx.commit().await?;
        Ok(NoContent::done())
    }

    /// Have a deleted file back
    ///
    /// With the versions that it had, if there is still room for them.
    #[oai(path = "/files/:id/restore", method = "post", operation_id = "files.restore")]
    async fn restore(
        &self,
        caller: Permitted<to::FilesWrite>,
        app: Data<&App>,
        id: Path<Uuid>,
        key: Idempotency,
    ) -> Result<Answer<File>> {
        let mut tx = match key.begin(&app, &caller, no_body()).await? {
            Begun::Replay(answer) => return Ok(answer.into()),
            Begun::Work(tx) => tx,
        };
        rows::restore(&mut tx, FileId(id.0), quotas::storage(&app, caller.tenant).await).await?;
        let file = rows::get(&mut tx, FileId(id.0)).await?;
        tx.finish(Answer::new(&file.into())?).await
    }

    /// List the versions of a file
    ///
    /// Newest first: those that can be read, and those that are on their way or were refused.
    #[oai(path = "/files/:id/versions", method = "get", operation_id = "files.versions")]
    async fn versions(
        &self,
        caller: Permitted<to::FilesRead>,
        app: Data<&App>,
        id: Path<Uuid>,
    ) -> Result<Answer<Vec<Version>>> {
        let mut tx = app.db.tenant(caller.tenant).await?;
        let versions = rows::list_versions(&mut tx, FileId(id.0)).await?;
        tx.commit().await?;
        Answer::new(&versions.into_iter().map(Version::from).collect())
    }
}
