//! What this process has claimed and not yet completed.

use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use millwork_shared::infra::ids::{JobId, TenantId, WorkerId};
use millwork_shared::jobs::queries::Claimed;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

/// The jobs this process holds a lease of, from the claim until the ledger has their outcome.
#[derive(Default)]
pub struct InFlight {
    jobs: Mutex<HashMap<JobId, Entry>>,
    emptied: Notify,
    stopping: AtomicBool,
}

struct Entry {
    tenant: TenantId,
    lease: Lease,
    cancelled: CancellationToken,
    progress: Progress,
}

/// Who may complete a job: the same pair that the ledger's fence compares.
type Lease = (WorkerId, i16);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Progress {
    /// Waits for its turn.
    Claimed,
    Started,
    /// Its handler has left; the outcome is on its way to the ledger.
    Left,
}

/// A job as the ledger names it, with the worker that holds it.
pub type Held = (WorkerId, (TenantId, JobId));

impl InFlight {
    pub fn add(&self, claimed: &Claimed) {
        let entry = Entry {
            tenant: claimed.tenant,
            lease: (claimed.owner, claimed.attempt),
            cancelled: CancellationToken::new(),
            progress: Progress::Claimed,
        };
        self.lock().insert(claimed.id, entry);
    }

    /// Marks a job as started. None when it was given back meanwhile, or the process stops: it is not to be run.
    pub fn start(&self, claimed: &Claimed) -> Option<CancellationToken> {
        let mut jobs = self.lock();
        let entry = jobs.get_mut(&claimed.id).filter(|entry| entry.lease == (claimed.owner, claimed.attempt))?;
        if self.stopping.load(Ordering::Relaxed) {
            return None;
        }
        entry.progress = Progress::Started;
        Some(entry.cancelled.clone())
    }

    /// Notes that the handler has left. False when the job was given back meanwhile: nobody wants its outcome, which
    /// may be no more than the handler's answer to that.
    pub fn leave(&self, claimed: &Claimed) -> bool {
        let mut jobs = self.lock();
        let entry = jobs.get_mut(&claimed.id).filter(|entry| entry.lease == (claimed.owner, claimed.attempt));
        entry.map(|entry| entry.progress = Progress::Left).is_some()
    }

    /// Forgets an attempt, whose outcome is stored. A later attempt at the same job stays.
    pub fn remove(&self, job: JobId, owner: WorkerId, attempt: i16) {
        let mut jobs = self.lock();
        if jobs.get(&job).is_some_and(|entry| entry.lease == (owner, attempt)) {
            jobs.remove(&job);
        }
        if jobs.is_empty() {
            self.emptied.notify_waiters();
        }
    }

    /// Asks the handler of `job` to stop, if it runs here.
    pub fn cancel(&self, job: JobId) {
        if let Some(entry) = self.lock().get(&job) {
            entry.cancelled.cancel();
        }
    }

    /// Whether `job` is held as `owner`.
    pub fn holds(&self, owner: WorkerId, job: JobId) -> bool {
        self.lock().get(&job).is_some_and(|entry| entry.lease.0 == owner)
    }

    /// Gives up everything held as `owner`: its lease is gone and its results would be refused.
    pub fn abandon(&self, owner: WorkerId) -> usize {
        let mut jobs = self.lock();
        let before = jobs.len();
        jobs.retain(|_, entry| {
            if entry.lease.0 == owner {
                entry.cancelled.cancel();
            }
            entry.lease.0 != owner
        });
        before - jobs.len()
    }

    /// Nothing is started from now on.
    pub fn stop(&self) {
        self.stopping.store(true, Ordering::Relaxed);
        if self.lock().is_empty() {
            self.emptied.notify_waiters();
        }
    }

    /// Removes and returns what has not been started.
    pub fn take_unstarted(&self) -> Vec<Held> {
        self.take(|entry| entry.progress == Progress::Claimed)
    }

    /// Removes, stops and returns everything whose handler has not left.
    pub fn take_all(&self) -> Vec<Held> {
        self.take(|entry| entry.progress != Progress::Left)
    }

    fn take(&self, wanted: impl Fn(&Entry) -> bool) -> Vec<Held> {
        let mut taken = Vec::new();
        self.lock().retain(|&id, entry| {
            let take = wanted(entry);
            if take {
                entry.cancelled.cancel();
                taken.push((entry.lease.0, (entry.tenant, id)));
            }
            !take
        });
        taken
    }

    /// Resolves when nothing is held.
    pub async fn emptied(&self) {
        loop {
            let emptied = self.emptied.notified();
            if self.lock().is_empty() {
                return;
            }
            emptied.await;
        }
    }

    pub fn held(&self) -> Vec<(TenantId, JobId)> {
        self.lock().iter().map(|(&id, entry)| (entry.tenant, id)).collect()
    }

    pub fn len(&self) -> usize {
        self.lock().len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<JobId, Entry>> {
        self.jobs.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}
