//! Classes of work, and pausing them.

use std::collections::HashSet;

use millwork_shared::jobs::Queue;
use millwork_shared::jobs::queries;
use poem::web::Data;
use poem_openapi::param::Path;
use poem_openapi::{Object, OpenApi};
use serde::Serialize;

use crate::App;
use crate::http::{Answer, Begun, Caller, Idempotency, Permitted, Result, idempotency, to};
use crate::routes::Tag;

/// A class of work, as the tenant sees it.
#[derive(Debug, Object, Serialize)]
pub struct QueueInfo {
    pub name: String,
    /// Jobs that are due and wait
    pub depth: i64,
    pub running: i64,
    pub scheduled: i64,
    pub retrying: i64,
    /// How long the job that waits longest has been due
    pub oldest_age_ms: Option<i64>,
    /// Whether the tenant's jobs in it are held back
    pub paused: bool,
    /// Live worker processes that serve it
    pub workers: i64,
}

/// Whether a queue is paused.
#[derive(Debug, Object, Serialize)]
pub struct QueueState {
    pub name: String,
    pub paused: bool,
}

pub struct QueuesApi;

#[OpenApi(tag = "Tag::Jobs")]
impl QueuesApi {
    /// List the queues
    #[oai(path = "/queues", method = "get", operation_id = "queues.list")]
    async fn list(&self, caller: Permitted<to::QueuesRead>, app: Data<&App>) -> Result<Answer<Vec<QueueInfo>>> {
        let mut tx = app.db.tenant(caller.tenant).await?;
        let depths = queries::list_depths(&mut tx).await?;
        let paused: HashSet<Queue> = queries::list_pauses(&mut tx).await?.into_iter().map(|(_, queue)| queue).collect();
        let workers = queries::list_alive(&mut tx).await?;
        tx.commit().await?;
        let now = app.clock.now();
        let queues = Queue::ALL.map(|queue| {
            let depth = depths.iter().find(|depth| depth.queue == queue.as_str());
            let serving = workers.iter().filter(|worker| worker.queues.iter().any(|q| q == queue.as_str())).count();
            QueueInfo {
                name: queue.to_string(),
                depth: depth.map_or(0, |d| d.queued),
                running: depth.map_or(0, |d| d.running),
                scheduled: depth.map_or(0, |d| d.scheduled),
                retrying: depth.map_or(0, |d| d.retrying),
                oldest_age_ms: depth.and_then(|d| d.oldest_due_at).map(|due| (now - due).num_milliseconds().max(0)),
                paused: paused.contains(&queue),
                workers: i64::try_from(serving).unwrap_or(i64::MAX),
            }
        });
        Answer::new(&queues.into())
    }

    /// Pause a queue
    ///
    /// None of the tenant's jobs in it is started until it is resumed, by any worker. Those that run finish.
    #[oai(path = "/queues/:name/pause", method = "post", operation_id = "queues.pause")]
    async fn pause(
        &self,
        caller: Permitted<to::QueuesWrite>,
        app: Data<&App>,
        name: Path<String>,
        key: Idempotency,
    ) -> Result<Answer<QueueState>> {
        set_paused(&caller, &app, &name, key, true).await
    }

    /// Resume a queue
    #[oai(path = "/queues/:name/resume", method = "post", operation_id = "queues.resume")]
    async fn resume(
        &self,
        caller: Permitted<to::QueuesWrite>,
        app: Data<&App>,
        name: Path<String>,
        key: Idempotency,
    ) -> Result<Answer<QueueState>> {
        set_paused(&caller, &app, &name, key, false).await
    }
}

/// The ledger decides; Redis follows now, or within seconds by the scheduler.
async fn set_paused(
    caller: &Caller,
    app: &App,
    name: &str,
    key: Idempotency,
    paused: bool,
) -> Result<Answer<QueueState>> {
    let queue: Queue = name.parse().map_err(|_| millwork_shared::Error::NotFound("queue"))?;
    let mut work = match key.begin(app, caller, idempotency::no_body()).await? {
        Begun::Replay(answer) => return Ok(answer.into()),
        Begun::Work(work) => work,
    };
    match paused {
        true => queries::pause(&mut work, queue).await?,
        false => queries::resume(&mut work, queue).await?,
    };
    let answer = work.finish(Answer::new(&QueueState { name: queue.to_string(), paused })?).await?;
    let told = match paused {
        true => app.dispatcher.pause(queue, caller.tenant).await,
        false => app.dispatcher.resume(queue, caller.tenant).await,
    };
    if let Err(error) = told {
        tracing::warn!(%error, error.category = %error.category(), "cannot tell Redis; the scheduler will");
    }
    Ok(answer)
}
