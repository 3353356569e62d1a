//! Links to content, for whoever holds them.

use std::time::Duration;

use chrono::{DateTime, Utc};
use millwork_shared::audit::queries as audit;
use millwork_shared::files::queries as rows;
use millwork_shared::infra::ids::{FileId, ObjectId, TenantId};
use millwork_shared::infra::storage::{Download, Key};
use millwork_shared::objects::link::{Deed, Link};
use millwork_shared::objects::queries as objects;
use millwork_shared::tenants::queries as tenants;
use poem::Request;
use poem::web::Data;
use poem_openapi::OpenApi;
use poem_openapi::param::{Path, Query};
use uuid::Uuid;

use super::content::{facts, send};
use super::types::ContentLink;
use crate::App;
use crate::auth::verify;
use crate::http::content::{Content, Facts};
use crate::http::upload::RawContent;
use crate::http::{Answer, ApiError, NoContent, Permitted, Result, Time, to};
use crate::routes::Tag;

/// How long a link counts, unless the client says.
const LASTS_S: u32 = 300;

pub struct LinksApi;

#[OpenApi(tag = "Tag::Files")]
impl LinksApi {
    /// Get a link to the content of a file
    ///
    /// For whoever holds it, without a token, for a while: a browser, another program. It leads to the version of this
    /// moment, and ends early when that is deleted.
    #[oai(path = "/files/:id/url", method = "get", operation_id = "files.url")]
    async fn url(
        &self,
        caller: Permitted<to::FilesRead>,
        app: Data<&App>,
        id: Path<Uuid>,
        /// How long it counts; 300 s unless given, a day at most
        #[oai(validator(minimum(value = "1"), maximum(value = "86400")))]
        expires_in_s: Query<Option<u32>>,
        /// Have it shown rather than saved
        inline: Query<Option<bool>>,
    ) -> Result<Answer<ContentLink>> {
        let lasts = Duration::from_secs(expires_in_s.0.unwrap_or(LASTS_S).into());
        let mut tx = app.db.tenant(caller.tenant).await?;
        let file = rows::readable(&mut tx, FileId(id.0), None).await?;
        audit::record(&mut tx, "file.link_made", ("file", &id.0.to_string()), None).await?;
        tx.commit().await?;
        let object = file.object_id;
        let link = to_read(&app, caller.tenant, object, &facts(file, inline.0.unwrap_or_default()), lasts)?;
        Answer::new(&link)
    }

    /// Read by a link
    ///
    /// What `/files/{id}/url`, or the download of an export or a report, leads to where storage is a folder. As
    /// `/files/{id}/content`.
    #[oai(path = "/objects/:link", method = "get", operation_id = "objects.get")]
    async fn get(&self, app: Data<&App>, request: &Request, link: Path<String>) -> Result<Content> {
        let link = opened(&app, &link.0).await?;
        let Deed::Get { name, media_type, inline } = link.deed else { return Err(none()) };
        let mut tx = app.db.tenant(link.tenant).await?;
        let object = objects::find_stored(&mut tx, link.object).await?.ok_or_else(none)?;
        tx.commit().await?;
        let facts = Facts { size: object.size_bytes as u64, sha256: object.sha256, media_type, name, inline };
        send(&app, &Key::of(link.tenant, link.object), &facts, request).await
    }

    /// Send by a link
    ///
    /// What `/files/presign` leads to where storage is a folder: the content itself, of the size that was announced.
    /// `/files/{id}/complete` has it looked at.
    #[oai(path = "/objects/:link", method = "put", operation_id = "objects.put")]
    async fn put(&self, app: Data<&App>, link: Path<String>, content: RawContent) -> Result<NoContent> {
        let link = opened(&app, &link.0).await?;
        let Deed::Put { size_bytes } = link.deed else { return Err(none()) };
        super::direct::receive(&app, link.tenant, link.object, size_bytes, content).await?;
        Ok(NoContent::done())
    }
}

/// What a link says, whose tenant is not suspended.
async fn opened(app: &App, text: &str) -> Result<Link> {
    let link = Link::open(text, &app.keys, app.clock.now())?;
    let mut tx = app.db.identity().await?;
    let is_suspended = tenants::is_suspended(&mut tx, link.tenant).await?;
    tx.commit().await?;
    if is_suspended { Err(verify::suspended()) } else { Ok(link) }
}

fn none() -> ApiError {
    millwork_shared::Error::NotFound("link").into()
}

/// A link by which an object may be read: the object store's own, or one of ours.
pub fn to_read(app: &App, tenant: TenantId, object: ObjectId, facts: &Facts, lasts: Duration) -> Result<ContentLink> {
    let expires_at = app.clock.now() + lasts;
    let download = Download { media_type: facts.media_type.clone(), disposition: facts.disposition() };
    if let Some(url) = app.storage.presign_get(&Key::of(tenant, object), lasts, &download)? {
        return Ok(ContentLink { url: url.into(), expires_at: Time(expires_at) });
    }
    let deed = Deed::Get { name: facts.name.clone(), media_type: facts.media_type.clone(), inline: facts.inline };
    of_ours(app, tenant, object, deed, expires_at)
}

/// A link of our own.
pub fn of_ours(
    app: &App,
    tenant: TenantId,
    object: ObjectId,
    deed: Deed,
    expires_at: DateTime<Utc>,
) -> Result<ContentLink> {
    let token = Link { tenant, object, expires_at, deed }.seal(&app.keys)?;
    Ok(ContentLink { url: app.url(&format!("/api/v1/objects/{token}")), expires_at: Time(expires_at) })
}
