//! Content, out and in.

use millwork_shared::files::queries::{self as rows, NewFile, NewVersion, Readable};
use millwork_shared::files::{KEEP_VERSIONS, VersionState};
use millwork_shared::infra::ids::{FileId, TenantId};
use millwork_shared::infra::storage::Key;
use poem::Request;
use poem::web::Data;
use poem_openapi::OpenApi;
use poem_openapi::param::{Path, Query};
use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::receive::{self, Received};
use super::types::{File, check_expiry, clean_name};
use crate::App;
use crate::http::content::{Content, Facts, Wanted};
use crate::http::upload::FileForm;
use crate::http::{Answer, ApiError, Begun, Caller, Created, Idempotency, IfMatch, Permitted, Result, Time, to};
use crate::routes::Tag;

pub struct ContentApi;

#[OpenApi(tag = "Tag::Files")]
impl ContentApi {
    /// Upload a file
    ///
    /// As the part `file` of a form; stored as it comes. What it is, is found from its content: it must be what the client
    /// says, if it says anything, and of a type that is stored here (images, PDF, CSV, JSON, plain text and zip, unless
    /// the operator says otherwise). With an `Idempotency-Key` the whole content counts as the body.
    #[oai(path = "/files/upload", method = "post", operation_id = "files.upload")]
    #[expect(clippy::too_many_arguments, reason = "each is documented")]
    async fn upload(
        &self,
        caller: Permitted<to::FilesWrite>,
        app: Data<&App>,
        key: Idempotency,
        /// In place of the name that the form gives
        #[oai(validator(min_length = 1, max_length = 1024))]
        name: Query<Option<String>>,
        /// When it is deleted by itself
        expires_at: Query<Option<Time>>,
        /// How many versions are kept; ten unless given
        #[oai(validator(minimum(value = "1"), maximum(value = "100")))]
        keep_versions: Query<Option<i32>>,
        form: FileForm,
    ) -> Result<Created<File>> {
        let expires_at = expires_at.0.map(|at| check_expiry(at, app.clock.now())).transpose()?;
        let name = name.0.map(|name| clean_name(&name, "/name")).transpose()?;
        let mut received = receive(&app, caller.tenant, form).await?;
        received.name = name.unwrap_or(received.name);
        let id = FileId::generate();
        let options = format!("{expires_at:?} {:?}", keep_versions.0);
        let mut tx = match key.begin(&app, &caller, received.hash(&options)).await? {
            Begun::Replay(answer) => return Ok(answer.into()),
            Begun::Work(tx) => tx,
        };
        let new = NewFile {
            id,
            name: &received.name,
            keep_versions: keep_versions.0.unwrap_or(KEEP_VERSIONS),
            created_by: caller.actor(),
            expires_at,
        };
        rows::insert(&mut tx, &new).await?;
        keep(&mut tx, &caller, id, &received).await?;
        let file = File::from(rows::get(&mut tx, id).await?);
        let location = app.url(&format!("/api/v1/files/{id}"));
        let answer = tx.finish(Created::at(&file, location)?).await?;
        received.pending.settle();
        Ok(answer)
    }

    /// Replace the content of a file
    ///
    /// Makes another version; the file keeps as many as it says. The answer is the file.
    #[oai(path = "/files/:id/content", method = "put", operation_id = "files.replace")]
    async fn replace(
        &self,
        caller: Permitted<to::FilesWrite>,
        app: Data<&App>,
        id: Path<Uuid>,
        if_match: IfMatch,
        form: FileForm,
    ) -> Result<Answer<File>> {
        let id = FileId(id.0);
        let mut tx = app.db.tenant(caller.tenant).await?;
        if_match.check(rows::lock(&mut tx, id).await?)?; // before all of it is sent
        tx.commit().await?;
        let received = receive(&app, caller.tenant, form).await?;
        let mut tx = app.db.tenant(caller.tenant).await?;
        if_match.check(rows::lock(&mut tx, id).await?)?;
        keep(&mut tx, &caller, id, &received).await?;
        let file = File::from(rows::get(&mut tx, id).await?);
        tx.commit().await?;
        received.pending.settle();
        Answer::new(&file)
    }

    /// Read the content of a file
    ///
    /// The whole, or the part that `Range` names (RFC 9110; one range). `ETag` changes with the content: with
    /// `If-None-Match` what is known is not sent again, and `If-Range` takes care that parts are of the same content. It is
    /// sent to be saved; `inline=true` has a browser show what cannot run scripts: images and plain text.
    #[oai(path = "/files/:id/content", method = "get", operation_id = "files.content")]
    async fn content(
        &self,
        caller: Permitted<to::FilesRead>,
        app: Data<&App>,
        request: &Request,
        id: Path<Uuid>,
        /// An older version; the newest unless given
        #[oai(validator(minimum(value = "1")))]
        number: Query<Option<i32>>,
        /// Have it shown rather than saved
        inline: Query<Option<bool>>,
    ) -> Result<Content> {
        let mut tx = app.db.tenant(caller.tenant).await?;
        let file = rows::readable(&mut tx, FileId(id.0), number.0).await?;
        tx.commit().await?;
        let key = Key::of(caller.tenant, file.object_id);
        send(&app, &key, &facts(file, inline.0.unwrap_or_default()), request).await
    }
}

/// Answers a request for an object.
///
/// # Errors
/// 416 for a part beyond its end, 503 while storage is down.
pub async fn send(app: &App, key: &Key, facts: &Facts, request: &Request) -> Result<Content> {
    let wanted = facts.wanted(request.headers())?;
    if wanted == Wanted::NotModified {
        return facts.answer(&wanted, futures::stream::empty::<millwork_shared::Result<bytes::Bytes>>());
    }
    let bytes = app.storage.read(key, facts.range(&wanted)).await?;
    let bytes = bytes.ok_or_else(|| {
        ApiError::internal(anyhow::anyhow!("the object {key} is not in storage; its row says that it is"))
    })?;
    facts.answer(&wanted, bytes)
}

/// What is known of a file's content.
pub fn facts(file: Readable, inline: bool) -> Facts {
    Facts { size: file.size_bytes as u64, sha256: file.sha256, media_type: file.media_type, name: file.name, inline }
}

/// Stores what a form brings, that and nothing else. After a refusal the client gets to see it.
async fn receive(app: &App, tenant: TenantId, mut form: FileForm) -> Result<Received> {
    match receive::file(app, tenant, &mut form).await {
        Ok(received) => form.end().await.map(|()| received),
        Err(error) => {
            form.drain().await;
            Err(error)
        }
    }
}

/// Makes what came a version of the file.
async fn keep(
    tx: &mut millwork_shared::infra::db::TenantTx,
    caller: &Caller,
    file: FileId,
    received: &Received,
) -> Result<()> {
    received.pending.keep(tx, &received.stored).await?;
    let version = NewVersion {
        object: received.pending.object,
        state: VersionState::Ready,
        media_type: &received.media_type,
        claimed_bytes: None,
        claimed_sha256: None,
        created_by: caller.actor(),
    };
    rows::add_version(tx, file, &version).await?;
    Ok(())
}

impl Received {
    /// What an idempotency key is bound to: content, name, type, options.
    fn hash(&self, options: &str) -> [u8; 32] {
        let mut hash = Sha256::new();
        hash.update(self.stored.sha256);
        for part in [&self.name, &self.media_type, options] {
            hash.update((part.len() as u64).to_be_bytes());
            hash.update(part);
        }
        hash.finalize().into()
    }
}
