//! What every process shows of itself and of what it depends on.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::pool::Pool;
use super::process::Process;
use super::{GaugeVec, Histogram, IntGauge, IntGaugeVec, QUICK, Registry, lag};
use crate::infra::db::Db;
use crate::infra::health::Probes;
use crate::{Error, Result};

/// How often stores and volumes are looked at, whether anybody scrapes or not: a scrape asks nobody.
const EVERY: Duration = Duration::from_secs(5);
/// Each look at a bucket costs a request that is paid for.
const EVERY_STORAGE: Duration = Duration::from_secs(30);
/// Longest time that a store may take to answer before it counts as down.
const PATIENCE: Duration = Duration::from_secs(2);

pub struct Vitals {
    registry: Registry,
    /// Read at a scrape, by one at a time.
    process: Mutex<Process>,
    lag: Histogram,
    tasks: IntGauge,
    runnable: IntGauge,
    pool: Pool,
    up: IntGaugeVec,
    latency_s: GaugeVec,
    redis_nodes: IntGaugeVec,
    free_bytes: GaugeVec,
    size_bytes: GaugeVec,
}

impl Vitals {
    /// Adds itself to everything that `process` has registered.
    pub fn over(registry: Registry, process: &'static str) -> Self {
        let build = registry.int_gauges("millwork_build_info", "Always 1: who this is", &["process", "version"]);
        build.with_label_values(&[process, env!("CARGO_PKG_VERSION")]).set(1);
        Self {
            process: Mutex::new(Process::register(&registry)),
            lag: registry.histogram(
                "millwork_event_loop_lag_seconds",
                "How much later than asked for a timer woke its task: what all work waits for a thread",
                QUICK,
            ),
            tasks: registry.int_gauge("millwork_tasks", "Tasks that have not ended"),
            runnable: registry.int_gauge("millwork_tasks_runnable", "Tasks in the runtime's common queue"),
            pool: Pool::register(&registry),
            up: registry.int_gauges(
                "millwork_dependency_up",
                "Whether a store answered when it was asked last, 1 or 0",
                &["dependency"],
            ),
            latency_s: registry.gauges(
                "millwork_dependency_latency_seconds",
                "How long the store's last answer took",
                &["dependency"],
            ),
            redis_nodes: registry.int_gauges(
                "millwork_redis_nodes",
                "Redis servers (nodes of a cluster that have slots), by whether they answered when they were asked last",
                &["state"],
            ),
            free_bytes: registry.gauges(
                "millwork_disk_free_bytes",
                "Free space of the volumes that the process writes to",
                &["volume"],
            ),
            size_bytes: registry.gauges("millwork_disk_size_bytes", "Size of those volumes", &["volume"]),
            registry,
        }
    }

    /// Looks at the event loop, the stores and the volumes, for ever.
    pub async fn watch(&self, probes: Probes) {
        tokio::join!(
            lag::measure(&self.lag),
            self.ask_again("database", EVERY, || probes.db.ping()),
            self.ask_again("redis", EVERY, || self.look_at_redis(&probes)),
            self.look_at_volumes(&probes),
            self.look_at_storage(&probes),
        );
    }

    async fn ask_again<F: Future<Output = Result<()>>>(&self, dependency: &str, every: Duration, ask: impl Fn() -> F) {
        let (up, latency_s) =
            (self.up.with_label_values(&[dependency]), self.latency_s.with_label_values(&[dependency]));
        loop {
            let began = Instant::now();
            let answered = matches!(tokio::time::timeout(PATIENCE, ask()).await, Ok(Ok(())));
            up.set(answered.into());
            if answered {
                latency_s.set(began.elapsed().as_secs_f64());
            }
            tokio::time::sleep(every).await;
        }
    }

    async fn look_at_storage(&self, probes: &Probes) {
        let Some(storage) = &probes.storage else { return };
        self.ask_again("storage", EVERY_STORAGE, || async { storage.space().await.map(|_| ()) }).await;
    }

    async fn look_at_redis(&self, probes: &Probes) -> Result<()> {
        let look = probes.dispatcher.look().await;
        for (state, nodes) in [("answering", look.nodes.answering), ("silent", look.nodes.silent)] {
            self.redis_nodes.with_label_values(&[state]).set(count(nodes));
        }
        match look.verdict? {
            None => Ok(()),
            Some(cause) => Err(Error::Unavailable { dependency: "redis", cause }),
        }
    }

    async fn look_at_volumes(&self, probes: &Probes) {
        loop {
            for volume in &probes.volumes {
                let name = [volume.name];
                match tokio::time::timeout(PATIENCE, volume.look()).await {
                    Ok(Ok(space)) => {
                        self.free_bytes.with_label_values(&name).set(space.free_bytes as f64);
                        self.size_bytes.with_label_values(&name).set(space.size_bytes as f64);
                    }
                    _ => {
                        let _ = self.free_bytes.remove_label_values(&name);
                        let _ = self.size_bytes.remove_label_values(&name);
                    }
                }
            }
            tokio::time::sleep(EVERY).await;
        }
    }

    /// The page that a scrape reads. Asks nobody: what the stores said is remembered, the rest is this process's own.
    pub fn text(&self, db: &Db) -> String {
        let process = self.process.lock().unwrap_or_else(PoisonError::into_inner);
        process.look();
        let runtime = tokio::runtime::Handle::current().metrics();
        self.tasks.set(count(runtime.num_alive_tasks()));
        self.runnable.set(count(runtime.global_queue_depth()));
        self.pool.look(db);
        self.registry.text()
    }
}

fn count(n: usize) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}
