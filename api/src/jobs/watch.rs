//! Watching jobs for whoever streams their changes: one look at the ledger for all of a tenant's watchers at once.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use chrono::{DateTime, Utc};
use millwork_shared::infra::db::{Db, PATIENCE};
use millwork_shared::infra::ids::{JobId, TenantId};
use millwork_shared::infra::tasks;
use millwork_shared::jobs::State;
use millwork_shared::jobs::queries::{self, StateRow};
use tokio::sync::{Notify, watch};

/// Between looks, while anyone watches.
const EVERY: Duration = Duration::from_millis(250);
/// Streams of one process at most.
const MOST: usize = 10_000;

/// A job's state, its attempt and when its progress changed, as last seen.
pub type Seen = Option<(State, i16, Option<DateTime<Utc>>)>;

type Watched = HashMap<(TenantId, JobId), watch::Sender<Seen>>;

/// Follows the jobs that are being watched.
#[derive(Clone)]
pub struct JobWatch(Arc<Shared>);

struct Shared {
    watched: Mutex<Watched>,
    begun: Notify,
}

impl JobWatch {
    pub fn start(db: Db) -> Self {
        let shared = Arc::new(Shared { watched: Mutex::default(), begun: Notify::new() });
        tasks::detach(follow(shared.clone(), db));
        Self(shared)
    }

    /// Follows `job` until the receiver is dropped. None when this process follows too many already.
    pub fn follow(&self, tenant: TenantId, job: JobId) -> Option<watch::Receiver<Seen>> {
        let mut watched = self.0.lock();
        if watched.len() >= MOST {
            return None;
        }
        let mut receiver = watched.entry((tenant, job)).or_insert_with(|| watch::channel(None).0).subscribe();
        if receiver.borrow().is_some() {
            receiver.mark_changed(); // others follow it already, and what they saw is news to this one
        }
        self.0.begun.notify_one();
        Some(receiver)
    }
}

impl Shared {
    fn lock(&self) -> std::sync::MutexGuard<'_, Watched> {
        self.watched.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Who is watched still, by tenant.
    fn open(&self) -> HashMap<TenantId, Vec<JobId>> {
        let mut by_tenant: HashMap<TenantId, Vec<JobId>> = HashMap::new();
        let mut watched = self.lock();
        watched.retain(|_, sender| sender.receiver_count() > 0);
        watched.keys().for_each(|(tenant, job)| by_tenant.entry(*tenant).or_default().push(*job));
        by_tenant
    }

    fn tell(&self, tenant: TenantId, row: &StateRow) {
        if let Some(sender) = self.lock().get(&(tenant, row.id)) {
            let seen = Some((row.state(), row.attempt, row.progressed_at));
            sender.send_if_modified(|known| std::mem::replace(known, seen) != seen);
        }
    }
}

async fn follow(shared: Arc<Shared>, db: Db) {
    loop {
        let open = shared.open();
        if open.is_empty() {
            shared.begun.notified().await;
            continue;
        }
        for (tenant, jobs) in open {
            match db.within(PATIENCE, look(&db, tenant, &jobs)).await {
                Ok(rows) => rows.iter().for_each(|row| shared.tell(tenant, row)),
                Err(error) => tracing::debug!(%error, "cannot look at watched jobs; trying again"),
            }
        }
        tokio::time::sleep(EVERY).await;
    }
}

async fn look(db: &Db, tenant: TenantId, jobs: &[JobId]) -> millwork_shared::Result<Vec<StateRow>> {
    let mut tx = db.tenant(tenant).await?;
    let rows = queries::list_states(&mut tx, jobs).await?;
    tx.commit().await?;
    Ok(rows)
}
