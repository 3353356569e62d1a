//! How many jobs the queues hold.

use std::time::Duration;

use millwork_shared::infra::metrics::Registry;
use millwork_shared::jobs::depths::DepthGauges;
use millwork_shared::jobs::queries::{self, CountedQueue, Retried};
use millwork_shared::jobs::{Due, JobError, NewJob, Queue};
use millwork_shared::testing::metrics::sample;

use super::Ledger;

impl Ledger {
    async fn count(&self) -> Vec<CountedQueue> {
        let mut tx = self.system.system().await.unwrap();
        queries::allow_long_count(&mut tx).await.unwrap();
        queries::count_queues(&mut tx).await.unwrap();
        let counted = queries::list_counted_queues(&mut tx).await.unwrap();
        tx.commit().await.unwrap();
        counted
    }
}

fn of(counted: &[CountedQueue], queue: Queue) -> &CountedQueue {
    counted.iter().find(|counted| counted.queue == queue.as_str()).unwrap()
}

#[tokio::test]
async fn every_queue_is_counted_by_state_and_a_count_replaces_the_one_before() {
    let ledger = Ledger::create().await;
    let in_an_hour = NewJob { due: Due::In(Duration::from_secs(3_600)), ..ledger.job() };
    let jobs: Vec<NewJob> = (0..4).map(|_| ledger.job()).collect();
    let (running, retrying, ended) = (&jobs[..1], &jobs[1..2], &jobs[2..3]);
    ledger.store(&jobs).await;
    ledger.store(&[in_an_hour, NewJob { queue: Queue::Files, ..ledger.job() }]).await;
    let worker = ledger.worker().await;
    ledger.claim(worker, running).await;
    ledger.finish(&ledger.claim(worker, ended).await[0], queries::Ending::Succeeded).await;
    let failed = ledger.claim(worker, retrying).await.remove(0);
    let mut tx = ledger.system.system().await.unwrap();
    let retried = Retried {
        tenant: failed.tenant,
        id: failed.id,
        attempt: failed.attempt,
        owner: failed.owner,
        wait: Duration::from_secs(600),
        error: JobError::new("boom", "it broke"),
        detail: None,
    };
    assert_eq!(queries::retry(&mut tx, &mut [retried]).await.unwrap().len(), 1);
    tx.commit().await.unwrap();
    let mut tx = ledger.tenant().await;
    queries::pause(&mut tx, Queue::Files).await.unwrap();
    tx.commit().await.unwrap();

    let counted = ledger.count().await;
    assert_eq!(counted.len(), Queue::ALL.len());
    let figures = |c: &CountedQueue| [c.queued, c.paused, c.scheduled, c.retrying, c.running, c.workers];
    assert_eq!(figures(of(&counted, Queue::Default)), [1, 0, 1, 1, 1, 1]);
    assert_eq!(figures(of(&counted, Queue::Files)), [0, 1, 0, 0, 0, 0], "what its tenant holds back waits for nobody");
    assert_eq!(figures(of(&counted, Queue::Email)), [0; 6]);

    ledger.test.advance(Duration::from_secs(700)).await; // what was to be tried again is due, and the worker is gone
    let later = ledger.count().await;
    assert_eq!(later.len(), Queue::ALL.len());
    assert_eq!(figures(of(&later, Queue::Default)), [2, 0, 1, 0, 1, 0]);
    assert!(of(&later, Queue::Default).counted_at > of(&counted, Queue::Default).counted_at);
}

#[tokio::test]
async fn the_oldest_age_is_that_of_a_job_which_somebody_could_take() {
    let ledger = Ledger::create().await;
    assert_eq!(of(&ledger.count().await, Queue::Default).oldest_age_ms, None);
    ledger.store(&[NewJob { queue: Queue::Email, ..ledger.job() }]).await;
    let mut tx = ledger.tenant().await;
    queries::pause(&mut tx, Queue::Email).await.unwrap();
    tx.commit().await.unwrap();
    ledger.store(&[ledger.job(), NewJob { due: Due::In(Duration::from_secs(60)), ..ledger.job() }]).await;
    ledger.test.advance(Duration::from_secs(30)).await;
    let counted = ledger.count().await;
    let age_ms = of(&counted, Queue::Default).oldest_age_ms.unwrap();
    assert!((30_000..40_000).contains(&age_ms), "{age_ms}");
    assert_eq!(of(&counted, Queue::Email).oldest_age_ms, None, "it is paused");

    let registry = Registry::default();
    let gauges = DepthGauges::register(&registry);
    assert_eq!(sample(&registry.text(), "millwork_queue_counted_timestamp_seconds"), Some(0.0));
    gauges.show(&counted);
    let page = registry.text();
    let series = |series: &str| sample(&page, series).unwrap();
    assert_eq!(series(r#"millwork_queue_oldest_age_seconds{queue="default"}"#), age_ms as f64 / 1_000.0);
    assert_eq!(series(r#"millwork_queue_jobs{queue="default",state="queued"}"#), 1.0);
    assert_eq!(series(r#"millwork_queue_jobs{queue="default",state="scheduled"}"#), 1.0);
    assert_eq!(series(r#"millwork_queue_jobs{queue="email",state="paused"}"#), 1.0);
    assert_eq!(series(r#"millwork_queue_oldest_age_seconds{queue="email"}"#), 0.0);
    assert!(series("millwork_queue_counted_timestamp_seconds") > 1.7e9);
}

#[tokio::test]
async fn no_tenant_sees_how_much_all_tenants_have_waiting() {
    let ledger = Ledger::create().await;
    ledger.count().await;
    let mut tx = ledger.tenant().await;
    assert!(queries::list_counted_queues(&mut tx).await.is_err());
}
