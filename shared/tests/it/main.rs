//! The ledger and the dispatcher, against real PostgreSQL and Redis.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod abandoned;
mod alerts;
mod batches;
mod chains;
mod connections;
mod depths;
mod dispatch;
mod jobs;
mod model;
mod partitions;
mod personal_data;
mod plans;
mod progress;
mod references;
mod rekey;
mod stock;
mod storage;
mod tenancy;
mod unique;

use millwork_shared::infra::db::{SystemDb, TenantTx};
use millwork_shared::infra::ids::{JobId, TenantId, WorkerId};
use millwork_shared::jobs::dispatch::Ticket;
use millwork_shared::jobs::queries::{self, Claimed, Ending, Finished, NewWorker};
use millwork_shared::jobs::{JobError, NewJob, kinds::Echo};
use millwork_shared::testing::TestDb;
use serde_json::value::RawValue;
use std::time::Duration;

const LEASE: Duration = Duration::from_secs(15);

/// A ledger with one tenant and the means to act as its parts.
struct Ledger {
    test: TestDb,
    system: SystemDb,
    tenant: TenantId,
}

impl Ledger {
    async fn create() -> Self {
        let test = TestDb::create().await;
        let tenant = test.tenant("acme").await;
        Self { system: test.db.system(), test, tenant }
    }

    fn job(&self) -> NewJob {
        NewJob::of(self.tenant, &Echo(RawValue::from_string(r#"{"n":1}"#.into()).unwrap())).unwrap()
    }

    async fn store(&self, jobs: &[NewJob]) {
        let mut tx = self.tenant().await;
        queries::enqueue(&mut tx, jobs).await.unwrap();
        tx.commit().await.unwrap();
    }

    async fn tenant(&self) -> TenantTx {
        self.test.db.tenant(self.tenant).await.unwrap()
    }

    async fn worker(&self) -> WorkerId {
        let id = WorkerId::generate();
        let worker = NewWorker { host: "h".into(), version: "1", queues: vec!["default".into()], concurrency: 1 };
        let mut tx = self.system.system().await.unwrap();
        queries::register(&mut tx, id, &worker, LEASE).await.unwrap();
        tx.commit().await.unwrap();
        id
    }

    async fn claim(&self, owner: WorkerId, jobs: &[NewJob]) -> Vec<Claimed> {
        let tickets: Vec<Ticket> = jobs.iter().map(Ticket::from).collect();
        let mut tx = self.system.system_relaxed().await.unwrap();
        let claimed = queries::claim(&mut tx, owner, &tickets).await.unwrap();
        tx.commit().await.unwrap();
        claimed
    }

    async fn finish(&self, claimed: &Claimed, ending: Ending) -> u64 {
        let mut batch = [Finished {
            tenant: claimed.tenant,
            id: claimed.id,
            attempt: claimed.attempt,
            owner: claimed.owner,
            ending,
            result: None,
            error: (ending == Ending::Failed).then(|| JobError::new("boom", "it broke")),
            detail: None,
        }];
        let mut tx = self.system.system_by_index().await.unwrap();
        let accepted = queries::finish(&mut tx, &mut batch).await.unwrap();
        tx.commit().await.unwrap();
        accepted
    }

    async fn reap(&self) -> queries::ReapReport {
        let mut tx = self.system.system().await.unwrap();
        let lost = queries::mark_lost(&mut tx).await.unwrap();
        let report = queries::reap(&mut tx, &lost).await.unwrap();
        tx.commit().await.unwrap();
        report
    }

    /// Waits until a statement of this database waits for a lock.
    async fn until_something_waits(&self) {
        let waiting =
            "select count(*) from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'";
        let owner = self.test.owner().await;
        let began = std::time::Instant::now();
        while sqlx::query_scalar::<_, i64>(waiting).fetch_one(&owner).await.unwrap() == 0 {
            assert!(began.elapsed() < Duration::from_secs(10), "nothing waits");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    async fn state(&self, id: JobId) -> &'static str {
        let mut tx = self.tenant().await;
        queries::get(&mut tx, id).await.unwrap().state().as_str()
    }
}
