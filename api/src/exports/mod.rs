//! What tenants take out.

mod types;

use std::time::Duration;

use millwork_shared::Error;
use millwork_shared::audit::queries as audit;
use millwork_shared::exports::jobs::RunExport;
use millwork_shared::exports::queries::{self as rows, ExportRow, NewExport as New};
use millwork_shared::exports::source::Filters;
use millwork_shared::exports::{Compression, Resource, file_name};
use millwork_shared::infra::ids::{ExportId, UserId};
use millwork_shared::jobs::{NewJob, queries as jobs};
use millwork_shared::objects::queries as objects;
use millwork_shared::tenants::queries::members;
use poem::http::StatusCode;
use poem::web::Data;
use poem_openapi::OpenApi;
use poem_openapi::param::Path;
use uuid::Uuid;

use self::types::{Export, NewExport, Wanted};
use crate::App;
use crate::auth::sessions;
use crate::files::links::to_read;
use crate::files::types::ContentLink;
use crate::http::content::Facts;
use crate::http::idempotency::no_body;
use crate::http::{
    Accepted, Answer, ApiError, Begun, Body, Caller, Credential, Fault, Idempotency, List, Page, Permitted,
    RequestInfo, Result, to,
};
use crate::routes::Tag;

/// How long a link to an export counts.
const LINK: Duration = Duration::from_secs(300);

pub struct ExportsApi;

#[OpenApi(tag = "Tag::Files")]
impl ExportsApi {
    /// Export
    ///
    /// Has a job, `export.run`, write the rows into a file. It takes the permission to read what is exported, too. When it is
    /// ready, webhooks are told by `export.ready`, and the person who asked by a mail; for seven days it can be downloaded.
    /// What changes while it runs may be in it or not. A tenant has at most ten exports that wait or run.
    ///
    /// `personal_data` is what is kept of one member, with what for and for how long (GDPR articles 15 and 20). Whoever
    /// may export gets their own, with how they sign in, and everybody by `POST /auth/personal-data`; somebody else's takes
    /// `personal_data:read`.
    #[oai(path = "/exports", method = "post", operation_id = "exports.create")]
    async fn create(
        &self,
        caller: Permitted<to::ExportsWrite>,
        app: Data<&App>,
        request: RequestInfo,
        key: Idempotency,
        body: Body<NewExport>,
    ) -> Result<Accepted<Export>> {
        let wanted = body.wanted().map_err(ApiError::invalid)?;
        may_read(&caller, wanted.resource, &wanted.filters)?;
        begin(&app, &caller, &request, (key, body.hash()), wanted).await
    }

    /// Export what is kept of me
    ///
    /// In the tenant of this session: as `POST /exports` with `personal_data` and one's own id, for which everybody may ask (GDPR
    /// articles 15 and 20). A mail tells when it is ready, and `GET /exports/{id}/download` leads to it, which takes
    /// `exports:read`: every built-in role has it.
    #[oai(path = "/auth/personal-data", method = "post", operation_id = "auth.export_personal_data")]
    async fn own(
        &self,
        caller: Caller,
        app: Data<&App>,
        request: RequestInfo,
        key: Idempotency,
    ) -> Result<Accepted<Export>> {
        sessions::of(&caller)?;
        let wanted = Wanted::personal_data(Some(caller.user.0), None);
        begin(&app, &caller, &request, (key.by(caller.user), no_body()), wanted).await
    }

    /// List exports
    ///
    /// Newest first, of the last 30 days.
    #[oai(path = "/exports", method = "get", operation_id = "exports.list")]
    async fn list(&self, caller: Permitted<to::ExportsRead>, app: Data<&App>, page: Page) -> Result<List<Export>> {
        let mut tx = app.db.tenant(caller.tenant).await?;
        let exports = rows::list(&mut tx, page.before(), page.fetch()).await?;
        tx.commit().await?;
        List::new(&page, exports.into_iter().map(Export::from).collect(), |export| export.id)
    }

    /// Show an export
    #[oai(path = "/exports/:id", method = "get", operation_id = "exports.get")]
    async fn get(&self, caller: Permitted<to::ExportsRead>, app: Data<&App>, id: Path<Uuid>) -> Result<Answer<Export>> {
        let mut tx = app.db.tenant(caller.tenant).await?;
        let export = rows::get(&mut tx, ExportId(id.0)).await?;
        tx.commit().await?;
        Answer::new(&export.into())
    }

    /// Cancel an export
    ///
    /// One that waits ends at once, one that runs within a second; nothing is left of it.
    #[oai(path = "/exports/:id/cancel", method = "post", operation_id = "exports.cancel")]
    async fn cancel(
        &self,
        caller: Permitted<to::ExportsWrite>,
        app: Data<&App>,
        id: Path<Uuid>,
        key: Idempotency,
    ) -> Result<Accepted<Export>> {
        let mut tx = match key.begin(&app, &caller, no_body()).await? {
            Begun::Replay(answer) => return Ok(answer.into()),
            Begun::Work(tx) => tx,
        };
        let export = rows::get(&mut tx, ExportId(id.0)).await?;
        if matches!(export.state(), "ready" | "expired" | "failed" | "cancelled") {
            let detail = format!("the export is {}; only one that waits or runs can be cancelled", export.state());
            return Err(ApiError::conflict("export_over", detail));
        }
        jobs::cancel(&mut tx, export.job_id).await?;
        let export = Export::from(rows::get(&mut tx, export.id).await?);
        let location = app.url(&format!("/api/v1/exports/{}", id.0));
        let answer = tx.finish(Accepted::at(&export, location)?).await?;
        app.followers.tell_soon();
        Ok(answer)
    }

    /// Get a link to an export
    ///
    /// It leads to the file for five minutes, without a token. Getting one is written down in the audit log.
    #[oai(path = "/exports/:id/download", method = "get", operation_id = "exports.download")]
    async fn download(
        &self,
        caller: Permitted<to::ExportsRead>,
        app: Data<&App>,
        id: Path<Uuid>,
    ) -> Result<Answer<ContentLink>> {
        let mut tx = app.db.tenant(caller.tenant).await?;
        let export = rows::get(&mut tx, ExportId(id.0)).await?;
        let (resource, format, compress) = export.kind()?;
        let filters = export.filters()?;
        may_read(&caller, resource, &filters)?;
        if filters.user_id.is_some_and(|user| export.requested_by.0 == user && caller.user.0 != user) {
            let detail = "the person has asked for it, and it shows what is theirs alone; export it anew";
            return Err(ApiError::new(StatusCode::FORBIDDEN, "export_private", detail));
        }
        let object = match (export.state(), export.object_id) {
            ("ready", Some(object)) => objects::find_stored(&mut tx, object).await?,
            _ => None,
        };
        let object = object.ok_or_else(|| not_ready(&export))?;
        audit::record(&mut tx, "export.downloaded", ("export", &id.0.to_string()), None).await?;
        tx.commit().await?;
        let facts = Facts {
            size: object.size_bytes as u64,
            sha256: object.sha256,
            media_type: compress.map_or(format.media_type(), Compression::media_type).to_owned(),
            name: file_name(resource, format, compress),
            inline: false,
        };
        Answer::new(&to_read(&app, caller.tenant, object.id, &facts, LINK)?)
    }
}

/// Has a job write what is wanted.
async fn begin(
    app: &App,
    caller: &Caller,
    request: &RequestInfo,
    (key, body_hash): (Idempotency, [u8; 32]),
    wanted: Wanted,
) -> Result<Accepted<Export>> {
    let Wanted { resource, format, compress, filters } = wanted;
    let mut tx = match key.begin(app, caller, body_hash).await? {
        Begun::Replay(answer) => return Ok(answer.into()),
        Begun::Work(tx) => tx,
    };
    let id = ExportId::generate();
    let mut job = NewJob::of(caller.tenant, &RunExport { export: id })?.caused_by(&request.cause());
    job.submitted_by = Some(caller.actor());
    let new = New {
        id,
        resource,
        format,
        compress,
        filters: &filters,
        requested_by: caller.actor(),
        notify: matches!(caller.credential, Credential::Session(_)).then_some(caller.user),
        job: job.id,
    };
    if let Some(user) = filters.user_id {
        match members::get(&mut tx, UserId(user)).await {
            Err(Error::NotFound(_)) => {
                let fault = Fault::new("/user_id", "unknown", "is no member of this tenant");
                return Err(ApiError::invalid(vec![fault]));
            }
            member => drop(member?),
        }
    }
    rows::insert(&mut tx, &new).await?;
    let job = [job];
    jobs::enqueue(&mut tx, &job).await?;
    let export = Export::from(rows::get(&mut tx, id).await?);
    let location = app.url(&format!("/api/v1/exports/{id}"));
    let answer = tx.finish(Accepted::at(&export, location)?).await?;
    app.dispatcher.offer(&job);
    Ok(answer)
}

/// # Errors
/// 403, naming the permission to read what is exported. Nobody needs one for what is kept of themselves.
fn may_read(caller: &Caller, resource: Resource, filters: &Filters) -> Result<()> {
    let own = filters.user_id == Some(caller.user.0) && matches!(caller.credential, Credential::Session(_));
    if own { Ok(()) } else { caller.require(resource.permission()) }
}

fn not_ready(export: &ExportRow) -> ApiError {
    match export.state() {
        "expired" => {
            let detail = "the export was kept for seven days and is gone; export again";
            ApiError::new(StatusCode::GONE, "export_expired", detail)
        }
        state => ApiError::conflict(
            "export_not_ready",
            format!("the export is {state}; it can be downloaded once it is ready"),
        ),
    }
}
