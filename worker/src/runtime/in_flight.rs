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
    owner: WorkerId,
    cancelled: CancellationToken,
    started: bool,
}

/// A job as the ledger names it, with the worker that holds it.
pub type Held = (WorkerId, (TenantId, JobId));

impl InFlight {
    pub fn add(&self, claimed: &Claimed) {
        let entry =
            Entry { tenant: claimed.tenant, owner: claimed.owner, cancelled: CancellationToken::new(), started: false };
        self.lock().insert(claimed.id, entry);
    }

    /// Marks a job as started. None when it was given back meanwhile, or the process stops: it is not to be run.
    pub fn start(&self, job: JobId, owner: WorkerId) -> Option<CancellationToken> {
        let mut jobs = self.lock();
        let entry = jobs.get_mut(&job).filter(|entry| entry.owner == owner)?;
        if self.stopping.load(Ordering::Relaxed) {
            return None;
        }
        entry.started = true;
        Some(entry.cancelled.clone())
    }

    pub fn remove(&self, job: JobId) {
        let mut jobs = self.lock();
        jobs.remove(&job);
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

    /// Gives up everything held as `owner`: its lease is gone and its results would be refused.
    pub fn abandon(&self, owner: WorkerId) -> usize {
        let mut jobs = self.lock();
        let before = jobs.len();
        jobs.retain(|_, entry| {
            if entry.owner == owner {
                entry.cancelled.cancel();
            }
            entry.owner != owner
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
        self.take(|entry| !entry.started)
    }

    /// Removes, stops and returns everything.
    pub fn take_all(&self) -> Vec<Held> {
        self.take(|_| true)
    }

    fn take(&self, wanted: impl Fn(&Entry) -> bool) -> Vec<Held> {
        let mut taken = Vec::new();
        self.lock().retain(|&id, entry| {
            let take = wanted(entry);
            if take {
                entry.cancelled.cancel();
                taken.push((entry.owner, (entry.tenant, id)));
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
