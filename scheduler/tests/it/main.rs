//! Admission and repair, against real PostgreSQL and Redis.

#![expect(clippy::unwrap_used, reason = "a test that panics has failed")]

mod admission;
mod fire;
mod follow;
mod lost_workers;
mod metrics;

use std::sync::Arc;
use std::time::{Duration, Instant};

use millwork_scheduler::admit::Admission;
use millwork_shared::infra::db::SystemDb;
use millwork_shared::infra::ids::{JobId, TenantId, WorkerId};
use millwork_shared::infra::redis;
use millwork_shared::jobs::dispatch::{Dispatcher, Share, Ticket};
use millwork_shared::jobs::kinds::Echo;
use millwork_shared::jobs::queries::{self, Claimed, Ending, Finished, NewWorker};
use millwork_shared::jobs::{NewJob, Priority, Queue};
use millwork_shared::testing::{TestDb, key_prefix, redis_url};
use serde_json::value::RawValue;

const ANY: Share = Share { of: Vec::new(), rest: usize::MAX >> 1 };
/// Longest time a test waits for what must happen.
const PATIENCE: Duration = Duration::from_secs(20);

/// A ledger and a Redis, and the admission between.
struct Yard {
    test: TestDb,
    system: SystemDb,
    client: redis::Client,
    prefix: &'static str,
    dispatcher: Dispatcher,
    admission: Arc<Admission>,
}

impl Yard {
    async fn open() -> Self {
        let test = TestDb::create().await;
        let (system, prefix) = (test.db.system(), key_prefix());
        let client = redis::Client::open(&redis_url()).unwrap();
        let dispatcher = Dispatcher::with_prefix(redis::connect_lazy(&client).unwrap(), prefix);
        let admission = Arc::new(Admission::new(system.clone(), dispatcher.clone()));
        Self { test, system, client, prefix, dispatcher, admission }
    }

    async fn tenant(&self) -> TenantId {
        self.test.tenant("Acme").await
    }

    fn job(tenant: TenantId) -> NewJob {
        NewJob::of(tenant, &Echo(RawValue::NULL.to_owned())).unwrap()
    }

    fn job_of(tenant: TenantId, queue: Queue, priority: u8) -> NewJob {
        NewJob { queue, priority: Priority::new(priority).unwrap(), ..Self::job(tenant) }
    }

    /// Stores jobs without a word to Redis.
    async fn store(&self, jobs: &[NewJob]) {
        let mut tx = self.system.system().await.unwrap();
        queries::enqueue(&mut tx, jobs).await.unwrap();
        tx.commit().await.unwrap();
    }

    /// Stores jobs and offers them, as the API does.
    async fn submit(&self, jobs: &[NewJob]) {
        self.store(jobs).await;
        self.dispatcher.offer_now(&jobs.iter().map(Ticket::from).collect::<Vec<_>>()).await.unwrap();
    }

    async fn take(&self, queue: Queue, limit: usize) -> Vec<Ticket> {
        self.dispatcher.take(queue, limit, &ANY).await.unwrap()
    }

    /// Everything that Redis has, sorted.
    async fn take_all(&self) -> Vec<JobId> {
        let mut ids = Vec::new();
        for queue in Queue::ALL {
            while let tickets @ [_, ..] = &self.take(queue, 1_000).await[..] {
                ids.extend(tickets.iter().map(|ticket| ticket.id));
            }
        }
        ids.sort();
        ids
    }

    /// Takes tickets of a queue until there are so many.
    async fn until(&self, queue: Queue, count: usize) -> Vec<JobId> {
        let (mut ids, began) = (Vec::new(), Instant::now());
        while ids.len() < count {
            ids.extend(self.take(queue, 1_000).await.iter().map(|ticket| ticket.id));
            assert!(began.elapsed() < PATIENCE, "{} of {count} came", ids.len());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        ids
    }

    /// Forgets all of this test's keys, as a FLUSHALL does.
    async fn wipe(&self) {
        let client = ::redis::Client::open(redis_url()).unwrap();
        let mut redis = client.get_multiplexed_async_connection().await.unwrap();
        let keys: Vec<String> =
            ::redis::cmd("KEYS").arg(format!("{}:*", self.prefix)).query_async(&mut redis).await.unwrap();
        assert!(!keys.is_empty());
        let _: i64 = ::redis::cmd("DEL").arg(&keys).query_async(&mut redis).await.unwrap();
        assert!(self.take_all().await.is_empty());
    }

    async fn worker(&self) -> WorkerId {
        let id = WorkerId::generate();
        let worker = NewWorker { host: "h".into(), version: "1", queues: vec!["default".into()], concurrency: 1 };
        let mut tx = self.system.system().await.unwrap();
        queries::register(&mut tx, id, &worker, Duration::from_secs(15)).await.unwrap();
        tx.commit().await.unwrap();
        id
    }

    async fn claim(&self, owner: WorkerId, tickets: Vec<Ticket>) -> Vec<Claimed> {
        let mut tx = self.system.system_relaxed().await.unwrap();
        let claimed = queries::claim(&mut tx, owner, &tickets).await.unwrap();
        tx.commit().await.unwrap();
        claimed
    }

    async fn succeed(&self, claimed: &[Claimed]) -> u64 {
        let finished = claimed.iter().map(|job| Finished {
            tenant: job.tenant,
            id: job.id,
            attempt: job.attempt,
            owner: job.owner,
            ending: Ending::Succeeded,
            result: None,
            error: None,
            detail: None,
        });
        let mut tx = self.system.system_by_index().await.unwrap();
        let accepted = queries::finish(&mut tx, &mut finished.collect::<Vec<_>>()).await.unwrap();
        tx.commit().await.unwrap();
        accepted
    }
}

fn ids<'a>(jobs: impl IntoIterator<Item = &'a NewJob>) -> Vec<JobId> {
    let mut ids: Vec<_> = jobs.into_iter().map(|job| job.id).collect();
    ids.sort();
    ids
}
