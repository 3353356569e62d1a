//! What a worker does to jobs, done by hand.

use std::time::{Duration, Instant};

use millwork_shared::infra::ids::{TenantId, WorkerId};
use millwork_shared::jobs::dispatch::Ticket;
use millwork_shared::jobs::queries::{self, Claimed, Ending, Finished, LogLine, NewWorker, Report, Retried};
use millwork_shared::jobs::{JobError, Priority, Queue};
use serde_json::Value;

use super::{Client, TestApp};

/// Longest time a test waits for what must happen.
pub const PATIENCE: Duration = Duration::from_secs(20);

impl TestApp {
    /// Claims jobs by a worker made for it.
    pub async fn claim(&self, tenant: TenantId, ids: &[&str]) -> Vec<Claimed> {
        let worker = WorkerId::generate();
        let known = NewWorker { host: "hand".into(), version: "1", queues: vec!["default".into()], concurrency: 1 };
        let mut tx = self.db.db.system().system().await.unwrap();
        queries::register(&mut tx, worker, &known, Duration::from_secs(15)).await.unwrap();
        let ticket =
            |id: &&str| Ticket { tenant, id: id.parse().unwrap(), queue: Queue::Default, priority: Priority::DEFAULT };
        let tickets: Vec<_> = ids.iter().map(ticket).collect();
        let claimed = queries::claim(&mut tx, worker, &tickets).await.unwrap();
        tx.commit().await.unwrap();
        assert_eq!(claimed.len(), ids.len());
        claimed
    }

    /// Ends a claimed job. A failed one broke.
    pub async fn end(&self, job: &Claimed, ending: Ending) {
        let finished = Finished {
            tenant: job.tenant,
            id: job.id,
            attempt: job.attempt,
            owner: job.owner,
            ending,
            result: None,
            error: (ending == Ending::Failed).then(|| JobError::new("boom", "it broke")),
            detail: None,
        };
        let mut tx = self.db.db.system().system().await.unwrap();
        assert_eq!(queries::finish(&mut tx, &mut [finished]).await.unwrap(), 1);
        tx.commit().await.unwrap();
    }

    /// Says what the handler of a claimed job says.
    pub async fn report(&self, job: &Claimed, progress: Value, lines: Vec<LogLine>) {
        let report = Report {
            tenant: job.tenant,
            id: job.id,
            attempt: job.attempt,
            owner: job.owner,
            progress: Some(serde_json::value::to_raw_value(&progress).unwrap()),
            line_count: lines.len() as i64,
            lines,
        };
        let mut tx = self.db.db.system().system().await.unwrap();
        queries::save_reports(&mut tx, &mut [report]).await.unwrap();
        tx.commit().await.unwrap();
    }

    /// Puts a claimed job off after a failed attempt.
    pub async fn put_off(&self, job: &Claimed, wait: Duration) {
        let retried = Retried {
            tenant: job.tenant,
            id: job.id,
            attempt: job.attempt,
            owner: job.owner,
            wait,
            error: JobError::new("boom", "it broke"),
            detail: None,
        };
        let mut tx = self.db.db.system().system().await.unwrap();
        assert_eq!(queries::retry(&mut tx, &mut [retried]).await.unwrap().len(), 1);
        tx.commit().await.unwrap();
    }
}

impl Client {
    /// Submits a job: its id.
    pub async fn submit(&self, body: Value) -> String {
        self.post("/jobs", body).await.expect(202)["data"]["id"].as_str().unwrap().to_owned()
    }

    /// A job as it stands.
    pub async fn job(&self, id: &str) -> Value {
        self.get(&format!("/jobs/{id}")).await.expect(200)["data"].clone()
    }

    /// A job, once it is in this state.
    pub async fn until(&self, id: &str, state: &str) -> Value {
        let began = Instant::now();
        loop {
            let job = self.job(id).await;
            if job["state"] == state {
                return job;
            }
            assert!(began.elapsed() < PATIENCE, "it is not {state}: {job}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}
