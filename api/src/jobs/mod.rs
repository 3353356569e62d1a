//! Work that is done later.

/// Replaying and cancelling many jobs, as a job.
pub mod bulk;
mod careful;
/// Storing jobs that belong together.
mod chains;
/// Figures of the queues.
pub mod figures;
/// Storing jobs, many requests' at once.
pub mod intake;
/// From a request to a job that can be stored.
pub mod submit;
/// Bodies.
pub mod types;
/// Watching jobs for whoever streams their changes.
pub mod watch;

use std::time::Duration;

use futures::stream::BoxStream;
use futures::{StreamExt, stream};
use millwork_shared::idempotency::IdempotencyRecord;
use millwork_shared::infra::db::Db;
use millwork_shared::infra::ids::{ActorId, BatchId, JobId, ScheduleId, TenantId};
use millwork_shared::jobs::queries::{self, CancelResult, Filter};
use millwork_shared::jobs::{Cause, Job as _, NewJob, State, Unique};
use millwork_shared::maintenance::CleanUp;
use millwork_shared::quotas::Metric;
use millwork_shared::tenants::Permission;
use poem::http::StatusCode;
use poem::web::Data;
use poem_openapi::OpenApi;
use poem_openapi::param::{Path, Query};
use poem_openapi::payload::EventStream;
use uuid::Uuid;

use self::figures::Figures;
use self::intake::Stored;
use self::submit::Submitter;
pub use self::types::QueueName;
use self::types::{Attempt, BatchRequest, Cancellation, Job, JobLog, JobRequest, StateName};
use crate::App;
use crate::auth::held::Held;
use crate::http::{
    Accepted, Answer, ApiError, Begun, Caller, Idempotency, List, Page, Permitted, PermittedOrOwner, RawBody,
    RequestInfo, Result, Time, body, idempotency, to,
};
use crate::metrics::METRICS;
use crate::quotas;
use crate::routes::Tag;

/// Largest body of one job.
const JOB_BYTES: usize = 1024 * 1024;
/// Largest body of a batch of jobs.
const BATCH_BYTES: usize = 16 * 1024 * 1024;
/// A comment is sent so often on a stream without changes, so that nobody on the way takes it for dead.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

pub struct JobsApi;

#[OpenApi(tag = "Tag::Jobs")]
impl JobsApi {
    /// Submit a job
    ///
    /// 202 means that the job is committed to disk: whatever breaks from now on, it runs. It may run twice after a crash.
    /// A job may wait for others: see `after`.
    #[oai(path = "/jobs", method = "post", operation_id = "jobs.submit")]
    async fn submit(
        &self,
        caller: Permitted<to::JobsSubmit>,
        app: Data<&App>,
        info: RequestInfo,
        key: Idempotency,
        body: RawBody<JobRequest, JOB_BYTES>,
    ) -> Result<Accepted<Job>> {
        let raw = body.into_bytes();
        let (job, wait) = submit::one(&raw, &submitter(&caller, &app, &info.cause()))?;
        if let Some(wait) = wait {
            return chains::submit(&app, &caller, key, body::hash(&raw), job, wait).await;
        }
        let answer = Accepted::at(&Job::from(&job), app.url(&format!("/api/v1/jobs/{}", job.id)))?;

        let body_hash = body::hash(&raw);
        let record = match &key.key {
            Some(name) => {
                let rendered = answer.rendered();
                let headers = idempotency::stored_headers(rendered)?;
                Some(IdempotencyRecord::seal(
                    &app.keys,
                    (caller.tenant, &key.route, name),
                    body_hash,
                    (rendered.status, headers, &rendered.body),
                )?)
            }
            None => None,
        };
        let units = quotas::take(&app, caller.tenant, Metric::Jobs, 1).await?;
        match app.intake.store(job, record).await? {
            Stored::New => {
                units.keep();
                Ok(answer)
            }
            Stored::Replay(record) => Ok(idempotency::replay(&record, body_hash, &app.keys)?.into()),
            Stored::NotUnique(holder) => Err(not_unique(None, holder)),
        }
    }

    /// Submit many jobs, all or none
    ///
    /// Faults name the index of the job they are in. Items may wait for items before them, by their `ref`. With `batch` they
    /// are counted together: `Location` and each job's `batch_id` say where.
    #[oai(path = "/jobs/batch", method = "post", operation_id = "jobs.submit_batch")]
    async fn submit_batch(
        &self,
        caller: Permitted<to::JobsSubmit>,
        app: Data<&App>,
        info: RequestInfo,
        key: Idempotency,
        body: RawBody<BatchRequest, BATCH_BYTES>,
    ) -> Result<Accepted<Vec<Job>>> {
        let raw = body.into_bytes();
        let batch = submit::many(&raw, &submitter(&caller, &app, &info.cause()))?;
        let count = batch.jobs.len();
        let answer = chains::submit_batch(&app, &caller, key, body::hash(&raw), batch).await?;
        METRICS.batch_jobs.inc_by(count as u64);
        Ok(answer)
    }

    /// List jobs, newest first
    #[oai(path = "/jobs", method = "get", operation_id = "jobs.list")]
    #[expect(clippy::too_many_arguments, reason = "one a filter")]
    async fn list(
        &self,
        caller: Permitted<to::JobsRead>,
        app: Data<&App>,
        page: Page,
        /// Only jobs in this state
        state: Query<Option<StateName>>,
        /// Only jobs of this kind
        kind: Query<Option<String>>,
        /// Only jobs of this queue
        queue: Query<Option<QueueName>>,
        /// Only jobs with this tag
        tag: Query<Option<String>>,
        /// Only jobs that this schedule made
        schedule_id: Query<Option<Uuid>>,
        /// Only jobs of this batch
        batch_id: Query<Option<Uuid>>,
        /// Only jobs created at or after this moment
        from: Query<Option<Time>>,
        /// Only jobs created before this moment
        to: Query<Option<Time>>,
    ) -> Result<List<Job>> {
        for (name, value) in [("kind", &kind.0), ("tag", &tag.0)] {
            if value.as_ref().is_some_and(|v| v.contains('\0') || v.len() > 255) {
                return Err(ApiError::malformed("parameter_invalid", format!("parameter `{name}`: not a {name}")));
            }
        }
        let filter = Filter {
            state: state.0.map(State::from),
            kind: kind.0,
            queue: queue.0.map(|queue| millwork_shared::jobs::Queue::from(queue).to_string()),
            tag: tag.0,
            schedule: schedule_id.0.map(ScheduleId),
            batch: batch_id.0.map(BatchId),
            from: from.0.map(|time| time.0),
            to: to.0.map(|time| time.0),
            before: page.before().map(JobId),
        };
        let mut tx = app.db.tenant(caller.tenant).await?;
        let rows = queries::list(&mut tx, &filter, page.fetch()).await?;
        tx.commit().await?;
        List::new(&page, rows.into_iter().map(Job::from).collect(), |job| job.id)
    }

    /// Figures of the queues
    ///
    /// What waits now, and what happened in the last minutes.
    #[oai(path = "/jobs/stats", method = "get", operation_id = "jobs.stats")]
    async fn stats(&self, caller: Permitted<to::JobsRead>, app: Data<&App>) -> Result<Answer<Figures>> {
        let mut tx = app.db.tenant(caller.tenant).await?;
        let depths = queries::list_depths(&mut tx).await?;
        let stats = queries::list_stats(&mut tx).await?;
        tx.commit().await?;
        Answer::new(&Figures::new(&depths, &stats, app.clock.now()))
    }

    /// Clean up now
    ///
    /// Enqueues what the scheduler does every few minutes to every night: what has expired is deleted, finished work past its
    /// retention, and of the tenant's storage what belongs to nothing. The job's result says what. One at a time for a tenant.
    #[oai(path = "/jobs/cleanup", method = "post", operation_id = "jobs.cleanup")]
    async fn cleanup(
        &self,
        caller: Permitted<to::JobsCleanup>,
        app: Data<&App>,
        info: RequestInfo,
        key: Idempotency,
    ) -> Result<Accepted<Job>> {
        let mut job = NewJob::of(caller.tenant, &CleanUp {})?.caused_by(&info.cause());
        job.unique = Some(Unique { key: CleanUp::KIND.to_owned(), hold: None });
        job.submitted_by = Some(caller.actor());
        let mut work = match key.begin(&app, &caller, idempotency::no_body()).await? {
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

    /// Get a job
    #[oai(path = "/jobs/:id", method = "get", operation_id = "jobs.get")]
    async fn get(&self, caller: Permitted<to::JobsRead>, app: Data<&App>, id: Path<Uuid>) -> Result<Answer<Job>> {
        let mut tx = app.db.tenant(caller.tenant).await?;
        let row = queries::get(&mut tx, JobId(id.0)).await?;
        tx.commit().await?;
        Answer::new(&Job::from(row))
    }

    /// List the attempts at a job, newest first
    #[oai(path = "/jobs/:id/attempts", method = "get", operation_id = "jobs.attempts")]
    async fn attempts(
        &self,
        caller: Permitted<to::JobsRead>,
        app: Data<&App>,
        id: Path<Uuid>,
    ) -> Result<Answer<Vec<Attempt>>> {
        let mut tx = app.db.tenant(caller.tenant).await?;
        queries::get(&mut tx, JobId(id.0)).await?;
        let rows = queries::list_attempts(&mut tx, JobId(id.0)).await?;
        tx.commit().await?;
        Answer::new(&rows.into_iter().map(Attempt::from).collect())
    }

    /// Show the log of a job
    ///
    /// What its handlers have written while they ran, of all attempts; seen here within a second or so. Not every kind
    /// writes something.
    #[oai(path = "/jobs/:id/logs", method = "get", operation_id = "jobs.logs")]
    async fn logs(&self, caller: Permitted<to::JobsRead>, app: Data<&App>, id: Path<Uuid>) -> Result<Answer<JobLog>> {
        let mut tx = app.db.tenant(caller.tenant).await?;
        queries::get(&mut tx, JobId(id.0)).await?;
        let log = queries::read_log(&mut tx, JobId(id.0)).await?;
        tx.commit().await?;
        Answer::new(&log.into())
    }

    /// Follow a job
    ///
    /// Its changes, those of its progress included, as server-sent events, each the whole job, from how it stands now
    /// until it has ended, or whoever follows it may not see it any more.
    #[oai(path = "/jobs/:id/events", method = "get", operation_id = "jobs.events")]
    async fn events(
        &self,
        caller: Permitted<to::JobsRead>,
        app: Data<&App>,
        id: Path<Uuid>,
    ) -> Result<EventStream<BoxStream<'static, Job>>> {
        let (tenant, id) = (caller.tenant, JobId(id.0));
        let mut tx = app.db.tenant(tenant).await?;
        queries::get(&mut tx, id).await?;
        tx.commit().await?;
        let busy = || ApiError::unavailable("this process follows too many jobs; try again in a moment", 5);
        let seen = app.watch.follow(tenant, id).ok_or_else(busy)?;
        let held = Held::new(&app, &caller, Permission::JobsRead);
        let begun = (app.db.clone(), held, seen, false);
        let changes = stream::unfold(begun, move |(db, mut held, mut seen, ended)| async move {
            if ended {
                return None;
            }
            loop {
                seen.changed().await.ok()?;
                // A job whose row cannot be read now is read at its next change; its end is looked for until it is told.
                let job = match held.still().await {
                    Ok(true) => read(&db, tenant, id).await,
                    Ok(false) => return None,
                    Err(error) => Err(error),
                };
                let Ok(job) = job else {
                    seen.mark_changed();
                    tokio::time::sleep(Duration::from_secs(1)).await;
                    continue;
                };
                let ended = job.state.parse().is_ok_and(State::is_end);
                return Some((job, (db, held, seen, ended)));
            }
        });
        Ok(EventStream::new(changes.boxed()).keep_alive(KEEP_ALIVE))
    }

    /// Cancel a job
    ///
    /// A job that waits ends at once. One that runs is told within a second; it ends as `cancelled` when it stops. Jobs
    /// that wait for it go by their `on_predecessor_failure`.
    #[oai(path = "/jobs/:id/cancel", method = "post", operation_id = "jobs.cancel")]
    async fn cancel(
        &self,
        caller: PermittedOrOwner<to::JobsCancel, to::JobsSubmit>,
        app: Data<&App>,
        id: Path<Uuid>,
        key: Idempotency,
    ) -> Result<Accepted<Cancellation>> {
        let caller = caller.or_maker(submitter_of(&app, caller.tenant(), JobId(id.0))).await?;
        let mut work = match key.begin(&app, caller, idempotency::no_body()).await? {
            Begun::Replay(answer) => return Ok(answer.into()),
            Begun::Work(work) => work,
        };
        let state = match queries::cancel(&mut work, JobId(id.0)).await? {
            CancelResult::Cancelled => State::Cancelled,
            CancelResult::Requested => State::Running,
        };
        let answer = work.finish(Accepted::new(&Cancellation { id: id.0, state: state.as_str().to_owned() })?).await?;
        app.followers.tell_soon();
        Ok(answer)
    }

    /// Run a job again
    ///
    /// For a job that failed or was cancelled: it is due now, with as many attempts as it had at first.
    #[oai(path = "/jobs/:id/retry", method = "post", operation_id = "jobs.retry")]
    async fn retry(
        &self,
        caller: PermittedOrOwner<to::JobsRetry, to::JobsSubmit>,
        app: Data<&App>,
        id: Path<Uuid>,
        key: Idempotency,
    ) -> Result<Accepted<Job>> {
        let caller = caller.or_maker(submitter_of(&app, caller.tenant(), JobId(id.0))).await?;
        let mut work = match key.begin(&app, caller, idempotency::no_body()).await? {
            Begun::Replay(answer) => return Ok(answer.into()),
            Begun::Work(work) => work,
        };
        let ticket = queries::retry_now(&mut work, JobId(id.0)).await?;
        let row = queries::get(&mut work, JobId(id.0)).await?;
        let answer = work.finish(Accepted::new(&Job::from(row))?).await?;
        app.dispatcher.offer_soon(vec![ticket]);
        Ok(answer)
    }
}

/// Who submits a job by this request.
pub fn submitter<'a>(caller: &Caller, app: &'a App, cause: &'a Cause) -> Submitter<'a> {
    Submitter { tenant: caller.tenant, actor: caller.actor(), now: app.clock.now(), cause, nets: &app.settings.nets }
}

/// Who submitted a job.
async fn submitter_of(app: &App, tenant: TenantId, id: JobId) -> millwork_shared::Result<Option<ActorId>> {
    let mut tx = app.db.tenant(tenant).await?;
    let submitter = queries::find_submitter(&mut tx, id).await?;
    tx.commit().await?;
    Ok(submitter)
}

async fn read(db: &Db, tenant: TenantId, id: JobId) -> millwork_shared::Result<Job> {
    let mut tx = db.tenant(tenant).await?;
    let row = queries::get(&mut tx, id).await?;
    tx.commit().await?;
    Ok(row.into())
}

/// 409: the key of a job, in a batch the `index`-th from zero, is held by another.
pub fn not_unique(index: Option<usize>, holder: JobId) -> ApiError {
    let detail = format!("the unique key is held by job {holder}");
    let error = ApiError::new(StatusCode::CONFLICT, "job_not_unique", detail).with("job_id", holder.to_string());
    match index {
        Some(index) => error.with("index", index),
        None => error,
    }
}
