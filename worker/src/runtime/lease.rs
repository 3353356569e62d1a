//! This process's lease: one row, renewed by heartbeat, that covers everything it runs.

use std::collections::HashMap;
use std::sync::{Arc, RwLock};
use std::time::Duration;

use millwork_shared::Result;
use millwork_shared::infra::db::{PATIENCE, SystemDb};
use millwork_shared::infra::ids::{JobId, TenantId, WorkerId};
use millwork_shared::jobs::dispatch::{Dispatcher, Ticket};
use millwork_shared::jobs::queries::{self, Heartbeat, NewWorker};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::RETRY_PAUSE;
use super::in_flight::{Held, InFlight};
use crate::metrics::METRICS;

/// Longest wait for an answer about the lease: a heartbeat that got none can be repeated before the lease is over.
const ANSWER: Duration = Duration::from_secs(5);
/// Longest time for handing back, when the process is to end.
const HAND_BACK: Duration = Duration::from_secs(5);
/// Longest time for telling the others of it.
const OFFER: Duration = Duration::from_secs(3);
/// How often running jobs are checked for wishes to cancel them.
const CANCEL_POLL: Duration = Duration::from_millis(500);

pub struct Lease {
    system: SystemDb,
    in_flight: Arc<InFlight>,
    identity: NewWorker,
    length: Duration,
    owner: RwLock<WorkerId>,
    doubted: Notify,
}

impl Lease {
    pub fn new(system: SystemDb, in_flight: Arc<InFlight>, identity: NewWorker, length: Duration) -> Self {
        let owner = RwLock::new(WorkerId::generate());
        Self { system, in_flight, identity, length, owner, doubted: Notify::new() }
    }

    /// Asks for a heartbeat now, because the lease seems to be gone.
    pub fn doubt(&self) {
        self.doubted.notify_one();
    }

    /// The id under which this process claims now.
    pub fn owner(&self) -> WorkerId {
        *self.owner.read().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Registers under a fresh id, waiting for PostgreSQL if need be.
    pub async fn take(&self, stop: &CancellationToken) {
        while !stop.is_cancelled() {
            let id = WorkerId::generate();
            match self.system.within(ANSWER, self.register(id)).await {
                Ok(()) => {
                    *self.owner.write().unwrap_or_else(std::sync::PoisonError::into_inner) = id;
                    return;
                }
                Err(error) => {
                    tracing::warn!(
                        %error, error.category = %error.category(),
                        "cannot register this worker; trying again"
                    )
                }
            }
            tokio::time::sleep(RETRY_PAUSE).await;
        }
    }

    async fn register(&self, id: WorkerId) -> Result<()> {
        let mut tx = self.system.system().await?;
        queries::register(&mut tx, id, &self.identity, self.length).await?;
        tx.commit().await
    }

    /// Renews the lease for ever. A lease that was taken away is replaced by a new one, under a new id.
    pub async fn keep(self: Arc<Self>, every: Duration) {
        let mut ticks = tokio::time::interval(every);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = ticks.tick() => {}
                () = self.doubted.notified() => {}
            }
            match self.system.within(ANSWER, self.renew()).await {
                Ok(Heartbeat::Renewed) => {}
                Ok(Heartbeat::Lost) => {
                    let jobs = self.in_flight.abandon(self.owner());
                    METRICS.leases_lost.inc();
                    METRICS.jobs_abandoned.inc_by(jobs as u64);
                    tracing::error!(
                        jobs,
                        "this worker's lease had run out and its jobs were taken back; starting afresh"
                    );
                    self.take(&CancellationToken::new()).await;
                }
                Err(error) => {
                    tracing::warn!(%error, error.category = %error.category(), "cannot renew the lease; trying again");
                    ticks.reset_after(RETRY_PAUSE);
                }
            }
        }
    }

    async fn renew(&self) -> Result<Heartbeat> {
        let running = i32::try_from(self.in_flight.len()).unwrap_or(i32::MAX);
        let mut tx = self.system.system_relaxed().await?;
        let heartbeat = queries::heartbeat(&mut tx, self.owner(), running, self.length).await?;
        tx.commit().await?;
        Ok(heartbeat)
    }

    /// Says goodbye; if that fails, the lease runs out.
    pub async fn give_up(&self) {
        let goodbye = async {
            let mut tx = self.system.system().await?;
            queries::say_goodbye(&mut tx, self.owner()).await?;
            tx.commit().await
        };
        match tokio::time::timeout(Duration::from_secs(3), goodbye).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                tracing::warn!(%error, error.category = %error.category(), "cannot say goodbye; the lease will run out")
            }
            Err(_) => tracing::warn!("cannot say goodbye within 3 s; the lease will run out"),
        }
    }
}

/// Brings wishes to cancel to the handlers that run here.
pub async fn watch_cancels(system: SystemDb, in_flight: Arc<InFlight>) {
    let mut ticks = tokio::time::interval(CANCEL_POLL);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let held = in_flight.held();
        if held.is_empty() {
            continue;
        }
        match system.within(ANSWER, list_cancels(&system, &held)).await {
            Ok(jobs) => jobs.into_iter().for_each(|job| in_flight.cancel(job)),
            Err(error) => tracing::debug!(%error, "cannot look for cancellations; trying again"),
        }
    }
}

async fn list_cancels(system: &SystemDb, held: &[(TenantId, JobId)]) -> Result<Vec<JobId>> {
    let mut tx = system.system_relaxed().await?;
    let jobs = queries::list_cancels(&mut tx, held).await?;
    tx.commit().await?;
    Ok(jobs)
}

/// Gives jobs back at no cost of an attempt.
pub async fn release(system: &SystemDb, held: &[Held]) -> Result<Vec<Ticket>> {
    let mut by_owner: HashMap<WorkerId, Vec<(TenantId, JobId)>> = HashMap::new();
    for (owner, job) in held {
        by_owner.entry(*owner).or_default().push(*job);
    }
    let release = async {
        let mut tickets = Vec::new();
        let mut tx = system.system_by_index().await?;
        for (owner, jobs) in by_owner {
            tickets.extend(queries::release(&mut tx, owner, &jobs).await?);
        }
        tx.commit().await?;
        Ok(tickets)
    };
    system.within(PATIENCE, release).await
}

/// Gives jobs back within a few seconds or not at all, and offers them to the other workers. False when they are left to
/// the end of the lease, which must then not be given up: what a worker leaves behind that said goodbye is found later.
pub async fn hand_back(system: &SystemDb, dispatcher: &Dispatcher, held: Vec<Held>) -> bool {
    if held.is_empty() {
        return true;
    }
    match system.within(HAND_BACK, release(system, &held)).await {
        Ok(tickets) => {
            tracing::info!(jobs = tickets.len(), "handed back");
            match tokio::time::timeout(OFFER, dispatcher.offer_now(&tickets)).await {
                Ok(Ok(_)) => {}
                _ => tracing::warn!("could not offer them to other workers; the scheduler will"),
            }
            true
        }
        Err(error) => {
            tracing::warn!(
                %error, error.category = %error.category(), jobs = held.len(),
                "could not hand back; the lease will run out"
            );
            false
        }
    }
}
