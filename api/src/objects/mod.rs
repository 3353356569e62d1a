//! Sweeping storage at once.

use millwork_shared::jobs::{Job as _, NewJob, Unique, queries};
use millwork_shared::objects::jobs::SweepObjects;
use poem::web::Data;
use poem_openapi::{Object, OpenApi};
use serde::Deserialize;

use crate::App;
use crate::http::{Accepted, Begun, Body, Idempotency, Permitted, RequestInfo, Result, to};
use crate::jobs::not_unique;
use crate::jobs::types::Job;
use crate::routes::Tag;

/// What the sweep may do.
#[derive(Debug, Object, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SweepRequest {
    /// Only count what would be cleared away
    pub dry_run: Option<bool>,
}

pub struct SweepApi;

#[OpenApi(tag = "Tag::Files")]
impl SweepApi {
    /// Sweep files now
    ///
    /// Compares storage with what is known of it, for your tenant, as the platform does every hour: files whose time is over
    /// are deleted, uploads that nobody has been at for an hour are given up, what was deleted and is past its grace period
    /// goes for good, and so does content that belongs to nothing. Content that should be there and is not is reported, and
    /// nothing is deleted for it. It is itself a job, `files.sweep`, which shows its progress; its result has the figures
    /// (`found`) and a few `examples` of each, and the audit log an entry if it changed anything. One at a time for a
    /// tenant, beside a dry run.
    #[oai(path = "/files/sweep", method = "post", operation_id = "files.sweep")]
    async fn sweep(
        &self,
        caller: Permitted<to::JobsCleanup>,
        app: Data<&App>,
        info: RequestInfo,
        key: Idempotency,
        body: Body<SweepRequest>,
    ) -> Result<Accepted<Job>> {
        let dry_run = body.dry_run.unwrap_or(false);
        let mut job = NewJob::of(caller.tenant, &SweepObjects { dry_run, grace_s: None })?.caused_by(&info.cause());
        let unique = if dry_run { format!("{}.dry_run", SweepObjects::KIND) } else { SweepObjects::KIND.to_owned() };
        job.unique = Some(Unique { key: unique, hold: None });
        job.submitted_by = Some(caller.actor());
        let mut work = match key.begin(&app, &caller, body.hash()).await? {
            Begun::Replay(answer) => return Ok(answer.into()),
            Begun::Work(work) => work,
        };
        if let Some((_, holder)) = queries::enqueue_free(&mut work, std::slice::from_ref(&job)).await? {
            return Err(not_unique(None, holder));
        }
        let location = app.url(&format!("/api/v1/jobs/{}", job.id));
        let answer = work.finish(Accepted::at(&Job::from(&job), location)?).await?;
        app.dispatcher.offer(std::slice::from_ref(&job));
        Ok(answer)
    }
}
