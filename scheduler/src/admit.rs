//! From the ledger to Redis.
//!
//! Nothing is written to the ledger for it: a lane's window is filled by reading on from where the last fill ended.
//! Offering a ticket twice is harmless, so the whole can be repeated at any time, and that is the repair.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use chrono::TimeDelta;
use futures::future::join_all;
use millwork_shared::infra::db::{PATIENCE, SystemDb, ledger_now};
use millwork_shared::infra::ids::JobId;
use millwork_shared::infra::redis::Redis;
use millwork_shared::jobs::Queue;
use millwork_shared::jobs::dispatch::{Dispatcher, Lane, Ticket};
use millwork_shared::jobs::queries::{self, DueJob};
use millwork_shared::{Error, Result};
use tokio::sync::Notify;
use uuid::Uuid;

use crate::metrics::METRICS;
use crate::pace;

pub const LONGEST_WAIT: Duration = Duration::from_secs(5);
/// How often jobs whose time has come are looked for.
const DUE_POLL: Duration = Duration::from_millis(500);
/// How often everything is compared with the ledger: the longest time for which a lost ticket stays lost, unless the
/// comparison itself takes long.
const RESCAN: Duration = Duration::from_secs(10);
/// And after Redis failed: what others offered meanwhile, and until their own connections were back, is lost.
const AFTERMATH: Duration = Duration::from_secs(2);
const PAUSE: Duration = Duration::from_secs(1);
const LANES_PER_PAGE: i64 = 1_000;
/// How far before a lane's end the next demand begins to read: jobs are not committed quite in the order of their times.
const OVERLAP: TimeDelta = TimeDelta::seconds(2);
const FORGOTTEN_AFTER: Duration = Duration::from_secs(60);

/// Why a lane is filled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reason {
    /// It runs low.
    Demand,
    /// Everything is compared with the ledger.
    Rescan,
}

/// How far a lane that had more than a window has been read.
#[derive(Debug)]
struct Cursor {
    after: DueJob,
    moved: Instant,
}

/// Fills the windows of all lanes.
pub struct Admission {
    system: SystemDb,
    dispatcher: Dispatcher,
    /// From where the next demand reads. What lies before is live and running, or dead and not cleared away yet, of which
    /// an old transaction of somebody's may keep millions.
    cursors: Mutex<HashMap<Lane, Cursor>>,
    rescan_now: Notify,
    /// Redis failed since the last comparison.
    troubled: AtomicBool,
}

impl Admission {
    pub fn new(system: SystemDb, dispatcher: Dispatcher) -> Self {
        Self {
            system,
            dispatcher,
            cursors: Mutex::default(),
            rescan_now: Notify::new(),
            troubled: AtomicBool::new(false),
        }
    }

    /// Asks for a comparison with the ledger now.
    pub fn rescan_soon(&self) {
        self.rescan_now.notify_one();
    }

    /// The same after a failure of Redis.
    fn rescan_after_failure(&self) {
        self.troubled.store(true, Ordering::Relaxed);
        self.rescan_soon();
    }

    /// Tops up the lanes of `queue` that run low, for ever.
    pub async fn answer_demands(self: Arc<Self>, queue: Queue, connection: Redis) {
        loop {
            let answered = async {
                self.dispatcher.wait_for_demand(&connection, queue, LONGEST_WAIT).await?;
                for lane in self.dispatcher.demands(queue).await? {
                    self.fill(lane).await?;
                }
                Ok::<_, millwork_shared::Error>(())
            };
            if let Err(error) = answered.await {
                tracing::warn!(
                    queue = %queue, %error, error.category = %error.category(),
                    "cannot admit waiting jobs; trying again"
                );
                self.rescan_after_failure();
                tokio::time::sleep(PAUSE).await;
            }
        }
    }

    /// Reads on in one lane until its window is full or the lane ends.
    async fn fill(&self, lane: Lane) -> Result<()> {
        let room = self.dispatcher.room(lane.queue, &[lane]).await?.first().copied().unwrap_or(0);
        self.admit(lane, Reason::Demand, room).await
    }

    /// Offers what the ledger has of `lane`: on demand from where the last fill ended, at a rescan and after a pause, which
    /// drops tickets, from its head.
    async fn admit(&self, lane: Lane, reason: Reason, room: usize) -> Result<()> {
        if room == 0 {
            return Ok(());
        }
        let reads_on = reason == Reason::Demand && !self.dispatcher.begins_afresh(lane).await?;
        let cursor = self.lock().get(&lane).filter(|_| reads_on).map(|cursor| cursor.after.clone());
        // Taken away before the look into the ledger: a job that is stored after it goes to Redis by itself.
        self.dispatcher.unmark_full(lane).await?;
        let look = async {
            let mut tx = self.system.system_in_order().await?;
            let now = ledger_now(&mut tx).await?;
            let limit = i64::try_from(room).unwrap_or(i64::MAX);
            let due = queries::list_lane(&mut tx, lane, cursor.as_ref(), limit).await?;
            tx.commit().await.map(|()| (now, due))
        };
        let (now, due) = self.system.within(PATIENCE, look).await?;
        let tickets: Vec<Ticket> = due
            .iter()
            .map(|job| Ticket { tenant: lane.tenant, id: job.id, queue: lane.queue, priority: lane.priority })
            .collect();
        let added = self.dispatcher.admit(&tickets).await?;
        let (whole, end) = match due.into_iter().next_back() {
            Some(last) if tickets.len() >= room => (false, last),
            _ => (true, DueJob { id: JobId(Uuid::nil()), run_at: now - OVERLAP }),
        };
        match reason {
            Reason::Demand => METRICS.demand.count(tickets.len(), added),
            Reason::Rescan => METRICS.rescan.count(tickets.len(), added),
        }
        if reason == Reason::Rescan && whole {
            METRICS.repaired.inc_by(added as u64);
        }
        if !whole {
            self.dispatcher.mark_full(lane).await?;
        }
        let mut cursors = self.lock();
        let before = cursors.get(&lane).map(|cursor| (cursor.after.run_at, cursor.after.id));
        let moves = match (reason, before) {
            (Reason::Demand, _) => true,
            (Reason::Rescan, None) => !whole,
            // What was read on demand is read again only where something of it is missing.
            (Reason::Rescan, Some(before)) => whole || added > 0 || before < (end.run_at, end.id),
        };
        if moves {
            cursors.insert(lane, Cursor { after: end, moved: Instant::now() });
        }
        Ok(())
    }

    /// Offers jobs as their time comes, for ever.
    pub async fn admit_due(self: Arc<Self>) {
        let mut after = None;
        loop {
            match self.admit_due_after(after.as_ref()).await {
                Ok(Some(last)) => after = Some(last),
                Ok(None) => tokio::time::sleep(DUE_POLL).await,
                Err(error) => {
                    tracing::warn!(
                        %error, error.category = %error.category(),
                        "cannot offer jobs that became due; trying again"
                    );
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }

    async fn admit_due_after(&self, after: Option<&DueJob>) -> Result<Option<DueJob>> {
        let look = async {
            let mut tx = self.system.system_in_order().await?;
            let due = queries::list_due(&mut tx, after, 5_000).await?;
            tx.commit().await.map(|()| due)
        };
        let (tickets, last) = self.system.within(PATIENCE, look).await?;
        // As intake does: behind a backlog they wait their turn in the ledger.
        match self.dispatcher.offer_now(&tickets).await {
            Ok(added) => METRICS.due.count(tickets.len(), added),
            // Those of other queues were taken, and the next must not wait: what is missing, a comparison puts back.
            Err(error) => {
                tracing::warn!(%error, jobs = tickets.len(), "cannot offer all jobs that became due; comparing until Redis has them");
                self.rescan_after_failure();
                tokio::time::sleep(DUE_POLL).await;
            }
        }
        Ok(last)
    }

    /// Puts back whatever Redis has forgotten, for ever. A queue for which it fails is compared again soon, alone: on a
    /// cluster it may be the only one.
    pub async fn rescan(self: Arc<Self>) {
        let (mut queues, mut next) = (Queue::ALL.to_vec(), Instant::now());
        let mut aftermath = None;
        loop {
            let now = Instant::now();
            if next <= now || aftermath.is_some_and(|at| at <= now) {
                (queues, next) = (Queue::ALL.to_vec(), now + RESCAN);
                aftermath = aftermath.filter(|at| *at > now);
            }
            match self.compare(&queues).await {
                Ok(failed) if failed.is_empty() => {
                    if queues.len() == Queue::ALL.len() {
                        next = Instant::now() + pace::rest(RESCAN, now.elapsed());
                    }
                    if self.troubled.swap(false, Ordering::Relaxed) {
                        aftermath = Some(Instant::now() + AFTERMATH);
                    }
                    tokio::select! {
                        () = tokio::time::sleep_until(aftermath.unwrap_or(next).min(next).into()) => {}
                        () = self.rescan_now.notified() => next = Instant::now(),
                    }
                    continue;
                }
                Ok(failed) => {
                    self.troubled.store(true, Ordering::Relaxed);
                    queues = failed.iter().map(|(queue, _)| *queue).collect();
                    if let Some((_, error)) = failed.first() {
                        note_failed_comparison(&queues, error);
                    }
                }
                Err(error) => note_failed_comparison(&queues, &error),
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Compares every lane with the ledger, from its head.
    ///
    /// # Errors
    /// Fails when the ledger does not answer, or Redis for some queue; what was put back stays, that of other queues too.
    pub async fn rescan_once(&self) -> Result<()> {
        self.compare(&Queue::ALL).await?.into_iter().next().map_or(Ok(()), |(_, error)| Err(error))
    }

    /// Compares the lanes of `queues` with the ledger. Answers the queues for which Redis failed.
    async fn compare(&self, queues: &[Queue]) -> Result<Vec<(Queue, Error)>> {
        let began = Instant::now();
        let look = async {
            let mut tx = self.system.system().await?;
            let pauses = queries::list_pauses(&mut tx).await?;
            tx.commit().await.map(|()| pauses)
        };
        let pauses = self.system.within(PATIENCE, look).await?;
        let syncs = queues.iter().map(|&queue| {
            let paused: Vec<_> = pauses.iter().filter(|(_, q)| *q == queue).map(|(tenant, _)| *tenant).collect();
            async move { self.dispatcher.sync_pauses(queue, &paused).await.err().map(|error| (queue, error)) }
        });
        let mut failed: Vec<(Queue, Error)> = join_all(syncs).await.into_iter().flatten().collect();
        let mut after = None;
        loop {
            let look = async {
                let mut tx = self.system.system_in_order().await?;
                let lanes = queries::list_lanes(&mut tx, after, LANES_PER_PAGE).await?;
                tx.commit().await.map(|()| lanes)
            };
            let lanes = self.system.within(PATIENCE, look).await?;
            for same_queue in lanes.chunk_by(|a, b| a.queue == b.queue) {
                let Some(queue) = same_queue.first().map(|lane| lane.queue) else { continue };
                if queues.contains(&queue)
                    && failed.iter().all(|(other, _)| *other != queue)
                    && let Err(error) = self.compare_lanes(queue, same_queue).await
                {
                    failed.push((queue, error));
                }
            }
            after = lanes.last().copied();
            if i64::try_from(lanes.len()).is_ok_and(|n| n < LANES_PER_PAGE) {
                self.lock().retain(|_, cursor| cursor.moved.elapsed() < FORGOTTEN_AFTER);
                if failed.is_empty() {
                    METRICS.rescanned(began.elapsed());
                }
                return Ok(failed);
            }
        }
    }

    async fn compare_lanes(&self, queue: Queue, lanes: &[Lane]) -> Result<()> {
        let room = self.dispatcher.room(queue, lanes).await?;
        for (&lane, room) in lanes.iter().zip(room) {
            self.admit(lane, Reason::Rescan, room).await?;
        }
        Ok(())
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<Lane, Cursor>> {
        self.cursors.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

fn note_failed_comparison(queues: &[Queue], error: &Error) {
    tracing::warn!(
        ?queues, %error, error.category = %error.category(),
        "cannot compare Redis with the ledger; trying again"
    );
}
