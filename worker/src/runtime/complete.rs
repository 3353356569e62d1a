//! From outcomes to the ledger: while one batch commits, the next gathers.

use std::sync::Arc;
use std::time::Instant;

use millwork_shared::infra::db::{Dedicated, Durability, PATIENCE, SystemDb};
use millwork_shared::infra::ids::{JobId, TenantId, WorkerId};
use millwork_shared::jobs::followers::Followers;
use millwork_shared::jobs::queries::{self, Ending, Finished, Report, Retried, Snoozed};
use millwork_shared::jobs::retry::{self, Policy};
use millwork_shared::jobs::{JobError, Outcome, Queue};
use millwork_shared::{Error, Result};
use serde_json::value::RawValue;
use tokio::sync::mpsc;

use super::RETRY_PAUSE;
use super::in_flight::InFlight;
use super::stats::Stats;
use crate::metrics::{End, JobFigures, METRICS};

/// Outcomes stored by one transaction at most.
const BATCH: usize = 512;
/// Bytes of results and details stored by one transaction, more or less.
const BATCH_BYTES: usize = 16 * 1024 * 1024;

/// What became of one attempt.
#[derive(Debug)]
pub struct Completion {
    pub tenant: TenantId,
    pub queue: Queue,
    pub id: JobId,
    pub attempt: i16,
    pub owner: WorkerId,
    /// The attempt as it counts against `max_attempts`: without those that ended with their worker.
    pub counted_attempt: i16,
    pub max_attempts: i16,
    /// Its cancellation was asked for.
    pub cancelled: bool,
    pub outcome: Outcome,
    pub detail: Option<Box<RawValue>>,
    /// What its handler said and is not yet written.
    pub report: Option<Box<Report>>,
    pub wait_ms: i64,
    pub run_ms: i64,
    /// Where it is counted.
    pub figures: Arc<JobFigures>,
}

/// Stores outcomes.
pub struct Completer {
    system: SystemDb,
    /// Where outcomes are stored.
    ledger: Dedicated,
    in_flight: Arc<InFlight>,
    followers: Followers,
    stats: Stats,
}

/// The rows one batch becomes.
#[derive(Default)]
struct Rows {
    finished: Vec<Finished>,
    retried: Vec<Retried>,
    snoozed: Vec<Snoozed>,
    reports: Vec<Report>,
}

impl Completer {
    pub fn new(system: SystemDb, in_flight: Arc<InFlight>, followers: Followers) -> Self {
        let stats = Stats::start(system.clone());
        Self { ledger: system.dedicated(Durability::Durable), system, in_flight, followers, stats }
    }

    /// Runs until every sender is gone and everything is stored.
    pub async fn run(mut self, mut completed: mpsc::Receiver<Completion>) {
        let mut batch = Vec::with_capacity(BATCH);
        while completed.recv_many(&mut batch, BATCH).await > 0 {
            while !batch.is_empty() {
                let some = batch.drain(..fitting(&batch));
                self.complete(some.collect()).await;
            }
        }
        self.stats.flush().await;
    }

    async fn complete(&mut self, batch: Vec<Completion>) {
        let attempts: Vec<_> = batch.iter().map(|c| (c.id, c.owner, c.attempt)).collect();
        let mut rows = Rows::default();
        for completion in batch {
            self.stats.count(&completion);
            rows.add(completion);
        }
        self.store_until_done(rows).await;
        for (id, owner, attempt) in attempts {
            self.in_flight.remove(id, owner, attempt);
        }
    }

    /// Tries until the ledger answers; a batch that it refuses is stored row by row, so that one bad row spoils only itself.
    async fn store_until_done(&mut self, mut rows: Rows) {
        loop {
            let (began, outcomes) = (Instant::now(), rows.len());
            match self.store(&mut rows).await {
                Ok(()) => {
                    METRICS.completion_batch.observe(outcomes as f64);
                    METRICS.completion_s.observe(began.elapsed().as_secs_f64());
                    return;
                }
                Err(error @ Error::Unavailable { .. }) => {
                    tracing::warn!(
                        %error, error.category = %error.category(), jobs = rows.len(),
                        "cannot store outcomes; trying again"
                    );
                    tokio::time::sleep(RETRY_PAUSE).await;
                }
                Err(error) if rows.len() > 1 => {
                    tracing::error!(
                        %error, error.category = %error.category(), jobs = rows.len(),
                        "a batch of outcomes was refused; storing them one by one"
                    );
                    for row in rows.split() {
                        Box::pin(self.store_until_done(row)).await;
                    }
                    return;
                }
                Err(error) => {
                    let Some(replaced) = rows.without_content(&error) else { return };
                    tracing::error!(
                        %error, error.category = %error.category(),
                        "an outcome cannot be stored; the job fails instead"
                    );
                    rows = replaced;
                }
            }
        }
    }

    /// Stores `rows`, each kind in a transaction of its own. What is stored is taken out of them.
    async fn store(&mut self, rows: &mut Rows) -> Result<()> {
        let mut to_tell = false;
        let store = async {
            let mut connection = self.ledger.take().await?;
            if !rows.reports.is_empty() {
                // First: the fence knows only jobs that run.
                queries::save_reports(&mut connection, &mut rows.reports).await?;
                rows.reports.clear();
            }
            if !rows.retried.is_empty() {
                let accepted = queries::retry(&mut connection, &mut rows.retried).await?;
                // Refused: no longer ours, or to be cancelled. The fence of `finish` tells which.
                let refused = rows.retried.drain(..).filter(|r| !accepted.contains(&r.id));
                rows.finished.extend(refused.map(|r| r.cancelled()));
            }
            if !rows.snoozed.is_empty() {
                let accepted = queries::snooze(&mut connection, &mut rows.snoozed).await?;
                let refused = rows.snoozed.drain(..).filter(|s| !accepted.contains(&s.id)); // as above
                rows.finished.extend(refused.map(|s| s.cancelled()));
            }
            if !rows.finished.is_empty() {
                let ends = queries::end(&mut connection, &mut rows.finished).await?;
                let refused = rows.finished.drain(..).len() as i64 - ends.accepted;
                if refused > 0 {
                    METRICS.late_results.inc_by(refused.unsigned_abs());
                    tracing::warn!(refused, "late results refused: the lease was gone");
                }
                to_tell = ends.to_tell > 0;
            }
            self.ledger.keep(connection);
            Ok(())
        };
        self.system.within(PATIENCE, store).await?;
        if to_tell {
            self.followers.tell_soon();
        }
        Ok(())
    }
}

/// How many of `batch` go into one transaction: the first, and what else is not too much.
fn fitting(batch: &[Completion]) -> usize {
    let mut bytes = 0;
    let fits = |completion: &&Completion| {
        bytes += completion.bytes();
        bytes <= BATCH_BYTES
    };
    batch.iter().take_while(fits).count().max(1)
}

impl Completion {
    /// What the attempt comes to, if the ledger takes it.
    pub fn end(&self) -> End {
        match &self.outcome {
            Outcome::Done(_) => End::Succeeded,
            Outcome::Fail(_) => End::Failed,
            Outcome::Cancelled => End::Cancelled,
            Outcome::Retry { .. } | Outcome::Snooze(_) if self.cancelled => End::Cancelled,
            Outcome::Retry { .. } if self.counted_attempt >= self.max_attempts => End::Failed,
            Outcome::Retry { .. } => End::Retried,
            Outcome::Snooze(_) => End::Snoozed,
        }
    }

    /// What went wrong in the attempt.
    pub fn error(&self) -> Option<&JobError> {
        match &self.outcome {
            Outcome::Retry { error, .. } | Outcome::Fail(error) => Some(error),
            Outcome::Done(_) | Outcome::Cancelled | Outcome::Snooze(_) => None,
        }
    }

    fn bytes(&self) -> usize {
        let result = match &self.outcome {
            Outcome::Done(Some(result)) => result.get().len(),
            _ => 0,
        };
        result + self.detail.as_ref().map_or(0, |detail| detail.get().len())
    }
}

impl Rows {
    fn len(&self) -> usize {
        self.finished.len() + self.retried.len() + self.snoozed.len() + self.reports.len()
    }

    fn add(&mut self, c: Completion) {
        let Completion { tenant, id, attempt, owner, detail, report, .. } = c;
        self.reports.extend(report.map(|report| *report));
        let finished =
            |ending, result, error| Finished { tenant, id, attempt, owner, ending, result, error, detail: None };
        let mut end = match c.outcome {
            Outcome::Done(result) => finished(Ending::Succeeded, result, None),
            Outcome::Cancelled => finished(Ending::Cancelled, None, None),
            Outcome::Fail(error) => finished(Ending::Failed, None, Some(error)),
            Outcome::Retry { error, .. } if c.cancelled => finished(Ending::Cancelled, None, Some(error)),
            Outcome::Retry { error, .. } if c.counted_attempt >= c.max_attempts => {
                finished(Ending::Failed, None, Some(error))
            }
            Outcome::Retry { error, after } => {
                let wait = after
                    .map(|after| after.min(retry::LONGEST))
                    .unwrap_or_else(|| Policy::default().wait(c.counted_attempt, retry::random()));
                self.retried.push(Retried { tenant, id, attempt, owner, wait, error, detail });
                return;
            }
            Outcome::Snooze(_) if c.cancelled => finished(Ending::Cancelled, None, None),
            Outcome::Snooze(wait) => {
                let wait = wait.min(retry::LONGEST);
                self.snoozed.push(Snoozed { tenant, id, attempt, owner, wait });
                return;
            }
        };
        end.detail = detail;
        self.finished.push(end);
    }

    /// Row by row, what handlers said before how they ended.
    fn split(self) -> Vec<Self> {
        let reports = self.reports.into_iter().map(|r| Self { reports: vec![r], ..Self::default() });
        let finished = self.finished.into_iter().map(|f| Self { finished: vec![f], ..Self::default() });
        let retried = self.retried.into_iter().map(|r| Self { retried: vec![r], ..Self::default() });
        let snoozed = self.snoozed.into_iter().map(|s| Self { snoozed: vec![s], ..Self::default() });
        reports.chain(finished).chain(retried).chain(snoozed).collect()
    }

    /// The same end without what the handler said, which the ledger cannot hold. None when there is nothing to drop.
    fn without_content(&self, why: &Error) -> Option<Self> {
        let error = JobError::new("outcome_not_storable", format!("the handler's outcome cannot be stored: {why}"));
        let end = |tenant, id, attempt, owner| Finished {
            tenant,
            id,
            attempt,
            owner,
            ending: Ending::Failed,
            result: None,
            error: Some(error.clone()),
            detail: None,
        };
        let finished = self.finished.first();
        if finished.is_some_and(|f| f.error.as_ref().is_some_and(|e| e.code == "outcome_not_storable")) {
            return None;
        }
        let end = finished
            .map(|f| end(f.tenant, f.id, f.attempt, f.owner))
            .or_else(|| self.retried.first().map(|r| end(r.tenant, r.id, r.attempt, r.owner)))
            .or_else(|| self.snoozed.first().map(|s| end(s.tenant, s.id, s.attempt, s.owner)))?;
        Some(Self { finished: vec![end], ..Self::default() })
    }
}
