//! From the ledger to Redis, and back after Redis forgot.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use chrono::TimeDelta;
use millwork_scheduler::admit::LONGEST_WAIT;
use millwork_shared::infra::ids::JobId;
use millwork_shared::infra::{redis, tasks};
use millwork_shared::jobs::dispatch::{Lane, WINDOW};
use millwork_shared::jobs::{Due, NewJob, Priority, Queue, queries};

use super::{PATIENCE, Yard, ids};

impl Yard {
    /// Answers demands in one queue until the guard is dropped.
    fn answer(&self, queue: Queue) -> impl Sized {
        let connection = redis::connect_blocking(&self.client, LONGEST_WAIT).unwrap();
        Abort(tasks::spawn("answer", self.admission.clone().answer_demands(queue, connection)))
    }

    fn admit_due(&self) -> impl Sized {
        Abort(tasks::spawn("due", self.admission.clone().admit_due()))
    }
}

struct Abort(tokio::task::JoinHandle<Option<()>>);

impl Drop for Abort {
    fn drop(&mut self) {
        self.0.abort();
    }
}

#[tokio::test]
async fn what_redis_forgot_is_put_back_and_nothing_else() {
    let yard = Yard::open().await;
    let (acme, other) = (yard.tenant().await, yard.tenant().await);
    let mut due = Vec::new();
    for queue in [Queue::Default, Queue::Email, Queue::Maintenance] {
        for priority in [0, 4, 9] {
            due.extend([acme, other].map(|tenant| Yard::job_of(tenant, queue, priority)));
            due.push(Yard::job_of(acme, queue, priority));
        }
    }
    let later = NewJob { due: Due::In(Duration::from_secs(3_600)), ..Yard::job(acme) };
    let held_back = Yard::job_of(other, Queue::Files, 4);
    let (running, ended) = (Yard::job(acme), Yard::job(acme));
    let mut tx = yard.test.db.tenant(other).await.unwrap();
    queries::pause(&mut tx, Queue::Files).await.unwrap();
    tx.commit().await.unwrap();
    yard.submit(&due).await;
    yard.submit(&[later, held_back, running.clone(), ended.clone()]).await;
    let worker = yard.worker().await;
    yard.claim(worker, vec![(&running).into()]).await;
    let claimed = yard.claim(worker, vec![(&ended).into()]).await;
    assert_eq!(yard.succeed(&claimed).await, 1);

    yard.wipe().await;
    yard.admission.rescan_once().await.unwrap();
    assert_eq!(yard.take_all().await, ids(&due));
}

#[tokio::test]
async fn a_comparison_changes_nothing_where_nothing_is_missing() {
    let yard = Yard::open().await;
    let tenant = yard.tenant().await;
    let jobs: Vec<_> = (0..10).map(|n| Yard::job_of(tenant, Queue::Default, n % 3)).collect();
    yard.submit(&jobs).await;
    for _ in 0..3 {
        yard.admission.rescan_once().await.unwrap();
    }
    assert_eq!(yard.take_all().await, ids(&jobs));
}

/// Works off so many jobs of a queue, in the order of their tickets. A ticket that comes twice is claimed once.
async fn drain(yard: &Yard, queue: Queue, count: usize) -> Vec<JobId> {
    let worker = yard.worker().await;
    let (mut order, began) = (Vec::new(), Instant::now());
    while order.len() < count {
        assert!(began.elapsed() < PATIENCE, "{} of {count} came", order.len());
        let tickets = yard.take(queue, 300).await;
        if tickets.is_empty() {
            tokio::time::sleep(Duration::from_millis(5)).await;
            continue;
        }
        let claimed = yard.claim(worker, tickets.clone()).await;
        assert_eq!(yard.succeed(&claimed).await as usize, claimed.len());
        let claimed: HashSet<_> = claimed.iter().map(|job| job.id).collect();
        order.extend(tickets.iter().map(|ticket| ticket.id).filter(|id| claimed.contains(id)));
    }
    order
}

#[tokio::test]
async fn a_backlog_larger_than_the_window_drains_in_its_order_on_demand_alone() {
    let yard = Yard::open().await;
    let tenant = yard.tenant().await;
    let backlog: Vec<_> = (0..2 * WINDOW + 500).map(|_| Yard::job(tenant)).collect();
    yard.store(&backlog).await;
    yard.admission.rescan_once().await.unwrap();
    let lane = Lane { queue: Queue::Default, tenant, priority: Priority::DEFAULT };
    assert_eq!(yard.dispatcher.room(Queue::Default, &[lane]).await.unwrap(), [0], "the window is full");

    let _answering = yard.answer(Queue::Default);
    let late: Vec<_> = (0..50).map(|_| Yard::job(tenant)).collect();
    yard.submit(&late).await; // behind the backlog, although a window has room now and then
    let order = drain(&yard, Queue::Default, backlog.len() + late.len()).await;
    let expected: Vec<_> = backlog.iter().chain(&late).map(|job| job.id).collect();
    assert!(order == expected, "{:?}", order.iter().zip(&expected).position(|(a, b)| a != b));
}

#[tokio::test]
async fn a_backlog_that_came_by_intake_drains_in_its_order_too() {
    let yard = Yard::open().await;
    let tenant = yard.tenant().await;
    let jobs: Vec<_> = (0..2 * WINDOW).map(|_| Yard::job(tenant)).collect();
    for part in jobs.chunks(500) {
        yard.submit(part).await;
    }
    let _answering = yard.answer(Queue::Default);
    let order = drain(&yard, Queue::Default, jobs.len()).await;
    assert!(order == ids(&jobs));
}

#[tokio::test]
async fn a_backlog_survives_the_loss_of_redis_in_the_middle() {
    let yard = Yard::open().await;
    let tenant = yard.tenant().await;
    let backlog: Vec<_> = (0..2 * WINDOW + 500).map(|_| Yard::job(tenant)).collect();
    yard.store(&backlog).await;
    yard.admission.rescan_once().await.unwrap();
    let answering = yard.answer(Queue::Default);
    let mut order = drain(&yard, Queue::Default, 1_800).await; // the cursor is far ahead of what was taken
    yard.dispatcher.demands(Queue::Default).await.unwrap();
    drop(answering);
    yard.wipe().await;
    // A job that is submitted before the scheduler notices: the window is not empty then.
    let late = Yard::job(tenant);
    yard.submit(std::slice::from_ref(&late)).await;
    let _answering = yard.answer(Queue::Default);
    yard.admission.rescan_once().await.unwrap();
    order.extend(drain(&yard, Queue::Default, backlog.len() + 1 - order.len()).await);
    let seen: HashSet<_> = order.iter().copied().collect();
    assert_eq!((seen.len(), order.len()), (backlog.len() + 1, backlog.len() + 1));
}

/// Dead rows of an old transaction's time must not be read for every demand: their number has no bound.
#[tokio::test]
async fn a_demand_reads_on_where_the_lane_ended_and_a_comparison_from_its_head() {
    let yard = Yard::open().await;
    let tenant = yard.tenant().await;
    let jobs: Vec<_> = (0..WINDOW + 100).map(|_| Yard::job(tenant)).collect();
    yard.submit(&jobs).await; // more than a window
    let _answering = yard.answer(Queue::Default);
    assert!(drain(&yard, Queue::Default, jobs.len()).await == ids(&jobs));

    let forgotten = NewJob { due: Due::At(jobs[0].created_at() - TimeDelta::minutes(1)), ..Yard::job(tenant) };
    yard.store(std::slice::from_ref(&forgotten)).await;
    let more: Vec<_> = (0..2 * WINDOW + 100).map(|_| Yard::job(tenant)).collect();
    yard.submit(&more).await;
    assert!(drain(&yard, Queue::Default, more.len()).await == ids(&more));
    yard.admission.rescan_once().await.unwrap();
    assert_eq!(yard.take_all().await, ids(&[forgotten]));
}

#[tokio::test]
async fn a_flood_does_not_hold_up_a_higher_priority_or_another_tenant() {
    let yard = Yard::open().await;
    let (flood, quiet) = (yard.tenant().await, yard.tenant().await);
    let backlog: Vec<_> = (0..WINDOW + 100).map(|_| Yard::job(flood)).collect();
    yard.submit(&backlog).await;
    let urgent = Yard::job_of(flood, Queue::Default, 9);
    let modest = Yard::job_of(quiet, Queue::Default, 0);
    yard.store(&[urgent.clone(), modest.clone()]).await; // whose tickets were lost
    yard.admission.rescan_once().await.unwrap();
    let first: HashSet<_> = yard.take(Queue::Default, 2).await.iter().map(|ticket| ticket.id).collect();
    assert_eq!(first, HashSet::from([urgent.id, modest.id]));
}

#[tokio::test]
async fn a_job_for_later_stays_in_the_ledger_until_its_time() {
    let yard = Yard::open().await;
    let tenant = yard.tenant().await;
    let at = yard.test.clock.now() + chrono::TimeDelta::seconds(1_000);
    let near = NewJob { due: Due::In(Duration::from_secs(10)), ..Yard::job(tenant) };
    let far = NewJob { due: Due::At(at), ..Yard::job(tenant) };
    yard.store(&[near.clone(), far.clone()]).await;
    let _due = yard.admit_due();
    yard.admission.rescan_once().await.unwrap();
    assert!(yard.take_all().await.is_empty());
    yard.test.advance(Duration::from_secs(11)).await;
    assert_eq!(yard.until(Queue::Default, 1).await, [near.id]);
    yard.test.advance(Duration::from_secs(1_000)).await;
    assert_eq!(yard.until(Queue::Default, 1).await, [far.id]);
    assert!(yard.take_all().await.is_empty(), "each is offered once");
}

#[tokio::test]
async fn jobs_of_one_moment_are_all_offered_at_it_however_many() {
    let yard = Yard::open().await;
    let mut jobs = Vec::new();
    let at = yard.test.clock.now() + chrono::TimeDelta::seconds(60);
    for _ in 0..4 {
        let tenant = yard.tenant().await;
        jobs.extend((0..1_500).map(|_| NewJob { due: Due::At(at), ..Yard::job(tenant) }));
    }
    yard.store(&jobs).await;
    let _due = yard.admit_due();
    yard.test.advance(Duration::from_secs(61)).await;
    let mut offered = yard.until(Queue::Default, jobs.len()).await;
    offered.sort();
    assert!(offered == ids(&jobs));
}

#[tokio::test]
async fn a_retried_job_is_offered_when_its_wait_is_over() {
    let yard = Yard::open().await;
    let tenant = yard.tenant().await;
    let job = Yard::job(tenant);
    yard.store(std::slice::from_ref(&job)).await;
    let claimed = yard.claim(yard.worker().await, vec![(&job).into()]).await.remove(0);
    let retried = queries::Retried {
        tenant,
        id: job.id,
        attempt: 1,
        owner: claimed.owner,
        wait: Duration::from_secs(60),
        error: millwork_shared::jobs::JobError::new("later", "not yet"),
        detail: None,
    };
    let mut tx = yard.system.system().await.unwrap();
    queries::retry(&mut tx, &mut [retried]).await.unwrap();
    tx.commit().await.unwrap();
    let _due = yard.admit_due();
    yard.admission.rescan_once().await.unwrap();
    assert!(yard.take_all().await.is_empty());
    yard.test.advance(Duration::from_secs(61)).await;
    assert_eq!(yard.until(Queue::Default, 1).await, [job.id]);
}

#[tokio::test]
async fn a_paused_tenants_jobs_wait_and_come_when_it_resumes() {
    let yard = Yard::open().await;
    let (paused, other) = (yard.tenant().await, yard.tenant().await);
    let mut tx = yard.test.db.tenant(paused).await.unwrap();
    queries::pause(&mut tx, Queue::Default).await.unwrap();
    tx.commit().await.unwrap();
    let waiting: Vec<_> = (0..5).map(|n| Yard::job_of(paused, Queue::Default, n)).collect();
    let quick = Yard::job(other);
    yard.submit(&waiting).await; // Redis does not know of the pause yet
    yard.store(std::slice::from_ref(&quick)).await;
    yard.admission.rescan_once().await.unwrap();
    assert_eq!(yard.take_all().await, [quick.id]);

    let _answering = yard.answer(Queue::Default);
    let mut tx = yard.test.db.tenant(paused).await.unwrap();
    queries::resume(&mut tx, Queue::Default).await.unwrap();
    tx.commit().await.unwrap();
    yard.dispatcher.resume(Queue::Default, paused).await.unwrap();
    let mut come = yard.until(Queue::Default, waiting.len()).await;
    come.sort();
    assert_eq!(come, ids(&waiting));
}

#[tokio::test]
async fn what_a_pause_took_out_of_redis_comes_first_when_it_is_over() {
    let yard = Yard::open().await;
    let tenant = yard.tenant().await;
    let backlog: Vec<_> = (0..2 * WINDOW).map(|_| Yard::job(tenant)).collect();
    yard.submit(&backlog).await;
    let _answering = yard.answer(Queue::Default);
    let mut order = drain(&yard, Queue::Default, WINDOW / 2 + 300).await; // the lane was read on from its cursor
    yard.dispatcher.pause(Queue::Default, tenant).await.unwrap();
    yard.dispatcher.resume(Queue::Default, tenant).await.unwrap();
    order.extend(drain(&yard, Queue::Default, backlog.len() - order.len()).await);
    assert!(order == ids(&backlog));
}
