//! Runs made by hand, for calling a handler without a worker.

use std::time::Duration;

use millwork_shared::infra::ids::{JobId, TenantId, WorkerId};
use millwork_shared::jobs::Cause;
use millwork_shared::jobs::queries::Report;
use serde_json::Value;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::report::Reports;
use super::run::Run;

impl Run {
    /// The first attempt at a job of `tenant`, with half a minute to go.
    pub fn for_test(tenant: TenantId, job: JobId) -> Self {
        Self {
            job,
            tenant,
            attempt: 1,
            max_attempts: 100,
            waited: Duration::ZERO,
            deadline: Instant::now() + Duration::from_secs(30),
            cancelled: CancellationToken::new(),
            cause: Cause::default(),
            detail: std::sync::Mutex::default(),
            lease: (1, WorkerId::generate()),
            reports: Reports::default(),
            journal: std::sync::OnceLock::new(),
        }
    }

    /// What the handler said of its progress, and wrote.
    pub async fn reported(&self) -> Option<Box<Report>> {
        self.close_journal().await
    }

    /// What the handler noted of its attempt.
    pub fn noted(&self) -> Option<Value> {
        let detail = self.detail.lock().ok()?;
        serde_json::from_str(detail.as_ref()?.get()).ok()
    }
}
