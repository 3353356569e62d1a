//! Reads what deliveries send, many at a time.
//!
//! While one read is under way the next requests gather, and then go in one statement; an idle loader adds no delay.

use millwork_shared::infra::db::{PATIENCE, SystemDb};
use millwork_shared::infra::tasks;
use millwork_shared::webhooks::queries::{self, Outgoing, OutgoingKey};
use millwork_shared::{Error, Result};
use tokio::sync::{mpsc, oneshot};

/// Deliveries read in one statement at most; bounds the memory of one read.
const BATCH: usize = 128;

/// A handle that is cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Loader {
    requests: mpsc::Sender<Request>,
}

#[derive(Debug)]
struct Request {
    key: OutgoingKey,
    reply: oneshot::Sender<Result<Outgoing>>,
}

impl Loader {
    pub(super) fn start(system: SystemDb) -> Self {
        let (requests, queue) = mpsc::channel(2 * BATCH);
        tasks::spawn("webhooks.loader", serve(system, queue));
        Self { requests }
    }

    pub(super) async fn load(&self, key: OutgoingKey) -> Result<Outgoing> {
        let (reply, answer) = oneshot::channel();
        let gone = || anyhow::anyhow!("the loader of deliveries has stopped");
        self.requests.send(Request { key, reply }).await.map_err(|_| gone())?;
        answer.await.map_err(|_| gone())?
    }
}

async fn serve(system: SystemDb, mut queue: mpsc::Receiver<Request>) {
    let mut batch = Vec::with_capacity(BATCH);
    while queue.recv_many(&mut batch, BATCH).await > 0 {
        batch.retain(|request: &Request| !request.reply.is_closed()); // dropped handlers
        let keys: Vec<_> = batch.iter().map(|request| request.key).collect();
        match system.within(PATIENCE, read(&system, &keys)).await {
            Ok(found) => {
                for (request, outgoing) in batch.drain(..).zip(found) {
                    let _ = request.reply.send(Ok(outgoing));
                }
            }
            Err(error) => {
                for request in batch.drain(..) {
                    let _ = request.reply.send(Err(same(&error)));
                }
            }
        }
    }
}

async fn read(system: &SystemDb, keys: &[OutgoingKey]) -> Result<Vec<Outgoing>> {
    let mut tx = system.system_relaxed().await?;
    let found = queries::list_outgoing(&mut tx, keys).await?;
    tx.commit().await?;
    Ok(found)
}

/// The same failure for one more request of the batch.
fn same(error: &Error) -> Error {
    match error {
        Error::Unavailable { dependency, cause } => Error::Unavailable { dependency, cause: cause.clone() },
        other => Error::Internal(anyhow::anyhow!("{other}")),
    }
}
