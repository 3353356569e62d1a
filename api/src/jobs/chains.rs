//! Storing jobs that belong together, in one transaction.

use std::collections::HashMap;

use millwork_shared::batches::{NewBatch, queries as batches};
use millwork_shared::infra::ids::{BatchId, JobId};
use millwork_shared::jobs::chains::Wait;
use millwork_shared::jobs::dispatch::Ticket;
use millwork_shared::jobs::queries::{self, Followed};
use millwork_shared::jobs::{Due, NewJob};
use millwork_shared::quotas::Metric;
use poem::web::Data;

use super::not_unique;
use super::submit::{Batch, Options};
use super::types::Job;
use crate::App;
use crate::http::idempotency::Work;
use crate::http::{Accepted, ApiError, Begun, Caller, Fault, Idempotency, Result};
use crate::quotas;

/// Stores a job that is to run after others.
pub async fn submit(
    app: &Data<&App>,
    caller: &Caller,
    key: Idempotency,
    body_hash: [u8; 32],
    job: NewJob,
    wait: Wait,
) -> Result<Accepted<Job>> {
    let mut work = match key.begin(app, caller, body_hash).await? {
        Begun::Replay(answer) => return Ok(answer.into()),
        Begun::Work(work) => work,
    };
    let units = quotas::take(app, caller.tenant, Metric::Jobs, 1).await?;
    let jobs = std::slice::from_ref(&job);
    if let Some((_, holder)) = queries::enqueue_free(&mut work, jobs).await? {
        return Err(not_unique(None, holder));
    }
    let followed = follow(&mut work, std::slice::from_ref(&wait), |_| String::new()).await?;
    let location = app.url(&format!("/api/v1/jobs/{}", job.id));
    let answer = work.finish(Accepted::at(&Job::from(&job).after(&wait, &followed)?, location)?).await?;
    units.keep();
    offer(app, jobs, &followed);
    Ok(answer)
}

/// Stores many jobs, of which some may be to run after others, and which may be counted together.
pub async fn submit_batch(
    app: &Data<&App>,
    caller: &Caller,
    key: Idempotency,
    body_hash: [u8; 32],
    batch: Batch,
) -> Result<Accepted<Vec<Job>>> {
    let mut work = match key.begin(app, caller, body_hash).await? {
        Begun::Replay(answer) => return Ok(answer.into()),
        Begun::Work(work) => work,
    };
    let Batch { mut jobs, waits, options } = batch;
    let count = jobs.len();
    let units = quotas::take(app, caller.tenant, Metric::Jobs, count).await?;
    let counted = options.map(|Options { name, on_complete }| {
        let ids = jobs.iter().map(|job| job.id).collect();
        let counted =
            NewBatch { id: BatchId::generate(), name, jobs: ids, on_complete: on_complete.as_ref().map(|job| job.id) };
        jobs.extend(on_complete);
        counted
    });
    if let Some((n, holder)) = queries::enqueue_free(&mut work, &jobs).await? {
        return Err(not_unique((n < count).then_some(n), holder));
    }
    if let Some(counted) = &counted {
        batches::insert(&mut work, counted).await?;
    }
    jobs.truncate(count); // the last one waits for all the others
    let places: HashMap<JobId, usize> = jobs.iter().enumerate().map(|(n, job)| (job.id, n)).collect();
    let place = |wait: &Wait| places.get(&wait.job).map_or(String::new(), |n| format!("/jobs/{n}"));
    let followed = if waits.is_empty() { Followed::default() } else { follow(&mut work, &waits, place).await? };
    let waits: HashMap<JobId, &Wait> = waits.iter().map(|wait| (wait.job, wait)).collect();
    let batch_id = counted.map(|counted| counted.id);
    let shown = jobs.iter().map(|job| {
        let shown = Job { batch_id: batch_id.map(|id| id.0), ..Job::from(job) };
        match waits.get(&job.id) {
            Some(wait) => shown.after(wait, &followed),
            None => Ok(shown),
        }
    });
    let shown = shown.collect::<Result<Vec<_>>>()?;
    let answer = match batch_id {
        Some(id) => Accepted::at(&shown, app.url(&format!("/api/v1/batches/{id}")))?,
        None => Accepted::new(&shown)?,
    };
    let answer = work.finish(answer).await?;
    units.keep();
    offer(app, &jobs, &followed);
    Ok(answer)
}

/// Makes jobs wait. `place` is where in the body a wait was asked for.
async fn follow(work: &mut Work, waits: &[Wait], place: impl Fn(&Wait) -> String) -> Result<Followed> {
    let unknown = match queries::follow(work, waits).await? {
        Ok(followed) => return Ok(followed),
        Err(unknown) => unknown,
    };
    let faults = unknown.into_iter().take(50).filter_map(|(n, m)| {
        let wait = waits.get(n)?;
        let detail = format!("there is no job {}, or it is past its retention", wait.after.get(m)?);
        Some(Fault::new(format!("{}/after/{m}", place(wait)), "unknown", detail))
    });
    Err(ApiError::invalid(faults.collect()))
}

/// Offers the jobs that do not wait, and has the ends of those that were cancelled told.
fn offer(app: &App, jobs: &[NewJob], followed: &Followed) {
    let Followed { waiting, cancelled } = followed;
    let is_due = |job: &&NewJob| job.due == Due::Now && !waiting.contains(&job.id) && !cancelled.contains_key(&job.id);
    app.dispatcher.offer_soon(jobs.iter().filter(is_due).map(Ticket::from).collect());
    if !cancelled.is_empty() {
        app.followers.tell_soon();
    }
}
