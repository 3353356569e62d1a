//! Fires the schedules of tenants.
//!
//! A schedule's job is stored and its next time moved on in one transaction, which holds the schedule's row: whoever
//! comes second finds it held or no longer due, and a crash leaves it as it was. So two schedulers may do this at once.

use std::time::Duration;

use millwork_shared::infra::db::{PATIENCE, SystemDb, ledger_now};
use millwork_shared::infra::ids::ScheduleId;
use millwork_shared::jobs::dispatch::Dispatcher;
use millwork_shared::jobs::{NewJob, queries as jobs};
use millwork_shared::schedules::queries::{self, Fired, ScheduleRow};
use millwork_shared::{Error, Result};

/// How often schedules whose time has come are looked for.
const EVERY: Duration = Duration::from_secs(1);
const PAUSE: Duration = Duration::from_secs(1);
/// Schedules read at once.
const PAGE: i64 = 1_000;
/// Schedules fired by one transaction at most.
const BATCH: usize = 100;

/// Fires schedules for ever.
pub async fn fire_due(system: SystemDb, dispatcher: Dispatcher) {
    loop {
        match look(&system, &dispatcher).await {
            Ok(_) => tokio::time::sleep(EVERY).await,
            Err(error) => {
                tracing::warn!(%error, error.category = %error.category(), "cannot fire schedules; trying again");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

/// Fires every schedule that is due now. Answers how many jobs that made.
///
/// # Errors
/// Fails when the database does not answer; what was fired until then stays so.
pub async fn look(system: &SystemDb, dispatcher: &Dispatcher) -> Result<usize> {
    let (mut after, mut made) = (None, 0);
    loop {
        let look = async {
            let mut tx = system.system_by_index().await?;
            let due = queries::list_due(&mut tx, after.as_ref(), PAGE).await?;
            tx.commit().await.map(|()| due)
        };
        let due = system.within(PATIENCE, look).await?;
        let ids: Vec<ScheduleId> = due.iter().map(|schedule| schedule.id).collect();
        for batch in ids.chunks(BATCH) {
            made += fire_batch(system, dispatcher, batch).await?;
        }
        after = due.into_iter().next_back();
        if after.is_none() || i64::try_from(ids.len()).is_ok_and(|n| n < PAGE) {
            return Ok(made);
        }
    }
}

/// Fires a batch; one that the ledger refuses is fired one by one, so that a bad schedule holds up itself alone.
async fn fire_batch(system: &SystemDb, dispatcher: &Dispatcher, batch: &[ScheduleId]) -> Result<usize> {
    match system.within(PATIENCE, fire(system, batch)).await {
        Ok(jobs) => {
            dispatcher.offer(&jobs);
            Ok(jobs.len())
        }
        Err(error @ Error::Unavailable { .. }) => Err(error),
        Err(error) => match batch {
            [one] => {
                tracing::error!(
                    schedule.id = %one, %error, error.category = %error.category(),
                    "a schedule cannot be fired; trying again"
                );
                Ok(0)
            }
            many => {
                let mut made = 0;
                for one in many {
                    made += Box::pin(fire_batch(system, dispatcher, std::slice::from_ref(one))).await?;
                }
                Ok(made)
            }
        },
    }
}

/// Stores the jobs of `ids` and moves their schedules on. Answers the jobs.
async fn fire(system: &SystemDb, ids: &[ScheduleId]) -> Result<Vec<NewJob>> {
    let mut tx = system.system().await?;
    let now = ledger_now(&mut tx).await?;
    let mut due = Vec::new();
    for schedule in queries::take_due(&mut tx, ids).await? {
        let rhythm = schedule.rhythm()?;
        let runs = rhythm.runs_at(now, schedule.misfire());
        if !runs {
            tracing::info!(schedule.id = %schedule.id, tenant.id = %schedule.tenant_id, "left out runs that were missed");
        }
        due.push((rhythm.next_after(now), if runs { Some(schedule.job()?) } else { None }, schedule));
    }
    let wanted: Vec<&NewJob> = due.iter().filter_map(|(_, job, _)| job.as_ref()).collect();
    // A job whose unique key is held is not made this time: the one before it still lives.
    let held: Vec<_> = jobs::hold_keys(&mut tx, &wanted).await?.into_iter().map(|(n, _)| wanted[n].id).collect();
    for (next, job, schedule) in &mut due {
        job.take_if(|job| held.contains(&job.id));
        warn_of_the_last(next.is_none(), schedule);
    }
    jobs::insert(&mut tx, due.iter().filter_map(|(_, job, _)| job.as_ref())).await?;
    let fired: Vec<Fired> = due
        .iter()
        .map(|(next, job, schedule)| Fired { id: schedule.id, job: job.as_ref().map(|job| job.id), next_run_at: *next })
        .collect();
    queries::move_on(&mut tx, &fired).await?;
    tx.commit().await?;
    Ok(due.into_iter().filter_map(|(_, job, _)| job).collect())
}

fn warn_of_the_last(is_last: bool, schedule: &ScheduleRow) {
    if is_last {
        tracing::warn!(schedule.id = %schedule.id, tenant.id = %schedule.tenant_id, "a schedule has no next time");
    }
}
