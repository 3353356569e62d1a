//! Jobs of workers that are gone.

use std::time::Duration;

use millwork_scheduler::reap::look;
use millwork_shared::jobs::dispatch::Ticket;
use millwork_shared::jobs::queries;

use super::Yard;

#[tokio::test]
async fn a_lost_workers_jobs_are_due_again_and_a_live_ones_are_left_alone() {
    let yard = Yard::open().await;
    let tenant = yard.tenant().await;
    let [lost_job, live_job] = [(); 2].map(|()| Yard::job(tenant));
    yard.submit(&[lost_job.clone(), live_job.clone()]).await;
    let (lost, live) = (yard.worker().await, yard.worker().await);
    assert_eq!(yard.claim(lost, vec![Ticket::from(&lost_job)]).await.len(), 1);
    assert_eq!(yard.claim(live, vec![Ticket::from(&live_job)]).await.len(), 1);
    assert_eq!(look(&yard.system).await.unwrap().0, 0, "nobody is lost yet");

    yard.test.advance(Duration::from_secs(16)).await;
    let mut tx = yard.system.system().await.unwrap();
    queries::heartbeat(&mut tx, live, 1, Duration::from_secs(15)).await.unwrap();
    tx.commit().await.unwrap();
    let (workers, report) = look(&yard.system).await.unwrap();
    assert_eq!((workers, report.quarantined, report.cancelled), (1, 0, 0));
    assert_eq!(report.requeued, [Ticket::from(&lost_job)]);
    let (workers, report) = look(&yard.system).await.unwrap();
    assert_eq!((workers, report.requeued.len()), (0, 0), "once is enough");

    let other = yard.worker().await;
    let again = yard.claim(other, vec![Ticket::from(&lost_job), Ticket::from(&live_job)]).await;
    assert_eq!(again.iter().map(|job| (job.id, job.attempt, job.lost)).collect::<Vec<_>>(), [(lost_job.id, 2, 1)]);
    assert_eq!(yard.succeed(&again).await, 1);
}

#[tokio::test]
async fn a_lost_workers_job_that_was_to_be_cancelled_is() {
    let yard = Yard::open().await;
    let tenant = yard.tenant().await;
    let job = Yard::job(tenant);
    yard.store(std::slice::from_ref(&job)).await;
    yard.claim(yard.worker().await, vec![Ticket::from(&job)]).await;
    let mut tx = yard.test.db.tenant(tenant).await.unwrap();
    queries::cancel(&mut tx, job.id).await.unwrap();
    tx.commit().await.unwrap();
    yard.test.advance(Duration::from_secs(16)).await;
    let (_, report) = look(&yard.system).await.unwrap();
    assert_eq!((report.cancelled, report.requeued.len()), (1, 0));
    let mut tx = yard.test.db.tenant(tenant).await.unwrap();
    assert_eq!(queries::get(&mut tx, job.id).await.unwrap().state().as_str(), "cancelled");
}

#[tokio::test]
async fn a_job_that_takes_three_workers_with_it_is_given_up() {
    let yard = Yard::open().await;
    let tenant = yard.tenant().await;
    let (poison, other) = (Yard::job(tenant), Yard::job(tenant));
    yard.store(&[poison.clone(), other.clone()]).await;
    for round in 1..=3 {
        let tickets = if round == 3 { vec![&poison, &other] } else { vec![&poison] };
        yard.claim(yard.worker().await, tickets.into_iter().map(Ticket::from).collect()).await;
        yard.test.advance(Duration::from_secs(16)).await;
        let (_, report) = look(&yard.system).await.unwrap();
        assert_eq!((report.quarantined, report.requeued.len()), (usize::from(round == 3), 1), "round {round}");
    }
    let mut tx = yard.test.db.tenant(tenant).await.unwrap();
    let poison = queries::get(&mut tx, poison.id).await.unwrap();
    assert_eq!(poison.state().as_str(), "failed");
    assert!(poison.error.unwrap().contains("worker_lost"));
    assert_eq!(queries::get(&mut tx, other.id).await.unwrap().state().as_str(), "queued", "it was only nearby");
}
