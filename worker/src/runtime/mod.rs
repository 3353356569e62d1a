//! Claim, run and complete: everything that handlers need not know.
//!
//! ```text
//! Redis ──tickets──▶ fetch ──claims──▶ apalis worker ──▶ execute ──outcome──▶ complete ──▶ PostgreSQL
//!                      ▲                                     │
//!                      └───────────── slots ◀────────────────┘        lease: heartbeat, cancellations
//! ```

mod backend;
mod complete;
pub mod echo;
mod execute;
mod fetch;
mod handlers;
mod in_flight;
mod journal;
mod lease;
mod report;
mod run;
mod slots;
mod stats;
#[cfg(feature = "testing")]
mod testing;
mod turns;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use apalis::prelude::{ParallelizeExt, WorkerBuilder};
use futures::FutureExt;
use millwork_shared::Result;
use millwork_shared::infra::db::{Durability, SystemDb};
use millwork_shared::infra::{redis, tasks};
use millwork_shared::jobs::Queue;
use millwork_shared::jobs::dispatch::Dispatcher;
use millwork_shared::jobs::followers::Followers;
use millwork_shared::jobs::queries::NewWorker;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

pub use handlers::Registry;
pub use in_flight::InFlight;
pub use run::Run;

use self::backend::LedgerBackend;
use self::slots::Slots;
use self::turns::Turns;
use crate::metrics::METRICS;

/// How a worker process works.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Handlers at once, by queue; queues that are absent are not served.
    pub queues: BTreeMap<Queue, usize>,
    /// How long running handlers may finish after the stop.
    pub grace: Duration,
    /// How long a lease lasts without a heartbeat.
    pub lease: Duration,
    pub heartbeat: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            queues: Queue::ALL.into_iter().map(|queue| (queue, 100)).collect(),
            grace: Duration::from_secs(25),
            lease: Duration::from_secs(15),
            heartbeat: Duration::from_secs(5),
        }
    }
}

/// A worker process, ready to run.
pub struct Runtime {
    pub settings: Settings,
    pub registry: Registry,
    pub system: SystemDb,
    pub dispatcher: Dispatcher,
    pub redis_client: redis::Client,
}

/// Waits between tries while a store does not answer.
const RETRY_PAUSE: Duration = Duration::from_millis(500);
/// How long a stop waits for claims that are under way.
const CLAIM_GRACE: Duration = Duration::from_secs(3);

impl Runtime {
    /// Works until `stop`, then finishes or hands back what it runs.
    ///
    /// # Errors
    /// Fails only when a connection cannot even be prepared; stores that do not answer are waited for.
    pub async fn run(self, stop: CancellationToken) -> Result<()> {
        let Self { settings, registry, system, dispatcher, redis_client } = self;
        let concurrency: usize = settings.queues.values().sum();
        let identity = NewWorker {
            host: hostname(),
            version: env!("CARGO_PKG_VERSION"),
            queues: settings.queues.keys().map(|q| q.to_string()).collect(),
            concurrency: i32::try_from(concurrency).unwrap_or(i32::MAX),
        };
        let in_flight = Arc::new(InFlight::default());
        let lease = Arc::new(lease::Lease::new(system.clone(), in_flight.clone(), identity, settings.lease));
        lease.take(&stop).await;
        let keep = tasks::spawn("lease", lease.clone().keep(settings.heartbeat));
        let cancels = tasks::spawn("cancels", lease::watch_cancels(system.clone(), in_flight.clone()));

        let reports = report::Reports::default();
        let writer = tasks::spawn("reports", reports.clone().write(system.clone()));
        let (completions, completed) = mpsc::channel(4 * 1024);
        let completer = complete::Completer::new(
            system.clone(),
            in_flight.clone(),
            Followers::start(system.clone(), dispatcher.clone()),
        );
        let completer = tasks::spawn("complete", completer.run(completed));
        let registry = Arc::new(registry);
        let (mut fetchers, mut workers) = (Vec::new(), Vec::new());
        for (&queue, &concurrency) in &settings.queues {
            let slots = Arc::new(Slots::new(concurrency));
            METRICS.serves(queue, concurrency);
            let (claims, claimed) = mpsc::channel(slots::MOST);
            let fetch = fetch::Fetch {
                queue,
                slots: slots.clone(),
                in_flight: in_flight.clone(),
                lease: lease.clone(),
                system: system.clone(),
                ledger: system.dedicated(Durability::Relaxed),
                dispatcher: dispatcher.clone(),
                claims,
            };
            let blocking = redis::connect_blocking(&redis_client, fetch::LONGEST_WAIT)?;
            fetchers.push(tasks::spawn("fetch", fetch.run(blocking, stop.clone())));
            let backend = LedgerBackend::new(queue, claimed, Turns::new(concurrency), completions.clone());
            let service = execute::JobService {
                queue,
                registry: registry.clone(),
                in_flight: in_flight.clone(),
                slots,
                reports: reports.clone(),
            };
            let worker = WorkerBuilder::new(format!("{}-{queue}", lease.owner()).as_str())
                .backend(backend)
                .parallelize(tasks::spawn_handler)
                .build(service);
            let worker = worker.run().boxed(); // here, where its type has no erased lifetimes left
            workers.push(tasks::spawn("worker", async move {
                if let Err(error) = worker.await {
                    tracing::error!(queue = %queue, %error, "the worker of a queue ended");
                }
            }));
        }
        drop(completions);
        tracing::info!(worker.id = %lease.owner(), queues = ?settings.queues, "working");

        stop.cancelled().await;
        tracing::info!(running = in_flight.len(), grace_s = settings.grace.as_secs(), "finishing what runs");
        in_flight.stop();
        // A claim that is under way is waited for, so that what it brings can be handed back too.
        let _ = tokio::time::timeout(CLAIM_GRACE, futures::future::join_all(&mut fetchers)).await;
        let mut given_back = lease::hand_back(&system, &dispatcher, in_flight.take_unstarted()).await;
        if tokio::time::timeout(settings.grace, in_flight.emptied()).await.is_err() {
            given_back &= lease::hand_back(&system, &dispatcher, in_flight.take_all()).await;
        }
        cancels.abort();
        keep.abort();
        writer.abort();
        for task in fetchers.into_iter().chain(workers) {
            task.abort();
        }
        let _ = tokio::time::timeout(Duration::from_secs(5), completer).await;
        if given_back {
            lease.give_up().await;
        }
        tracing::info!("stopped");
        Ok(())
    }
}

/// The machine's name, as operators know it.
fn hostname() -> String {
    std::env::var("HOSTNAME")
        .ok()
        .or_else(|| std::fs::read_to_string("/etc/hostname").ok())
        .map(|name| name.trim().to_owned())
        .filter(|name| !name.is_empty())
        .unwrap_or_else(|| "unknown".to_owned())
}
