//! Publishing: concurrent publications share a transaction.
//!
//! One writer stores them: while one commit is under way the next publications gather, and then go together. An idle API
//! adds no delay, and a busy one pays for a commit once for many. The writer holds the system's door to the database;
//! endpoints hold only the end of its queue.

mod batch;

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use millwork_shared::events::queries::Topic;
use millwork_shared::infra::crypto::KeyRing;
use millwork_shared::infra::db::SystemDb;
use millwork_shared::infra::ids::EventId;
use millwork_shared::infra::tasks;
use millwork_shared::jobs::Cause;
use millwork_shared::jobs::dispatch::Dispatcher;
use serde_json::value::RawValue;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};

use self::batch::{Answer, Checked, Failure, Writer};
use super::schemas::SchemaVersion;
use crate::http::{ApiError, Rendered, Result};
use crate::metrics::METRICS;

/// Publications that may wait; beyond, the API says that it is busy.
const QUEUE: usize = 2_048;
/// Payloads that may wait, in KiB.
const QUEUE_KIB: usize = 64 * 1024;
/// Events of one transaction.
const BATCH: usize = 256;
/// Payloads of one transaction, in bytes.
const BATCH_BYTES: usize = 8 * 1024 * 1024;
/// Longest time a commit may take.
const DEADLINE: Duration = Duration::from_secs(10);
/// How often a batch begins anew because somebody else stored the same id meanwhile.
const RIVALS: usize = 5;

/// An event on its way into the database.
#[derive(Debug)]
pub struct Draft {
    pub topic: Topic,
    /// Given by the client: accepted once.
    pub id: Option<EventId>,
    pub payload: Box<RawValue>,
    pub cause: Cause,
    pub key: Option<Key>,
}

/// An `Idempotency-Key`, kept in the transaction of the event.
#[derive(Debug)]
pub struct Key {
    pub route: String,
    pub key: String,
    pub body_hash: [u8; 32],
}

/// What became of a publication.
#[derive(Debug)]
pub enum Reply {
    /// Committed, now or before.
    Answered(Rendered),
    /// Nothing was stored: the payload was checked by another schema than the type has now.
    OtherSchema,
}

/// The end of the writer's queue that endpoints hold.
#[derive(Debug, Clone)]
pub struct Publisher {
    queue: mpsc::Sender<Pending>,
    room: Arc<Semaphore>,
}

#[derive(Debug)]
struct Pending {
    draft: Arc<Draft>,
    checked: SchemaVersion,
    reply: oneshot::Sender<Result<Reply>>,
    _room: OwnedSemaphorePermit,
}

impl Publisher {
    /// Starts the writer, which ends with the last clone of the handle.
    pub fn start(db: SystemDb, dispatcher: Dispatcher, keys: Arc<KeyRing>, public_url: &str) -> Self {
        let (queue, pending) = mpsc::channel(QUEUE);
        let writer = Writer { db, dispatcher, keys, public_url: public_url.to_owned() };
        tasks::spawn("events.publish", run(writer, pending));
        Self { queue, room: Arc::new(Semaphore::new(QUEUE_KIB)) }
    }

    /// Publishes an event whose payload was found to fit `checked`, and waits until it is on disk.
    ///
    /// # Errors
    /// 503 when too many publications wait, and what the database refuses.
    pub async fn publish(&self, draft: Arc<Draft>, checked: SchemaVersion) -> Result<Reply> {
        let busy = || {
            METRICS.events.refused.inc();
            ApiError::unavailable("too many events are being published; try again in a moment", 1)
        };
        let kib = u32::try_from(draft.payload.get().len() / 1024 + 1).unwrap_or(u32::MAX);
        let room = self.room.clone().try_acquire_many_owned(kib).map_err(|_| busy())?;
        let (reply, answer) = oneshot::channel();
        self.queue.try_send(Pending { draft, checked, reply, _room: room }).map_err(|_| busy())?;
        answer.await.map_err(|_| ApiError::internal(anyhow::anyhow!("the writer of events has stopped")))?
    }
}

async fn run(writer: Writer, mut queue: mpsc::Receiver<Pending>) {
    let mut waiting = Vec::with_capacity(BATCH);
    loop {
        if waiting.is_empty() && queue.recv_many(&mut waiting, BATCH).await == 0 {
            return;
        }
        while waiting.len() < BATCH
            && let Ok(pending) = queue.try_recv()
        {
            waiting.push(pending);
        }
        let (batch, mut later) = split(std::mem::take(&mut waiting));
        later.splice(0..0, commit(&writer, batch).await); // in the order they came
        waiting = later;
    }
}

/// What fits one transaction, and the rest: no id appears twice, and memory is bounded.
fn split(waiting: Vec<Pending>) -> (Vec<Pending>, Vec<Pending>) {
    let (mut ids, mut bytes) = (HashSet::new(), 0);
    waiting.into_iter().partition(|pending| {
        let Draft { topic, id, payload, .. } = &*pending.draft;
        bytes += payload.get().len(); // a single payload is smaller than the bound
        bytes <= BATCH_BYTES && id.is_none_or(|id| ids.insert((topic.tenant, id)))
    })
}

/// Stores the batch and answers; what must wait for another transaction comes back.
async fn commit(writer: &Writer, batch: Vec<Pending>) -> Vec<Pending> {
    let drafts: Vec<_> = batch.iter().map(|pending| (pending.draft.clone(), pending.checked)).collect();
    match attempt(writer, &drafts).await {
        Ok(answers) => deliver(batch, answers),
        // Something about one of them: the others need not suffer.
        Err(error) if batch.len() > 1 && !is_unavailable(&error) => {
            for (pending, draft) in batch.into_iter().zip(drafts) {
                let answers = attempt(writer, std::slice::from_ref(&draft)).await;
                let answer = answers.map_or_else(Answer::Refused, |mut all| all.pop().unwrap_or(Answer::Later));
                deliver(vec![pending], vec![answer]);
            }
            Vec::new()
        }
        Err(error) => {
            let mut first = Some(error);
            for pending in batch {
                let error = first.take().unwrap_or_else(|| ApiError::unavailable("the event could not be stored", 1));
                let _ = pending.reply.send(Err(error));
            }
            Vec::new()
        }
    }
}

async fn attempt(writer: &Writer, drafts: &[Checked]) -> Result<Vec<Answer>> {
    for _ in 0..RIVALS {
        let began = Instant::now();
        match tokio::time::timeout(DEADLINE, writer.store(drafts)).await {
            Ok(Ok(answers)) => {
                METRICS.events.batch.observe(drafts.len() as f64);
                METRICS.events.commit_s.observe(began.elapsed().as_secs_f64());
                return Ok(answers);
            }
            Ok(Err(Failure::Failed(error))) => return Err(error),
            Ok(Err(Failure::Raced)) => tracing::debug!(events = drafts.len(), "a batch of events met a rival"),
            Err(_) => {
                let detail = "the database does not answer; try again in a moment";
                return Err(ApiError::unavailable(detail, 2).by_dependency());
            }
        }
    }
    Err(ApiError::unavailable("the same event is being published by others; try again in a moment", 1))
}

fn is_unavailable(error: &ApiError) -> bool {
    error.status() == poem::http::StatusCode::SERVICE_UNAVAILABLE
}

fn deliver(batch: Vec<Pending>, answers: Vec<Answer>) -> Vec<Pending> {
    let mut later = Vec::new();
    for (pending, answer) in batch.into_iter().zip(answers) {
        let reply = match answer {
            Answer::Given(rendered) => Ok(Reply::Answered(rendered)),
            Answer::OtherSchema => Ok(Reply::OtherSchema),
            Answer::Refused(error) => Err(error),
            Answer::Later => {
                later.push(pending);
                continue;
            }
        };
        let _ = pending.reply.send(reply); // a client that left is not answered, but its event stands
    }
    later
}
