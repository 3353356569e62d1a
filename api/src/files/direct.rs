//! Uploads that go straight to storage, and are looked at before anybody may have them.

use std::collections::BTreeMap;

use millwork_shared::files::jobs::VerifyFile;
use millwork_shared::files::queries::{self as rows, NewFile, NewVersion};
use millwork_shared::files::{KEEP_VERSIONS, UPLOAD_FOR, VersionState};
use millwork_shared::infra::ids::{FileId, ObjectId, TenantId};
use millwork_shared::infra::storage::{Key, Upload as Announced};
use millwork_shared::jobs::{NewJob, queries as jobs};
use millwork_shared::objects::Purpose;
use millwork_shared::objects::link::Deed;
use millwork_shared::objects::queries as objects;
use poem::http::StatusCode;
use poem::web::Data;
use poem_openapi::OpenApi;
use poem_openapi::param::Path;
use uuid::Uuid;

use super::links::of_ours;
use super::types::{File, NewUpload, Upload, check_expiry, clean_name};
use crate::App;
use crate::http::idempotency::no_body;
use crate::http::upload::RawContent;
use crate::http::{
    Accepted, ApiError, Begun, Body, Created, Fault, Idempotency, Permitted, RequestInfo, Result, Time, to,
};
use crate::quotas;
use crate::routes::Tag;

pub struct DirectApi;

#[OpenApi(tag = "Tag::Files")]
impl DirectApi {
    /// Begin a direct upload
    ///
    /// Answers where to send the content, by `PUT`, with the headers that are named: straight to the object store where
    /// there is one. Announce its size and SHA-256 exactly. Then call `/files/{id}/complete`. What is not complete within
    /// an hour is given up. Its size counts against the quota from now on.
    #[oai(path = "/files/presign", method = "post", operation_id = "files.presign")]
    async fn presign(
        &self,
        caller: Permitted<to::FilesWrite>,
        app: Data<&App>,
        key: Idempotency,
        body: Body<NewUpload>,
    ) -> Result<Created<Upload>> {
        let sha256 = unhex(&body.sha256);
        let settings = &app.settings.files;
        let mut faults = Vec::new();
        if body.name.is_some() == body.file_id.is_some() {
            faults.push(Fault::new("/name", "invalid", "give a name, for a new file, or else `file_id`"));
        }
        if body.size_bytes as u64 > settings.max_size_bytes {
            let detail = format!("a file has at most {} bytes here", settings.max_size_bytes);
            faults.push(Fault::new("/size_bytes", "file_too_large", detail));
        }
        if !settings.media_types.allow(&body.media_type) {
            let detail = format!("what is stored here is {}", settings.media_types);
            faults.push(Fault::new("/media_type", "media_type_not_allowed", detail));
        }
        if !faults.is_empty() {
            return Err(ApiError::invalid(faults));
        }
        let name = body.name.as_deref().map(|name| clean_name(name, "/name")).transpose()?;
        let expires_at = body.expires_at.map(|at| check_expiry(at, app.clock.now())).transpose()?;
        let quota = quotas::storage(&app, caller.tenant).await;
        let mut tx = match key.begin(&app, &caller, body.hash()).await? {
            Begun::Replay(answer) => return Ok(answer.into()),
            Begun::Work(tx) => tx,
        };
        let (object, notices) = quotas::reserve_in(&mut tx, Purpose::File, body.size_bytes, quota).await?;
        let id = match (&name, body.file_id) {
            (Some(name), _) => {
                let new = NewFile {
                    id: FileId::generate(),
                    name,
                    keep_versions: body.keep_versions.unwrap_or(KEEP_VERSIONS),
                    created_by: caller.actor(),
                    expires_at,
                };
                rows::insert(&mut tx, &new).await?;
                new.id
            }
            (None, id) => FileId(id.unwrap_or_default()),
        };
        let version = NewVersion {
            object,
            state: VersionState::Uploading,
            media_type: &body.media_type,
            claimed_bytes: Some(body.size_bytes),
            claimed_sha256: Some(&sha256),
            created_by: caller.actor(),
        };
        rows::add_version(&mut tx, id, &version).await?;
        let file = File::from(rows::get(&mut tx, id).await?);
        let (url, headers, until) = where_to(&app, caller.tenant, object, &body, &sha256)?;
        let upload = Upload { file, method: "PUT".into(), url, headers, expires_at: until };
        let location = app.url(&format!("/api/v1/files/{id}"));
        let answer = tx.finish(Created::at(&upload, location)?).await?;
        app.dispatcher.offer(&notices);
        Ok(answer)
    }

    /// Complete a direct upload
    ///
    /// Has a job look at what was sent, `file.verify`: its size, its SHA-256, and whether it is what was announced. Then
    /// the file is `ready`, or `refused`, and says why.
    #[oai(path = "/files/:id/complete", method = "post", operation_id = "files.complete")]
    async fn complete(
        &self,
        caller: Permitted<to::FilesWrite>,
        app: Data<&App>,
        request: RequestInfo,
        id: Path<Uuid>,
        key: Idempotency,
    ) -> Result<Accepted<File>> {
        let id = FileId(id.0);
        let mut tx = match key.begin(&app, &caller, no_body()).await? {
            Begun::Replay(answer) => return Ok(answer.into()),
            Begun::Work(tx) => tx,
        };
        let number = rows::complete(&mut tx, id).await?;
        let version = rows::get_version(&mut tx, id, number).await?;
        objects::touch(&mut tx, version.object_id).await?;
        let mut job = NewJob::of(caller.tenant, &VerifyFile { file: id, number })?.caused_by(&request.cause());
        job.submitted_by = Some(caller.actor());
        let job = [job];
        jobs::enqueue(&mut tx, &job).await?;
        let file = File::from(rows::get(&mut tx, id).await?);
        let location = app.url(&format!("/api/v1/files/{id}"));
        let answer = tx.finish(Accepted::at(&file, location)?).await?;
        app.dispatcher.offer(&job);
        Ok(answer)
    }
}

/// Where the content is to be sent, with which headers, and until when.
fn where_to(
    app: &App,
    tenant: TenantId,
    object: ObjectId,
    body: &NewUpload,
    sha256: &[u8],
) -> Result<(String, BTreeMap<String, String>, Time)> {
    let key = Key::of(tenant, object);
    let announced = Announced {
        size_bytes: body.size_bytes as u64,
        media_type: body.media_type.clone(),
        sha256: sha256.try_into().ok(),
    };
    if let Some(put) = app.storage.presign_put(&key, UPLOAD_FOR, &announced)? {
        return Ok((put.url.into(), put.headers.into_iter().collect(), Time(app.clock.now() + UPLOAD_FOR)));
    }
    let deed = Deed::Put { size_bytes: body.size_bytes };
    let link = of_ours(app, tenant, object, deed, app.clock.now() + UPLOAD_FOR)?;
    let headers = BTreeMap::from([("content-type".to_owned(), "application/octet-stream".to_owned())]);
    Ok((link.url, headers, link.expires_at))
}

/// Stores what is sent by a link of ours: exactly `size_bytes`. It may be sent again until it is complete.
pub async fn receive(
    app: &App,
    tenant: TenantId,
    object: ObjectId,
    size_bytes: i64,
    mut content: RawContent,
) -> Result<()> {
    let other = |came: u64| {
        let detail = format!("{size_bytes} bytes were announced, and {came} came; send what was announced");
        ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, "size_mismatch", detail)
    };
    let touch = async || {
        let mut tx = app.db.tenant(tenant).await?;
        objects::touch(&mut tx, object).await?;
        tx.commit().await
    };
    touch().await?;
    if let Some(announced) = content.announced().filter(|announced| *announced != size_bytes as u64) {
        content.drain().await;
        return Err(other(announced));
    }
    let mut writer = app.storage.write(&Key::of(tenant, object)).await?;
    let (mut came, mut touched) = (0, tokio::time::Instant::now());
    while let Some(chunk) = content.chunk().await? {
        came += chunk.len() as u64;
        if came > size_bytes as u64 {
            writer.abort().await;
            content.drain().await;
            return Err(other(came));
        }
        if touched.elapsed() >= millwork_shared::objects::TOUCH {
            touch().await?;
            touched = tokio::time::Instant::now();
        }
        writer.push(chunk).await?;
    }
    if came != size_bytes as u64 {
        writer.abort().await;
        return Err(other(came));
    }
    writer.finish().await?;
    Ok(touch().await?)
}

/// Bytes of hexadecimal digits, which the schema has checked.
fn unhex(digits: &str) -> Vec<u8> {
    let pairs = digits.as_bytes().chunks_exact(2);
    pairs.filter_map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()).collect()
}
