//! One attempt at a job.

use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use chrono::{DateTime, Utc};
use millwork_shared::infra::ids::{JobId, TenantId, WorkerId};
use millwork_shared::jobs::Cause;
use millwork_shared::jobs::queries::{Claimed, Report};
use serde::Serialize;
use serde_json::value::RawValue;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::report::{Journal, Reports};

/// What a handler keeps of its time to say what happened.
const MARGIN: Duration = Duration::from_millis(250);

/// One attempt at a job, as its handler sees it.
#[derive(Debug)]
pub struct Run {
    pub job: JobId,
    pub tenant: TenantId,
    /// 1 for the first.
    pub attempt: i16,
    pub max_attempts: i16,
    /// How long the job had been due when this run began.
    pub waited: Duration,
    /// When the runtime drops the handler and stores a `timeout`.
    pub deadline: Instant,
    /// Cancelled when someone asked for the job's cancellation. A handler that ignores it is dropped a moment later.
    pub cancelled: CancellationToken,
    pub cause: Cause,
    pub(super) detail: Mutex<Option<Box<RawValue>>>,
    /// The fence: attempt as the ledger counts, and the worker.
    pub(super) lease: (i16, WorkerId),
    pub(super) reports: Reports,
    /// Made when the handler first says something.
    pub(super) journal: OnceLock<Arc<Journal>>,
}

impl Run {
    /// When a call of somebody else must have ended, so that the handler can still say how.
    pub fn network_deadline(&self) -> Instant {
        self.deadline.checked_sub(MARGIN).unwrap_or(self.deadline)
    }

    /// How long after its creation the job became due. Clocks of several machines meet here: read it in seconds.
    pub fn put_off_for(&self, now: DateTime<Utc>) -> Duration {
        (now - self.job.created_at()).to_std().unwrap_or_default().saturating_sub(self.waited)
    }

    /// Notes what this attempt met (an answer's status and latency, say), kept with the attempt whatever its outcome.
    pub fn attempt_detail(&self, detail: &impl Serialize) {
        if let (Ok(json), Ok(mut slot)) = (serde_json::value::to_raw_value(detail), self.detail.lock()) {
            *slot = Some(json);
        }
    }

    /// Says how far the handler is: a number from 0 to 100, or any JSON of up to 1 KiB. Only the last one is kept; the
    /// job shows it within a second. Call it as often as you like.
    pub fn progress(&self, progress: &impl Serialize) {
        self.journal().progress(progress, &self.reports);
    }

    /// Adds a line to the job's log, which keeps the newest hundred of all attempts, 500 bytes of each. Never secrets:
    /// everyone who may read the job may read it.
    pub fn log(&self, message: impl AsRef<str>) {
        self.journal().log(self.attempt, message.as_ref(), &self.reports);
    }

    fn journal(&self) -> &Arc<Journal> {
        let (attempt, owner) = self.lease;
        self.journal.get_or_init(|| Arc::new(Journal::new((self.tenant, self.job), attempt, owner)))
    }

    /// What the handler said and nobody has written yet.
    pub(super) async fn close_journal(&self) -> Option<Box<Report>> {
        match self.journal.get() {
            Some(journal) => journal.close().await.map(Box::new),
            None => None,
        }
    }

    /// The attempt that `claimed` begins, with its time running from now.
    pub(super) fn begin(claimed: &Claimed, cancelled: CancellationToken, reports: Reports) -> Self {
        Self {
            job: claimed.id,
            tenant: claimed.tenant,
            attempt: claimed.attempt - claimed.lost,
            max_attempts: claimed.max_attempts,
            waited: Duration::from_millis(u64::try_from(claimed.wait_ms).unwrap_or(0)),
            deadline: Instant::now() + Duration::from_millis(u64::try_from(claimed.timeout_ms).unwrap_or(60_000)),
            cancelled,
            cause: claimed.cause.clone(),
            detail: Mutex::new(None),
            lease: (claimed.attempt, claimed.owner),
            reports,
            journal: OnceLock::new(),
        }
    }

    pub(super) fn take_detail(&self) -> Option<Box<RawValue>> {
        self.detail.lock().ok()?.take()
    }
}
