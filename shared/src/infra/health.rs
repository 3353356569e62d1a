//! Whether a process can serve, and each thing it depends on: one form for the health routes of all processes.

use std::time::{Duration, Instant};

use serde::Serialize;
use serde_json::{Map, Value, json};

use super::db::Db;
use super::disk::{self, Volume};
use super::redis::Nodes;
use super::storage::Storage;
use crate::Result;
use crate::jobs::dispatch::Dispatcher;

/// Longest time one dependency is given to answer.
pub const DEADLINE: Duration = Duration::from_millis(1_500);

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    Ok,
    /// Serves, though not everything works.
    Degraded,
    /// Cannot do its work.
    Down,
}

/// One dependency.
#[derive(Debug, Clone)]
pub struct Check {
    pub name: &'static str,
    pub status: Status,
    pub latency: Duration,
    /// What is wrong, for people.
    pub detail: Option<String>,
    /// Further figures.
    pub figures: Map<String, Value>,
}

/// Runs one probe under its deadline. `worst` is what its failure means; a sentence from a probe means it too.
pub async fn probe(name: &'static str, worst: Status, work: impl Future<Output = Result<Option<String>>>) -> Check {
    let started = Instant::now();
    let detail = match tokio::time::timeout(DEADLINE, work).await {
        Ok(Ok(detail)) => detail,
        Ok(Err(error)) => {
            tracing::warn!(%error, error.category = %error.category(), dependency = name, "a health probe failed");
            Some("does not answer".to_owned())
        }
        Err(_) => Some(format!("does not answer within {} ms", DEADLINE.as_millis())),
    };
    let status = if detail.is_some() { worst } else { Status::Ok };
    Check { name, status, latency: started.elapsed(), detail, figures: Map::new() }
}

/// What every process depends on.
#[derive(Clone)]
pub struct Probes {
    pub db: Db,
    pub dispatcher: Dispatcher,
    /// What it writes to.
    pub volumes: Vec<Volume>,
    /// Of files; the scheduler has nothing to do with it.
    pub storage: Option<Storage>,
}

impl Probes {
    /// Without it nothing can be done.
    pub async fn database(&self) -> Check {
        probe("database", Status::Down, async { self.db.ping().await.map(|()| None) }).await
    }

    /// Without it the ledger still works. Of a cluster every node is asked.
    pub async fn redis(&self) -> Check {
        let mut nodes = None;
        let look = async {
            let look = self.dispatcher.look().await;
            nodes = Some(look.nodes);
            look.verdict
        };
        let mut check = probe("redis", Status::Degraded, look).await;
        if let Some(Nodes { answering, silent }) = nodes.filter(|nodes| nodes.answering + nodes.silent > 1) {
            check.figures.insert("nodes".to_owned(), json!({ "answering": answering, "silent": silent }));
        }
        check
    }

    /// Whether anybody is there to run jobs.
    pub async fn queues(&self) -> Check {
        let count = async {
            let workers = crate::health::count_live_workers(&self.db).await?;
            Ok((workers == 0).then(|| "no worker is alive: jobs are kept, and wait".to_owned()))
        };
        probe("queues", Status::Degraded, count).await
    }

    /// Without it files can neither be sent nor had; everything else works.
    pub async fn storage(&self) -> Check {
        let mut figures = Map::new();
        let look = async {
            let Some(storage) = &self.storage else { return Ok(None) };
            let space = storage.space().await?;
            let (Some(free_bytes), Some(size_bytes)) = (space.free_bytes, space.size_bytes) else { return Ok(None) };
            figures.insert("free_bytes".to_owned(), json!(free_bytes));
            figures.insert("size_bytes".to_owned(), json!(size_bytes));
            let low = disk::Space { free_bytes, size_bytes }.is_low();
            Ok(low.then(|| "little space is left for objects".to_owned()))
        };
        let mut check = probe("storage", Status::Degraded, look).await;
        check.figures = figures;
        check
    }

    /// Whether the volumes have space.
    pub async fn disk(&self) -> Check {
        let mut volumes = Map::new();
        let looks = async {
            let mut faults = Vec::new();
            for volume in &self.volumes {
                match volume.look().await {
                    Ok(space) => {
                        let figures = json!({ "free_bytes": space.free_bytes, "size_bytes": space.size_bytes });
                        volumes.insert(volume.name.to_owned(), figures);
                        if space.is_low() {
                            faults.push(format!("little space is left for what is {}", volume.name));
                        }
                    }
                    Err(error) => {
                        tracing::warn!(%error, volume = volume.name, "the space of a volume is not known");
                        faults.push(format!("the space for what is {} is not known", volume.name));
                    }
                }
            }
            Ok((!faults.is_empty()).then(|| faults.join("; ")))
        };
        let mut check = probe("disk", Status::Degraded, looks).await;
        check.figures.insert("volumes".to_owned(), Value::Object(volumes));
        check
    }
}

/// What a health route answers.
#[derive(Debug, Clone)]
pub struct Report {
    pub status: Status,
    pub body: Value,
}

impl Report {
    /// As bad as the worst of `checks`; without any, that the process runs.
    pub fn of(checks: impl IntoIterator<Item = Check>) -> Self {
        let (mut status, mut members) = (Status::Ok, Map::new());
        for check in checks {
            status = status.max(check.status);
            let latency_ms = (check.latency.as_secs_f64() * 1e5).round() / 100.0;
            let mut value = json!({ "status": check.status, "latency_ms": latency_ms });
            if let Some(detail) = check.detail {
                value["detail"] = Value::String(detail);
            }
            if let Value::Object(value) = &mut value {
                value.extend(check.figures);
            }
            members.insert(check.name.to_owned(), value);
        }
        let mut body = json!({ "status": status, "version": env!("CARGO_PKG_VERSION") });
        if !members.is_empty() {
            body["checks"] = Value::Object(members);
        }
        Self { status, body }
    }

    /// Whether to send it traffic: 200, or 503.
    pub fn serves(&self) -> bool {
        self.status != Status::Down
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_report_is_as_bad_as_its_worst_check_and_tells_of_each() {
        let fine = probe("a", Status::Down, async { Ok(None) }).await;
        let poor = probe("b", Status::Degraded, async { Ok(Some("little is left".to_owned())) }).await;
        let gone = probe("c", Status::Down, async { Err(anyhow::anyhow!("secret").into()) }).await;
        assert_eq!(Report::of([fine.clone()]).status, Status::Ok);
        let report = Report::of([fine.clone(), poor.clone()]);
        assert!(report.serves() && report.status == Status::Degraded);
        assert_eq!(report.body["checks"]["b"]["detail"], "little is left");
        assert!(report.body["checks"]["a"]["latency_ms"].is_number());
        let report = Report::of([fine, gone, poor]);
        assert!(!report.serves());
        assert!(!report.body.to_string().contains("secret"), "the cause is for the log: {}", report.body);
    }
}
