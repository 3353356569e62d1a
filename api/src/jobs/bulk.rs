//! Replaying and cancelling many jobs, as a job.

use millwork_shared::jobs::bulk::{Bulk, CancelJobs, MAX_RATE_PER_S, RATE_PER_S, ReplayJobs, Selection};
use millwork_shared::jobs::{Job as JobKind, NewJob, Queue, State, Unique, queries};
use poem::web::Data;
use poem_openapi::{Object, OpenApi};
use serde::Deserialize;

use super::not_unique;
use super::types::{Job, QueueName, StateName};
use crate::App;
use crate::http::{
    Accepted, ApiError, Begun, Body, Caller, Fault, Idempotency, Permitted, RequestInfo, Result, Time, to,
};
use crate::routes::Tag;

/// Which jobs, and how fast.
#[derive(Debug, Object, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BulkRequest {
    /// To replay: `failed`, as by default, or `cancelled`. To cancel: `scheduled`, `queued`, `running` or `retrying`;
    /// all of them by default
    pub state: Option<StateName>,
    /// Only jobs of this kind
    #[oai(validator(min_length = 1, max_length = 255))]
    pub kind: Option<String>,
    /// Only jobs of this queue
    pub queue: Option<QueueName>,
    /// Only jobs with this tag
    #[oai(validator(min_length = 1, max_length = 64))]
    pub tag: Option<String>,
    /// Only jobs created at or after this moment
    pub from: Option<Time>,
    /// Only jobs created before this moment
    pub to: Option<Time>,
    /// Only count those that match; the job's result has the number. Beyond 100,000 it says `at_least`
    pub dry_run: Option<bool>,
    /// Jobs by second at most, 1 to 10000; 100 by default
    #[oai(validator(minimum(value = "1"), maximum(value = "10000")))]
    pub rate_per_s: Option<u32>,
}

pub struct BulkApi;

#[OpenApi(tag = "Tag::Jobs")]
impl BulkApi {
    /// Run many jobs again
    ///
    /// Those that failed, or were cancelled if `state` says so, and match the filter; all of them if there is none. It
    /// is itself a job, `jobs.replay`, which shows its progress and whose result is `{matched, done, skipped}`: skipped
    /// are those whose unique key another job has now. Jobs that are created after it are left alone, and none is
    /// replayed twice. One at a time for a tenant, beside a dry run.
    #[oai(path = "/jobs/replay", method = "post", operation_id = "jobs.replay")]
    async fn replay(
        &self,
        caller: Permitted<to::JobsRetry>,
        app: Data<&App>,
        info: RequestInfo,
        key: Idempotency,
        body: Body<BulkRequest>,
    ) -> Result<Accepted<Job>> {
        let bulk = bulk(&body, &[State::Failed, State::Cancelled])?;
        let job = job(&caller, &ReplayJobs(bulk.clone()), &bulk)?.caused_by(&info.cause());
        accept(&caller, &app, key, body.hash(), job).await
    }

    /// Cancel many jobs
    ///
    /// Those that have not ended and match the filter; all of them if there is none. Jobs that wait end at once, those
    /// that run are told. It is itself a job, `jobs.cancel`, which shows its progress and whose result is `{matched,
    /// done, skipped}`: skipped are those that left the state asked for meanwhile. Jobs that are created after it are
    /// left alone. One at a time for a tenant, beside a dry run.
    #[oai(path = "/jobs/cancel", method = "post", operation_id = "jobs.cancel_many")]
    async fn cancel(
        &self,
        caller: Permitted<to::JobsCancel>,
        app: Data<&App>,
        info: RequestInfo,
        key: Idempotency,
        body: Body<BulkRequest>,
    ) -> Result<Accepted<Job>> {
        let bulk = bulk(&body, &[State::Scheduled, State::Queued, State::Running, State::Retrying])?;
        let job = job(&caller, &CancelJobs(bulk.clone()), &bulk)?.caused_by(&info.cause());
        accept(&caller, &app, key, body.hash(), job).await
    }
}

fn bulk(body: &BulkRequest, states: &[State]) -> Result<Bulk> {
    let mut faults = Vec::new();
    let state = body.state.map(State::from);
    if state.is_some_and(|state| !states.contains(&state)) {
        let names: Vec<_> = states.iter().map(|state| state.as_str()).collect();
        faults.push(Fault::new("/state", "not_allowed", format!("must be one of {}", names.join(", "))));
    }
    if let (Some(from), Some(to)) = (body.from, body.to)
        && from >= to
    {
        faults.push(Fault::new("/to", "empty", "is not after `from`"));
    }
    if !faults.is_empty() {
        return Err(ApiError::invalid(faults));
    }
    Ok(Bulk {
        selection: Selection {
            state,
            kind: body.kind.clone(),
            queue: body.queue.map(|queue| Queue::from(queue).to_string()),
            tag: body.tag.clone(),
            from: body.from.map(|time| time.0),
            to: body.to.map(|time| time.0),
        },
        rate_per_s: body.rate_per_s.unwrap_or(RATE_PER_S).clamp(1, MAX_RATE_PER_S),
        dry_run: body.dry_run.unwrap_or(false),
    })
}

fn job<J: JobKind>(caller: &Caller, payload: &J, bulk: &Bulk) -> Result<NewJob> {
    let mut job = NewJob::of(caller.tenant, payload)?;
    let key = if bulk.dry_run { format!("{}.dry_run", J::KIND) } else { J::KIND.to_owned() };
    job.unique = Some(Unique { key, hold: None });
    job.submitted_by = Some(caller.actor());
    Ok(job)
}

async fn accept(
    caller: &Caller,
    app: &App,
    key: Idempotency,
    body_hash: [u8; 32],
    job: NewJob,
) -> Result<Accepted<Job>> {
    let mut work = match key.begin(app, caller, body_hash).await? {
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
