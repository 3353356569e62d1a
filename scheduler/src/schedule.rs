//! Contents page: every cron line of our own. A tick only enqueues, and says its name and time, so that two schedulers that both
//! fire enqueue one job.

use std::str::FromStr;
use std::time::Duration;

use apalis::prelude::WorkerBuilder;
use apalis_cron::{CronScheduler, Tick};
use chrono::Utc;
use futures::FutureExt;
use millwork_shared::Result;
use millwork_shared::audit::jobs::{ExpireAudit, SealAudit};
use millwork_shared::auth::jobs::RotateSigningKeys;
use millwork_shared::infra::db::{PATIENCE, SystemDb};
use millwork_shared::jobs::dispatch::{Dispatcher, Ticket};
use millwork_shared::jobs::{Job, NewJob, Unique, queries};
use millwork_shared::maintenance::{DeleteExpired, DeleteFinished, PLATFORM, RollPartitions};
use millwork_shared::objects::jobs::SweepObjects;

/// Fires every schedule for ever.
pub async fn run(system: SystemDb, dispatcher: Dispatcher) {
    let clock = Ticker { system, dispatcher };
    futures::join!(
        clock.every("every 10 minutes", "0 */10 * * * *", &RollPartitions {}),
        clock.every("every minute", "15 * * * * *", &SealAudit {}),
        clock.every("every day", "0 10 3 * * *", &ExpireAudit {}),
        clock.every("every hour", "0 20 * * * *", &DeleteFinished {}),
        clock.every("every 5 minutes", "30 */5 * * * *", &DeleteExpired {}),
        clock.every("every hour", "0 20 * * * *", &SweepObjects { dry_run: false, grace_s: None }),
        clock.every("every 10 minutes", "45 */10 * * * *", &RotateSigningKeys {}),
    );
}

struct Ticker {
    system: SystemDb,
    dispatcher: Dispatcher,
}

impl Ticker {
    /// Enqueues `job` at every tick of `cron` (seconds first, UTC).
    async fn every<J: Job + Clone + Send + Sync + 'static>(&self, name: &'static str, cron: &str, job: &J) {
        let schedule = match cron::Schedule::from_str(cron) {
            Ok(schedule) => schedule,
            Err(error) => return tracing::error!(name, cron, %error, "a cron line does not parse"),
        };
        loop {
            let (system, dispatcher, job) = (self.system.clone(), self.dispatcher.clone(), job.clone());
            let tick = move |tick: Tick<Utc>| {
                let (system, dispatcher, job) = (system.clone(), dispatcher.clone(), job.clone());
                async move {
                    let enqueued = enqueue(&system, &dispatcher, &job, tick.get_timestamp());
                    if let Err(error) = system.within(PATIENCE, enqueued).await {
                        tracing::warn!(
                            job.kind = J::KIND, %error, error.category = %error.category(),
                            "cannot enqueue at this tick; the next one will"
                        );
                    }
                }
            };
            let worker = WorkerBuilder::new(format!("{}-{}", J::KIND, uuid::Uuid::new_v4()).as_str())
                .backend(CronScheduler::new(schedule.clone()))
                .build(tick);
            // A tick that became past while the machine slept ends the worker: begin again.
            if let Err(error) = worker.run().boxed().await {
                tracing::warn!(name, %error, "a schedule ended; starting it again");
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    }
}

/// Enqueues `job` for the tick at `timestamp` (unix seconds), once.
async fn enqueue<J: Job>(system: &SystemDb, dispatcher: &Dispatcher, job: &J, timestamp: u64) -> Result<()> {
    let mut job = NewJob::of(PLATFORM, job)?;
    let unique = Unique { key: format!("{}@{timestamp}", J::KIND), hold: Some(Duration::from_secs(3_600)) };
    job.unique = Some(unique.clone());
    let mut tx = system.system().await?;
    let holder = queries::insert_unique(&mut tx, &job, &unique).await?;
    tx.commit().await?;
    if holder.is_none() {
        dispatcher.offer_soon(vec![Ticket::from(&job)]);
    }
    Ok(())
}
