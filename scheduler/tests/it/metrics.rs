//! What a scheduler counts of its work.

use std::time::{Duration, Instant};

use millwork_scheduler::count::count_once;
use millwork_scheduler::leader;
use millwork_scheduler::metrics::METRICS;
use millwork_scheduler::reap::look;
use millwork_shared::infra::tasks;
use millwork_shared::jobs::dispatch::Ticket;
use millwork_shared::jobs::{NewJob, Queue, queries};
use millwork_shared::testing::metrics::sample;
use tokio_util::sync::CancellationToken;

use super::{PATIENCE, Yard};

fn value(yard: &Yard, series: &str) -> f64 {
    sample(&METRICS.vitals.text(&yard.test.db), series).unwrap()
}

#[tokio::test]
async fn what_the_rescan_finds_missing_is_counted_as_repaired() {
    let yard = Yard::open().await;
    let tenant = yard.tenant().await;
    let jobs: Vec<NewJob> = (0..7).map(|_| Yard::job(tenant)).collect();
    yard.submit(&jobs).await;
    let repaired = || value(&yard, "millwork_tickets_repaired_total");
    let offered = || value(&yard, r#"millwork_tickets_offered_total{reason="rescan"}"#);
    let (repaired_before, offered_before) = (repaired(), offered());
    yard.admission.rescan_once().await.unwrap();
    assert_eq!((repaired() - repaired_before, offered() - offered_before), (0.0, 7.0), "nothing was missing");

    yard.take(Queue::Default, 3).await; // as a worker that dies before its claim
    yard.admission.rescan_once().await.unwrap();
    assert_eq!(repaired() - repaired_before, 3.0);
    assert!(value(&yard, "millwork_rescan_timestamp_seconds") > 1.7e9);
    assert!(value(&yard, "millwork_rescan_seconds") > 0.0);
}

#[tokio::test]
async fn a_lost_worker_is_counted_once_and_one_that_said_goodbye_never() {
    let yard = Yard::open().await;
    let tenant = yard.tenant().await;
    let job = Yard::job(tenant);
    yard.submit(std::slice::from_ref(&job)).await;
    let series = ["millwork_workers_lost_total", r#"millwork_jobs_reaped_total{fate="requeued"}"#];
    let figures = || series.map(|series| value(&yard, series));
    let before = figures();
    let change = || [figures()[0] - before[0], figures()[1] - before[1]];
    let (lost, stopped) = (yard.worker().await, yard.worker().await);
    yard.claim(lost, vec![Ticket::from(&job)]).await;
    let mut tx = yard.system.system().await.unwrap();
    queries::say_goodbye(&mut tx, stopped).await.unwrap();
    tx.commit().await.unwrap();
    look(&yard.system).await.unwrap();
    assert_eq!(change(), [0.0, 0.0]);
    yard.test.advance(Duration::from_secs(16)).await;
    look(&yard.system).await.unwrap();
    assert_eq!(change(), [1.0, 1.0]);
    yard.test.advance(Duration::from_secs(60)).await;
    assert_eq!(look(&yard.system).await.unwrap().0, 2, "both are looked at once more");
    assert_eq!(change(), [1.0, 1.0]);
}

#[tokio::test]
async fn a_scheduler_says_whether_it_leads() {
    let yard = Yard::open().await;
    let leads = || value(&yard, "millwork_scheduler_leader");
    assert_eq!(leads(), 0.0);
    let stop = CancellationToken::new();
    let duties = |term: CancellationToken| async move { term.cancelled().await };
    let lead = tasks::spawn("lead", leader::lead(yard.test.db.clone(), stop.clone(), duties));
    let began = Instant::now();
    while leads() < 1.0 {
        assert!(began.elapsed() < PATIENCE);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    stop.cancel();
    lead.await.unwrap();
    assert_eq!(leads(), 0.0);
}

#[tokio::test]
async fn a_count_is_kept_where_every_process_reads_it() {
    let yard = Yard::open().await;
    let tenant = yard.tenant().await;
    yard.store(&(0..3).map(|_| Yard::job_of(tenant, Queue::Email, 4)).collect::<Vec<_>>()).await;
    count_once(&yard.system).await.unwrap();
    let watch = tasks::spawn("depths", METRICS.depths.watch(yard.system.clone()));
    let waiting =
        || sample(&METRICS.vitals.text(&yard.test.db), r#"millwork_queue_jobs{queue="email",state="queued"}"#);
    let began = Instant::now();
    while waiting() != Some(3.0) {
        assert!(began.elapsed() < PATIENCE);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    watch.abort();
}
