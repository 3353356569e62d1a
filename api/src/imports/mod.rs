//! What tenants bring in.

mod types;

use std::time::Duration;

use millwork_shared::Error;
use millwork_shared::files::queries as files;
use millwork_shared::imports::jobs::RunImport;
use millwork_shared::imports::queries::{self as rows, NewImport as New};
use millwork_shared::imports::{Format, Resource};
use millwork_shared::infra::ids::{FileId, ImportId};
use millwork_shared::jobs::{NewJob, queries as jobs};
use millwork_shared::objects::queries as objects;
use millwork_shared::tenants::Permission;
use poem::web::Data;
use poem_openapi::OpenApi;
use poem_openapi::param::Path;
use uuid::Uuid;

use self::types::{Import, NewImport};
use crate::App;
use crate::files::links::to_read;
use crate::files::types::ContentLink;
use crate::http::content::Facts;
use crate::http::idempotency::no_body;
use crate::http::{
    Accepted, Answer, ApiError, Begun, Body, Fault, Idempotency, List, Page, Permitted, RequestInfo, Result, to,
};
use crate::routes::Tag;

/// How long a link to a report counts.
const LINK: Duration = Duration::from_secs(300);

pub struct ImportsApi;

#[OpenApi(tag = "Tag::Files")]
impl ImportsApi {
    /// Import
    ///
    /// Has a job, `import.run`, make what the rows of a stored file say: `users` are invited (`email`, `roles`), `webhooks`
    /// registered (`url`, `description`, `event_types`, `enabled`, `rate_limit_per_s`, `headers`, `metadata`), `event_types` declared
    /// (`name`, `description`, `schema`). CSV begins with a line of these names; lists have semicolons between their parts, headers,
    /// metadata and schema are JSON. It takes the permission to make such things, and `files:read`.
    ///
    /// What is there already is left as it is, so the same file may be imported twice: people by address, webhooks by URL and event
    /// types, event types by name. A row that is wrong is told in the report and does not stop the others; of a file that breaks off,
    /// or has too many rows, what comes before is made, and the import has failed. A `dry_run` makes nothing;
    /// it does not see a limit of the tenant that only rows far apart reach together. When it is finished webhooks are
    /// told by `import.finished`. A tenant has at most ten imports that wait or run.
    #[oai(path = "/imports", method = "post", operation_id = "imports.create")]
    async fn create(
        &self,
        caller: Permitted<to::ImportsWrite>,
        app: Data<&App>,
        request: RequestInfo,
        key: Idempotency,
        body: Body<NewImport>,
    ) -> Result<Accepted<Import>> {
        let resource = Resource::from(body.resource);
        caller.require(resource.permission())?;
        caller.require(Permission::FilesRead)?;
        let mut tx = match key.begin(&app, &caller, body.hash()).await? {
            Begun::Replay(answer) => return Ok(answer.into()),
            Begun::Work(tx) => tx,
        };
        let file = match files::readable(&mut tx, FileId(body.file_id), None).await {
            Err(Error::NotFound(_)) => {
                return Err(ApiError::invalid(vec![Fault::new("/file_id", "unknown", "there is no such file")]));
            }
            file => file?,
        };
        let format = match body.format {
            Some(format) => format.into(),
            None => Format::of(&file.media_type, &file.name).ok_or_else(|| {
                let detail =
                    format!("neither `{}` nor `{}` says whether it is csv or ndjson", file.name, file.media_type);
                ApiError::invalid(vec![Fault::new("/format", "required", detail)])
            })?,
        };
        let id = ImportId::generate();
        let mut job = NewJob::of(caller.tenant, &RunImport { import: id })?.caused_by(&request.cause());
        job.submitted_by = Some(caller.actor());
        let permissions: Vec<&str> = caller.permissions.iter().map(Permission::as_str).collect();
        let new = New {
            id,
            file: FileId(body.file_id),
            number: file.number,
            resource,
            format,
            mode: body.mode.into(),
            requested_by: caller.actor(),
            user: caller.user,
            permissions: &permissions,
            job: job.id,
        };
        rows::insert(&mut tx, &new).await?;
        let job = [job];
        jobs::enqueue(&mut tx, &job).await?;
        let import = Import::from(rows::get(&mut tx, id).await?);
        let location = app.url(&format!("/api/v1/imports/{id}"));
        let answer = tx.finish(Accepted::at(&import, location)?).await?;
        app.dispatcher.offer(&job);
        Ok(answer)
    }

    /// List imports
    ///
    /// Newest first, of the last 30 days.
    #[oai(path = "/imports", method = "get", operation_id = "imports.list")]
    async fn list(&self, caller: Permitted<to::ImportsRead>, app: Data<&App>, page: Page) -> Result<List<Import>> {
        let mut tx = app.db.tenant(caller.tenant).await?;
        let imports = rows::list(&mut tx, page.before(), page.fetch()).await?;
        tx.commit().await?;
        List::new(&page, imports.into_iter().map(Import::from).collect(), |import| import.id)
    }

    /// Show an import
    #[oai(path = "/imports/:id", method = "get", operation_id = "imports.get")]
    async fn get(&self, caller: Permitted<to::ImportsRead>, app: Data<&App>, id: Path<Uuid>) -> Result<Answer<Import>> {
        let mut tx = app.db.tenant(caller.tenant).await?;
        let import = rows::get(&mut tx, ImportId(id.0)).await?;
        tx.commit().await?;
        Answer::new(&import.into())
    }

    /// Cancel an import
    ///
    /// What it has made by then stays.
    #[oai(path = "/imports/:id/cancel", method = "post", operation_id = "imports.cancel")]
    async fn cancel(
        &self,
        caller: Permitted<to::ImportsWrite>,
        app: Data<&App>,
        id: Path<Uuid>,
        key: Idempotency,
    ) -> Result<Accepted<Import>> {
        let mut tx = match key.begin(&app, &caller, no_body()).await? {
            Begun::Replay(answer) => return Ok(answer.into()),
            Begun::Work(tx) => tx,
        };
        let import = rows::get(&mut tx, ImportId(id.0)).await?;
        caller.require(import.kind()?.0.permission())?;
        if matches!(import.state(), "finished" | "failed" | "cancelled") {
            let detail = format!("the import is {}; only one that waits or runs can be cancelled", import.state());
            return Err(ApiError::conflict("import_over", detail));
        }
        jobs::cancel(&mut tx, import.job_id).await?;
        let import = Import::from(rows::get(&mut tx, import.id).await?);
        let location = app.url(&format!("/api/v1/imports/{}", id.0));
        let answer = tx.finish(Accepted::at(&import, location)?).await?;
        app.followers.tell_soon();
        Ok(answer)
    }

    /// Get a link to the report of an import
    ///
    /// A CSV file of `row` (from 1), `pointer`, `code` and `detail`: what is wrong with the rows that failed, the first ten
    /// thousand faults. The link counts for five minutes, without a token; the report is kept for seven days.
    #[oai(path = "/imports/:id/report", method = "get", operation_id = "imports.report")]
    async fn report(
        &self,
        caller: Permitted<to::ImportsRead>,
        app: Data<&App>,
        id: Path<Uuid>,
    ) -> Result<Answer<ContentLink>> {
        let mut tx = app.db.tenant(caller.tenant).await?;
        let import = rows::get(&mut tx, ImportId(id.0)).await?;
        let object = match import.object_id.filter(|_| import.has_report) {
            Some(object) => objects::find_stored(&mut tx, object).await?,
            None => None,
        };
        tx.commit().await?;
        let object = object.ok_or_else(|| {
            let detail =
                "there is no report: nothing failed, it has not ended by itself yet, or it was kept for seven days";
            ApiError::conflict("import_no_report", detail)
        })?;
        let facts = Facts {
            size: object.size_bytes as u64,
            sha256: object.sha256,
            media_type: "text/csv".to_owned(),
            name: format!("import-{}.csv", id.0),
            inline: false,
        };
        Answer::new(&to_read(&app, caller.tenant, object.id, &facts, LINK)?)
    }
}
