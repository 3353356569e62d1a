//! From tickets in Redis to claimed jobs, one loop a queue.

use std::sync::Arc;
use std::time::{Duration, Instant};

use millwork_shared::infra::db::{Dedicated, PATIENCE, SystemDb};
use millwork_shared::infra::ids::WorkerId;
use millwork_shared::infra::redis::Redis;
use millwork_shared::jobs::Queue;
use millwork_shared::jobs::dispatch::{Dispatcher, Ticket};
use millwork_shared::jobs::queries::{self, Claimed};
use millwork_shared::{Error, Result};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::RETRY_PAUSE;
use super::in_flight::InFlight;
use super::lease::{self, Lease};
use super::slots::Slots;
use crate::metrics::METRICS;

/// Longest blocking wait in Redis.
pub const LONGEST_WAIT: Duration = Duration::from_secs(5);
/// Jobs claimed by one statement at most.
const BATCH: usize = 512;

/// The loop that keeps one queue's slots filled.
pub struct Fetch {
    pub queue: Queue,
    pub slots: Arc<Slots>,
    pub in_flight: Arc<InFlight>,
    pub lease: Arc<Lease>,
    pub system: SystemDb,
    /// Where this loop claims.
    pub ledger: Dedicated,
    pub dispatcher: Dispatcher,
    pub claims: mpsc::Sender<Claimed>,
}

impl Fetch {
    /// Runs until `stop`. `blocking` is this loop's own connection.
    pub async fn run(mut self, blocking: Redis, stop: CancellationToken) {
        // A blocking pop is never dropped half-way: the wake-up it would take with it is somebody's latency.
        let (wake, mut woken) = mpsc::channel::<()>(1);
        let (ask, mut asked) = mpsc::channel::<()>(1);
        let waiter = {
            let (dispatcher, queue) = (self.dispatcher.clone(), self.queue);
            millwork_shared::infra::tasks::spawn("wait", async move {
                while asked.recv().await.is_some() {
                    if let Err(error) = dispatcher.wait(&blocking, queue, LONGEST_WAIT).await {
                        tracing::warn!(
                            queue = %queue, %error, error.category = %error.category(),
                            "cannot wait for jobs; trying again"
                        );
                        tokio::time::sleep(RETRY_PAUSE).await;
                    }
                    if wake.send(()).await.is_err() {
                        break;
                    }
                }
            })
        };
        let mut waiting = false;
        while !stop.is_cancelled() {
            let (room, share) = self.slots.room();
            let taken = match room {
                0 => Ok(Vec::new()),
                room => self.dispatcher.take(self.queue, room.min(BATCH), &share).await,
            };
            match taken {
                Ok(tickets) if !tickets.is_empty() => self.claim(tickets, &stop).await,
                Ok(_) => {
                    if room > 0 && !waiting {
                        waiting = ask.try_send(()).is_ok();
                    }
                    // What Redis lacks, an offer will announce; what slots lack, a finished job will.
                    let held_up = room == 0 || share.of.iter().any(|(_, left)| *left == 0);
                    tokio::select! {
                        _ = woken.recv(), if waiting => waiting = false,
                        () = self.slots.freed(), if held_up => {}
                        () = stop.cancelled() => {}
                    }
                }
                Err(error) => {
                    tracing::warn!(
                        queue = %self.queue, %error, error.category = %error.category(),
                        "cannot take jobs; trying again"
                    );
                    pause(&stop).await;
                }
            }
        }
        waiter.abort();
    }

    async fn claim(&mut self, tickets: Vec<Ticket>, stop: &CancellationToken) {
        let owner = self.lease.owner();
        let figures = METRICS.queue(self.queue);
        figures.taken.inc_by(tickets.len() as u64);
        let began = Instant::now();
        match self.try_claim(owner, &tickets).await {
            Ok(claimed) => {
                METRICS.claim_s.observe(began.elapsed().as_secs_f64());
                figures.claimed.inc_by(claimed.len() as u64);
                for job in claimed {
                    self.in_flight.add(&job);
                    self.slots.hold(job.tenant);
                    let _ = self.claims.send(job).await;
                }
            }
            Err(error) => {
                tracing::warn!(
                    queue = %self.queue, %error, error.category = %error.category(), jobs = tickets.len(),
                    "cannot claim jobs; giving them back"
                );
                if matches!(error, Error::Conflict { code: queries::LEASE_GONE, .. }) {
                    self.lease.doubt();
                }
                self.undo(owner, &tickets, stop).await;
            }
        }
    }

    async fn try_claim(&mut self, owner: WorkerId, tickets: &[Ticket]) -> Result<Vec<Claimed>> {
        let claim = async {
            let mut connection = self.ledger.take().await?;
            let claimed = queries::claim(&mut connection, owner, tickets).await?;
            self.ledger.keep(connection);
            Ok(claimed)
        };
        self.system.within(PATIENCE, claim).await
    }

    /// A failed claim may have been committed all the same, and would then run for ever under this worker's lease. What
    /// came as a second ticket of a job that runs here is left alone.
    async fn undo(&self, owner: WorkerId, tickets: &[Ticket], stop: &CancellationToken) {
        let lost = tickets.iter().filter(|t| !self.in_flight.holds(owner, t.id));
        let held = lost.map(|t| (owner, (t.tenant, t.id))).collect::<Vec<_>>();
        loop {
            pause(stop).await;
            match lease::release(&self.system, &held).await {
                Ok(_) => break,
                Err(_) if stop.is_cancelled() => return, // the lease runs out by itself
                Err(error) => tracing::debug!(%error, "cannot give back yet"),
            }
        }
        self.dispatcher.offer_soon(tickets.to_vec());
    }
}

async fn pause(stop: &CancellationToken) {
    tokio::select! {
        () = tokio::time::sleep(RETRY_PAUSE) => {}
        () = stop.cancelled() => {}
    }
}
