//! Admits waiting jobs, repairs what was lost, fires schedules. It only enqueues and repairs; it never does the work.

use std::sync::Arc;

use millwork_shared::infra::disk::Volume;
use millwork_shared::infra::health::Probes;
use millwork_shared::infra::sabotage::{self, Sabotage};
use millwork_shared::infra::{db, redis, tasks};
use millwork_shared::jobs::Queue;
use millwork_shared::jobs::dispatch::Dispatcher;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::metrics::METRICS;

/// From the ledger to Redis.
pub mod admit;
/// Queues that fall behind, and mails of alerts that had to wait.
pub mod alerts;
/// Flags and environment.
pub mod config;
/// Counts the jobs of the queues, for whoever scrapes.
pub mod count;
/// Fires the schedules of tenants.
pub mod fire;
/// Tells the ends of jobs to those who wait for them.
pub mod follow;
/// `/health/*` and `/metrics`.
mod health;
/// One scheduler of several leads.
pub mod leader;
/// Figures for Prometheus.
pub mod metrics;
mod pace;
/// Takes jobs back from workers that are gone.
pub mod reap;
/// Contents page: every cron line of our own.
pub mod schedule;

/// Runs the scheduler process until `stop`.
///
/// # Errors
/// Fails on a schema older than this build, and when its address cannot be bound.
pub async fn run(config: config::Config, stop: CancellationToken) -> anyhow::Result<()> {
    let telemetry = config.telemetry.clone().install()?;
    let ran = stand_by(config, stop).await;
    telemetry.flush().await;
    ran
}

async fn stand_by(config: config::Config, stop: CancellationToken) -> anyhow::Result<()> {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let stores = config.stores;
    let dispatcher = Dispatcher::new(stores.redis.clone());
    let volumes = vec![Volume::temporary()];
    let probes = Probes { db: stores.db.clone(), dispatcher: dispatcher.clone(), volumes, storage: None };
    tasks::spawn("metrics", METRICS.vitals.watch(probes.clone()));
    let serve = tasks::spawn("health", health::serve(config.addr, probes, stop.clone()));
    db::wait_for_schema(&stores.db, &stop).await?;
    tasks::spawn("depths", METRICS.depths.watch(stores.db.system()));
    let lead = tasks::spawn(
        "leader",
        leader::lead(stores.db.clone(), stop.clone(), move |term| duties(stores.clone(), dispatcher.clone(), term)),
    );
    if let Ok(Some(Err(error))) = serve.await {
        return Err(error);
    }
    stop.cancelled().await;
    let _ = lead.await;
    tracing::info!("stopped");
    Ok(())
}

/// What the leader does until the end of its `term`.
async fn duties(stores: millwork_shared::infra::config::Stores, dispatcher: Dispatcher, term: CancellationToken) {
    let system = stores.db.system();
    let admission = Arc::new(admit::Admission::new(system.clone(), dispatcher.clone()));
    let mut duties = tokio::task::JoinSet::new();
    for queue in Queue::ALL {
        match redis::connect_blocking(&stores.redis_client, admit::LONGEST_WAIT) {
            Ok(connection) => tasks::join(&mut duties, admission.clone().answer_demands(queue, connection)),
            Err(error) => {
                tracing::error!(%error, error.category = %error.category(), "cannot prepare a connection to Redis")
            }
        }
    }
    tasks::join(&mut duties, admission.clone().admit_due());
    if !sabotage::is_on(Sabotage::NoRepair) {
        tasks::join(&mut duties, admission.clone().rescan());
    }
    tasks::join(&mut duties, count::count_queues(system.clone()));
    let ended = Arc::new(Notify::new());
    tasks::join(&mut duties, reap::reap_lost(system.clone(), dispatcher.clone(), admission, ended.clone()));
    tasks::join(&mut duties, follow::tell(system.clone(), dispatcher.clone(), ended));
    tasks::join(&mut duties, alerts::raise(system.clone(), dispatcher.clone()));
    tasks::join(&mut duties, fire::fire_due(system.clone(), dispatcher.clone()));
    tasks::join(&mut duties, schedule::run(system, dispatcher));
    tokio::select! {
        () = term.cancelled() => {}
        ended = duties.join_next() => tracing::error!(?ended, "a duty of the leader ended; the term ends with it"),
    }
}
