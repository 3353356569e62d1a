//! Cancellations, stops and lost leases.

use std::time::{Duration, Instant};

use millwork_shared::jobs::dispatch::Share;
use millwork_shared::jobs::queries::{self, CancelResult};
use millwork_shared::jobs::{Queue, State};
use millwork_worker::runtime::Settings;

use super::stage::{Stage, Step, settings};

const ANY: Share = Share { of: Vec::new(), rest: usize::MAX >> 1 };

#[tokio::test]
async fn a_running_handler_is_told_of_its_cancellation_within_a_second() {
    let stage = Stage::set().await;
    let _worker = stage.worker(4);
    let job = stage.play("a", [Step::UntilCancelled]);
    stage.submit(std::slice::from_ref(&job)).await;
    stage.begun(1).await;
    let asked = Instant::now();
    assert_eq!(stage.cancel(job.id).await, CancelResult::Requested);
    stage.left(1).await;
    assert!(asked.elapsed() < Duration::from_secs(1), "{:?}", asked.elapsed());
    let row = stage.until(job.id, State::Cancelled).await;
    assert_eq!((row.attempt, row.error), (1, None));
    assert_eq!(stage.endings(job.id).await, ["cancelled"]);
}

#[tokio::test]
async fn a_handler_that_does_not_listen_is_dropped() {
    let stage = Stage::set().await;
    let _worker = stage.worker(1);
    let job = stage.play("deaf", [Step::Hang]);
    stage.submit(std::slice::from_ref(&job)).await;
    stage.begun(1).await;
    stage.cancel(job.id).await;
    stage.until(job.id, State::Cancelled).await;
    stage.left(1).await;
    let next = stage.play("next", [Step::Done("1".into())]);
    stage.submit(std::slice::from_ref(&next)).await;
    stage.until(next.id, State::Succeeded).await;
}

#[tokio::test]
async fn a_cancelled_job_does_not_run_again_whatever_its_handler_says() {
    let stage = Stage::set().await;
    let _worker = stage.worker(8);
    let then = |step| Step::UntilCancelledThen(Box::new(step));
    let ends = [
        (then(Step::Retry { after_s: Some(0) }), State::Cancelled),
        (then(Step::Snooze(Duration::from_secs(60))), State::Cancelled),
        (then(Step::Fail), State::Failed),
        (then(Step::Done("1".into())), State::Succeeded), // too late: the work is done
    ];
    let jobs = ends.clone().map(|(step, _)| stage.play(&format!("{step:?}"), [step]));
    stage.submit(&jobs).await;
    stage.begun(4).await;
    for job in &jobs {
        stage.cancel(job.id).await;
    }
    for (job, (_, end)) in jobs.iter().zip(ends) {
        stage.until(job.id, end).await;
    }
}

#[tokio::test]
async fn a_wish_to_cancel_that_comes_too_late_for_its_worker_is_not_lost() {
    let stage = Stage::set().await;
    for step in [Step::Retry { after_s: Some(60) }, Step::Snooze(Duration::from_secs(60))] {
        let worker = stage.worker(1);
        let job = stage.play(&format!("{step:?}"), [step]);
        // The wish is in the ledger before the worker can have seen it: the handler is done within microseconds.
        let wish = format!("insert into job_cancels (tenant_id, job_id) values ('{}', '{}')", job.tenant, job.id);
        stage.world.db.sql(wish).await;
        let mark = "alter table job_live alter column unwanted set default true";
        stage.world.db.sql(mark).await;
        stage.submit(std::slice::from_ref(&job)).await;
        stage.until(job.id, State::Cancelled).await;
        worker.stop().await;
    }
}

#[tokio::test]
async fn a_job_that_was_cancelled_can_be_run_again() {
    let stage = Stage::set().await;
    let _worker = stage.worker(4);
    let job = stage.play("a", [Step::UntilCancelled, Step::AtTheGate]);
    stage.submit(std::slice::from_ref(&job)).await;
    stage.begun(1).await;
    stage.cancel(job.id).await;
    stage.until(job.id, State::Cancelled).await;

    let mut tx = stage.world.db.db.tenant(stage.world.tenant).await.unwrap();
    queries::retry_now(&mut tx, job.id).await.unwrap();
    tx.commit().await.unwrap();
    stage.offer(std::slice::from_ref(&job)).await;
    stage.begun(2).await;
    // By the time that another wish has arrived, an old one would have arrived too.
    let witness = stage.play("witness", [Step::UntilCancelled]);
    stage.submit(std::slice::from_ref(&witness)).await;
    stage.begun(3).await;
    stage.cancel(witness.id).await;
    stage.until(witness.id, State::Cancelled).await;
    stage.gate.add_permits(1);
    let row = stage.until(job.id, State::Succeeded).await;
    assert_eq!(row.attempt, 2);
}

#[tokio::test]
async fn a_stop_lets_running_handlers_finish() {
    let stage = Stage::set().await;
    let worker = stage.worker_with(Settings { grace: Duration::from_secs(20), ..settings() });
    let job = stage.play("a", [Step::AtTheGate]);
    stage.submit(std::slice::from_ref(&job)).await;
    stage.begun(1).await;
    let (took, ()) = tokio::join!(worker.stop(), async {
        tokio::time::sleep(Duration::from_millis(50)).await;
        stage.gate.add_permits(1);
    });
    assert_eq!(stage.job(job.id).await.state(), State::Succeeded);
    assert!(took < Duration::from_secs(2), "an idle worker does not wait out its grace: {took:?}");
}

#[tokio::test]
async fn a_stop_hands_back_what_has_not_finished_at_no_cost() {
    let stage = Stage::set().await;
    let worker = stage.worker(4);
    let slow = stage.play("slow", [Step::Hang, Step::Done("1".into())]);
    // Told to stop, it ends as cancelled; but nobody asked for the job's cancellation.
    let polite = stage.play("polite", [Step::UntilCancelled, Step::Done("1".into())]);
    let retrying = Step::UntilCancelledThen(Box::new(Step::Retry { after_s: Some(3_600) }));
    let retrying = stage.play("retrying", [retrying, Step::Done("1".into())]);
    let jobs = [slow, polite, retrying];
    stage.submit(&jobs).await;
    stage.begun(3).await;
    worker.stop().await;
    for job in &jobs {
        let row = stage.job(job.id).await;
        assert_eq!((row.state(), row.attempt, row.error), (State::Queued, 0, None));
    }
    let tickets = stage.dispatcher.take(Queue::Default, 10, &ANY).await.unwrap();
    assert_eq!(tickets.len(), 3, "they are offered to other workers at once");

    stage.offer(&jobs).await;
    let _other = stage.worker(4);
    for job in &jobs {
        let row = stage.until(job.id, State::Succeeded).await;
        assert_eq!(row.attempt, 1);
        assert_eq!(stage.endings(job.id).await, ["succeeded"]);
    }
}

#[tokio::test]
async fn a_claim_that_is_under_way_does_not_hold_up_a_stop() {
    let stage = Stage::set().await;
    let grace = Duration::from_secs(8);
    let worker = stage.worker_with(Settings { grace, ..settings() });
    stage.submit(&[stage.play("running", [Step::AtTheGate])]).await;
    stage.begun(1).await;
    let job = stage.play("claimed", [Step::Done("1".into())]);
    let mut tx = stage.world.db.db.tenant(stage.world.tenant).await.unwrap();
    queries::enqueue(&mut tx, std::slice::from_ref(&job)).await.unwrap();
    tx.commit().await.unwrap();
    let mut lock = stage.world.db.db.tenant(stage.world.tenant).await.unwrap();
    queries::cancel(&mut lock, job.id).await.unwrap(); // undone below
    stage.offer(std::slice::from_ref(&job)).await;
    // The claim waits for our lock, the stop comes, and then the claim succeeds.
    let waiting =
        "select pid::text from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'";
    let began = Instant::now();
    while stage.world.db.sql(waiting).await.is_empty() {
        assert!(began.elapsed() < Duration::from_secs(5), "the worker claims");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let (took, ()) = tokio::join!(worker.stop(), async {
        tokio::time::sleep(Duration::from_millis(50)).await;
        drop(lock);
        tokio::time::sleep(Duration::from_millis(50)).await;
        stage.gate.add_permits(1);
    });
    let row = stage.job(job.id).await;
    assert_eq!((row.state(), row.attempt), (State::Queued, 0));
    assert!(took < grace, "{took:?}");
    assert_eq!(stage.names(), ["running"]);
}

#[tokio::test]
async fn a_worker_whose_lease_was_taken_away_starts_afresh_and_its_late_result_is_refused() {
    let stage = Stage::set().await;
    let _worker = stage.worker(1);
    let job = stage.play("a", [Step::UntilCancelledThen(Box::new(Step::Fail)), Step::AtTheGate]);
    stage.submit(std::slice::from_ref(&job)).await;
    stage.begun(1).await;
    let first = stage.attempts(job.id).await[0].worker_id.unwrap();

    let lost = stage.take_leases_away().await;
    assert_eq!(lost, [first]);
    stage.offer(std::slice::from_ref(&job)).await;

    stage.begun(2).await;
    stage.left(1).await; // the first run's failure is on its way
    let again = stage.attempts(job.id).await;
    assert_eq!(again.iter().map(|a| (a.ended.as_str(), a.attempt)).collect::<Vec<_>>(), [("running", 2), ("lost", 1)]);
    assert_ne!(again[0].worker_id.unwrap(), first);
    stage.gate.add_permits(1);
    let row = stage.until(job.id, State::Succeeded).await;
    assert_eq!((row.attempt, row.error), (2, None));
    assert_eq!(stage.runs(), [("a".to_owned(), 1), ("a".to_owned(), 1)], "a lost worker is not the job's fault");
}

#[tokio::test]
async fn a_job_that_ran_before_under_a_lost_lease_can_still_be_cancelled() {
    let stage = Stage::set().await;
    let _worker = stage.worker(2);
    let job = stage.play("a", [Step::UntilCancelledThen(Box::new(Step::Fail)), Step::UntilCancelled]);
    stage.submit(std::slice::from_ref(&job)).await;
    stage.begun(1).await;
    stage.take_leases_away().await;
    stage.offer(std::slice::from_ref(&job)).await;
    stage.begun(2).await;
    let witness = stage.play("witness", [Step::Done("1".into())]);
    stage.submit(std::slice::from_ref(&witness)).await; // by its end the late result has been dealt with
    stage.until(witness.id, State::Succeeded).await;
    stage.cancel(job.id).await;
    stage.until(job.id, State::Cancelled).await;
}

#[tokio::test]
async fn a_stopped_worker_says_goodbye() {
    let stage = Stage::set().await;
    let worker = stage.worker(1);
    let job = stage.play("a", [Step::Done("1".into())]);
    stage.submit(std::slice::from_ref(&job)).await;
    stage.until(job.id, State::Succeeded).await;
    let alive = || async {
        let mut tx = stage.world.db.db.tenant(stage.world.tenant).await.unwrap();
        queries::list_alive(&mut tx).await.unwrap()
    };
    let workers = alive().await;
    assert_eq!((workers.len(), workers[0].concurrency), (1, 1));
    assert_eq!(workers[0].queues, ["default"]);
    worker.stop().await;
    assert!(alive().await.is_empty());
}
