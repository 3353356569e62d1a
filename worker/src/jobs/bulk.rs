//! The kinds `jobs.replay` and `jobs.cancel`: through the ledger page by page, at a bounded pace.

use std::sync::Arc;
use std::time::{Duration, Instant};

use millwork_shared::Result;
use millwork_shared::infra::db::TenantTx;
use millwork_shared::jobs::bulk::{Bulk, CancelJobs, Counts, DRY_RUN_MOST, ReplayJobs, Selection};
use millwork_shared::jobs::dispatch::Ticket;
use millwork_shared::jobs::queries::{self, Sweep, SweepPage};
use millwork_shared::jobs::{Outcome, State};
use serde::Serialize;
use serde_json::value::to_raw_value;

use crate::context::Context;
use crate::runtime::Run;

/// How long a bulk job waits, in the ledger, once it has done what its pace allows.
const PACE: Duration = Duration::from_secs(1);
/// A job that was kept waiting makes up for so much of it.
const BURST: Duration = Duration::from_secs(2);
/// How long one run reads on at most before others get its slot.
const SLICE: Duration = Duration::from_secs(10);

#[derive(Debug, Clone, Copy)]
enum Act {
    Replay,
    Cancel,
}

/// What the job shows when it is done.
#[derive(Debug, Serialize)]
struct BulkResult {
    #[serde(flatten)]
    counts: Counts,
    /// A dry run that stopped counting: there are more.
    #[serde(skip_serializing_if = "Option::is_none")]
    at_least: Option<bool>,
}

/// Runs failed or cancelled jobs again.
///
/// What it does to a page of jobs and the position after them are one transaction: it may run twice, and replays none twice.
pub async fn replay(job: ReplayJobs, run: Arc<Run>, ctx: Arc<Context>) -> Result<Outcome> {
    sweep(Act::Replay, &job.0, &run, &ctx).await
}

/// Cancels jobs that have not ended. Safe to run twice, as [`replay`] is.
pub async fn cancel(job: CancelJobs, run: Arc<Run>, ctx: Arc<Context>) -> Result<Outcome> {
    sweep(Act::Cancel, &job.0, &run, &ctx).await
}

async fn sweep(act: Act, bulk: &Bulk, run: &Run, ctx: &Context) -> Result<Outcome> {
    let (began, mut left) = (Instant::now(), None);
    while !run.cancelled.is_cancelled() {
        let mut tx = ctx.db.tenant(run.tenant).await?;
        let mut sweep = queries::lock_sweep(&mut tx, run.job, &bulk.selection).await?;
        let may = *left.get_or_insert_with(|| allowance(bulk, sweep.idle));
        if may == 0 || began.elapsed() > SLICE {
            return Ok(Outcome::Snooze(PACE));
        }
        let page = act.page(&mut tx, &sweep, &bulk.selection).await?;
        let chosen = &page.matching[..page.matching.len().min(may)];
        let tickets = if bulk.dry_run {
            sweep.counts.matched += count(chosen.len());
            Vec::new()
        } else {
            act.on(&mut tx, &mut sweep, chosen, &bulk.selection).await?
        };
        // What does not fit the pace any more is looked at again.
        let end = if chosen.len() < page.matching.len() { chosen.last().copied() } else { page.last };
        sweep.position = end.unwrap_or(sweep.position);
        queries::save_sweep(&mut tx, run.job, &sweep, !chosen.is_empty()).await?;
        tx.commit().await?;
        ctx.dispatcher.offer_soon(tickets);
        run.progress(&sweep.counts);
        left = Some(may - chosen.len());
        let enough = bulk.dry_run && sweep.counts.matched >= DRY_RUN_MOST;
        if end.is_none() || enough {
            let result = BulkResult { counts: sweep.counts, at_least: bulk.dry_run.then_some(enough) };
            return Ok(Outcome::Done(Some(to_raw_value(&result)?)));
        }
    }
    Ok(Outcome::Cancelled)
}

/// How many jobs a run may change: what its pace allows for the time since the last one. A dry run changes none.
fn allowance(bulk: &Bulk, idle: Option<Duration>) -> usize {
    if bulk.dry_run {
        return usize::MAX;
    }
    let time = idle.unwrap_or(PACE).min(BURST);
    (f64::from(bulk.rate_per_s) * time.as_secs_f64()) as usize
}

impl Act {
    async fn page(self, tx: &mut TenantTx, sweep: &Sweep, selection: &Selection) -> Result<SweepPage> {
        match self {
            Self::Replay => queries::page_of_ended(tx, sweep, replayed(selection), selection).await,
            Self::Cancel => queries::page_of_live(tx, sweep, selection).await,
        }
    }

    /// Does it to `chosen` and counts. Answers the jobs that are due now.
    async fn on(
        self,
        tx: &mut TenantTx,
        sweep: &mut Sweep,
        chosen: &[millwork_shared::infra::ids::JobId],
        selection: &Selection,
    ) -> Result<Vec<Ticket>> {
        let (done, tickets) = match self {
            _ if chosen.is_empty() => (0, Vec::new()),
            Self::Replay => {
                let tickets = queries::replay(tx, chosen, replayed(selection)).await?;
                (count(tickets.len()), tickets)
            }
            Self::Cancel => {
                let cancelled = queries::cancel_many(tx, chosen, selection.state).await?;
                (i64::try_from(cancelled).unwrap_or(i64::MAX), Vec::new())
            }
        };
        let matched = count(chosen.len());
        sweep.counts.matched += matched;
        sweep.counts.done += done;
        sweep.counts.skipped += matched - done;
        Ok(tickets)
    }
}

/// The end that is replayed: failed, unless the client says.
fn replayed(selection: &Selection) -> State {
    selection.state.unwrap_or(State::Failed)
}

fn count(jobs: usize) -> i64 {
    i64::try_from(jobs).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_allowance_follows_the_time_since_the_last_step_and_does_not_pile_up() {
        let bulk = |dry_run| Bulk { selection: Selection::default(), rate_per_s: 10, dry_run };
        for (idle_ms, jobs) in [(None, 10), (Some(0), 0), (Some(90), 0), (Some(1_500), 15), (Some(60_000), 20)] {
            assert_eq!(allowance(&bulk(false), idle_ms.map(Duration::from_millis)), jobs, "{idle_ms:?}");
        }
        assert_eq!(allowance(&bulk(true), Some(Duration::ZERO)), usize::MAX);
    }
}
