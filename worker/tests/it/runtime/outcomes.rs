//! What a handler says, and what the ledger makes of it.

use std::time::Duration;

use millwork_shared::jobs::retry::LONGEST;
use millwork_shared::jobs::{NewJob, State};
use serde_json::value::RawValue;

use super::stage::{Stage, Step, error};

fn raw(json: &str) -> Box<RawValue> {
    RawValue::from_string(json.to_owned()).unwrap()
}

#[tokio::test]
async fn a_job_that_succeeds_shows_its_result_as_the_handler_gave_it() {
    let stage = Stage::set().await;
    let _worker = stage.worker(4);
    let result = r#"{"b":1.10,"a":"\u0000\ud83d\ude00"}"#;
    let job = stage.play("a", [Step::Done(result.into())]);
    stage.submit(std::slice::from_ref(&job)).await;
    let row = stage.until(job.id, State::Succeeded).await;
    assert_eq!(row.result.as_deref(), Some(result));
    assert_eq!((row.attempt, row.error), (1, None));
    assert!(row.started_at.unwrap() <= row.finished_at.unwrap());
    assert_eq!(stage.runs(), [("a".to_owned(), 1)]);
}

#[tokio::test]
async fn a_failed_attempt_waits_in_the_ledger_as_long_as_it_asked_and_then_runs_again() {
    let stage = Stage::set().await;
    let _worker = stage.worker(4);
    let job = stage.play("a", [Step::Retry { after_s: Some(60) }, Step::Done("1".into())]);
    stage.submit(std::slice::from_ref(&job)).await;
    let row = stage.until(job.id, State::Retrying).await;
    assert_eq!((row.attempt, error(&row).code.as_str()), (1, "later"));
    let waits_s = (row.run_at - stage.attempts(job.id).await[0].finished_at.unwrap()).num_seconds();
    assert_eq!(waits_s, 60);

    let witness = stage.play("witness", [Step::Done("1".into())]);
    stage.offer(std::slice::from_ref(&job)).await; // too early: a stray ticket
    stage.submit(std::slice::from_ref(&witness)).await;
    stage.until(witness.id, State::Succeeded).await;
    assert_eq!(stage.job(job.id).await.state(), State::Retrying);

    stage.again_after(&job, Duration::from_secs(61)).await;
    let row = stage.until(job.id, State::Succeeded).await;
    assert_eq!((row.attempt, row.error), (2, None), "a success leaves no error behind");
    assert_eq!(stage.endings(job.id).await, ["succeeded", "retry"]);
}

#[tokio::test]
async fn a_failure_without_a_wish_waits_by_the_backoff() {
    let stage = Stage::set().await;
    let _worker = stage.worker(4);
    let own = stage.play("own", [Step::Retry { after_s: None }]);
    let store = stage.play("store", [Step::StoreDown]);
    stage.submit(&[own.clone(), store.clone()]).await;
    for (job, code) in [(own, "later"), (store, "unavailable")] {
        let row = stage.until(job.id, State::Retrying).await;
        assert_eq!(error(&row).code, code);
        let waits_ms = (row.run_at - stage.attempts(job.id).await[0].finished_at.unwrap()).num_milliseconds();
        assert!((500..=2_000).contains(&waits_ms), "{waits_ms}");
    }
}

#[tokio::test]
async fn a_failure_for_good_ends_the_job() {
    let stage = Stage::set().await;
    let _worker = stage.worker(4);
    let job = stage.play("a", [Step::Fail]);
    stage.submit(std::slice::from_ref(&job)).await;
    let row = stage.until(job.id, State::Failed).await;
    assert_eq!((row.attempt, error(&row).code.as_str(), row.result), (1, "never", None));
    assert_eq!(stage.endings(job.id).await, ["failed"]);
}

#[tokio::test]
async fn a_panic_is_a_failed_attempt_and_its_slot_is_free_again() {
    let stage = Stage::set().await;
    let _worker = stage.worker(1);
    for step in [Step::Panic, Step::PanicAtOnce] {
        let job = stage.play(&format!("{step:?}"), [step]);
        stage.submit(std::slice::from_ref(&job)).await;
        let row = stage.until(job.id, State::Retrying).await;
        assert_eq!(error(&row).code, "panic");
        let next = stage.play("next", [Step::Done("1".into())]);
        stage.submit(std::slice::from_ref(&next)).await;
        stage.until(next.id, State::Succeeded).await;
    }
}

#[tokio::test]
async fn a_handler_that_takes_longer_than_its_timeout_is_dropped_and_tried_again() {
    let stage = Stage::set().await;
    let _worker = stage.worker(1);
    let job = NewJob { timeout_ms: 100, ..stage.play("a", [Step::Hang, Step::Done("1".into())]) };
    stage.submit(std::slice::from_ref(&job)).await;
    let row = stage.until(job.id, State::Retrying).await;
    assert_eq!(error(&row).code, "timeout");
    assert!(error(&row).message.contains("100 ms"), "{row:?}");
    stage.left(1).await;
    stage.again_after(&job, Duration::from_secs(60)).await;
    stage.until(job.id, State::Succeeded).await;
}

#[tokio::test]
async fn a_snooze_costs_no_attempt_and_leaves_no_trace() {
    let stage = Stage::set().await;
    let _worker = stage.worker(4);
    let snooze = Step::Snooze(Duration::from_secs(60));
    let job = NewJob { max_attempts: 1, ..stage.play("a", [snooze.clone(), snooze, Step::Done("1".into())]) };
    stage.submit(std::slice::from_ref(&job)).await;
    for _ in 0..2 {
        let row = stage.until(job.id, State::Scheduled).await;
        assert_eq!((row.attempt, row.error), (0, None));
        stage.again_after(&job, Duration::from_secs(61)).await;
    }
    let row = stage.until(job.id, State::Succeeded).await;
    assert_eq!(row.attempt, 1);
    assert_eq!(stage.endings(job.id).await, ["succeeded"]);
    assert_eq!(stage.runs(), [("a".to_owned(), 1), ("a".to_owned(), 1), ("a".to_owned(), 1)]);
}

#[tokio::test]
async fn a_snooze_without_bounds_is_as_long_as_a_wait_may_be() {
    let stage = Stage::set().await;
    let _worker = stage.worker(4);
    let job = stage.play("a", [Step::Snooze(Duration::MAX)]);
    stage.submit(std::slice::from_ref(&job)).await;
    let row = stage.until(job.id, State::Scheduled).await;
    let waits = (row.run_at - stage.world.db.clock.now()).to_std().unwrap();
    assert!(waits <= LONGEST && waits > LONGEST / 2, "{waits:?}");
}

#[tokio::test]
async fn attempts_are_used_up_and_then_the_job_has_failed() {
    let stage = Stage::set().await;
    let _worker = stage.worker(4);
    let job = NewJob { max_attempts: 3, ..stage.play("a", [Step::Retry { after_s: Some(1) }]) };
    stage.submit(std::slice::from_ref(&job)).await;
    for _ in 0..2 {
        stage.until(job.id, State::Retrying).await;
        stage.again_after(&job, Duration::from_secs(2)).await;
    }
    let row = stage.until(job.id, State::Failed).await;
    assert_eq!((row.attempt, error(&row).code.as_str()), (3, "later"));
    assert_eq!(stage.endings(job.id).await, ["failed", "retry", "retry"]);
}

#[tokio::test]
async fn a_kind_without_a_handler_waits_for_a_worker_that_has_one() {
    let stage = Stage::set().await;
    let _worker = stage.worker(4);
    let job = NewJob { kind: "test.unknown".into(), ..stage.play("a", [Step::Fail]) };
    stage.submit(std::slice::from_ref(&job)).await;
    let row = stage.until(job.id, State::Retrying).await;
    assert_eq!(error(&row).code, "kind_unknown");
    assert!(error(&row).message.contains("test.unknown"), "{row:?}");
}

#[tokio::test]
async fn a_payload_that_does_not_fit_its_kind_fails_for_good() {
    let stage = Stage::set().await;
    let _worker = stage.worker(4);
    for payload in ["{}", "null", "[]", r#"{"name":"a","steps":["Dance"]}"#] {
        let job = NewJob { payload: raw(payload), ..stage.play("a", [Step::Fail]) };
        stage.submit(std::slice::from_ref(&job)).await;
        let row = stage.until(job.id, State::Failed).await;
        assert_eq!((row.attempt, error(&row).code.as_str()), (1, "payload_invalid"), "{payload}");
    }
    assert!(stage.runs().is_empty());
}

#[tokio::test]
async fn a_result_that_is_too_large_fails_its_own_job_alone() {
    const LARGEST: usize = 1024 * 1024;
    let stage = Stage::set().await;
    let sizes = [2, LARGEST, LARGEST + 1, LARGEST, 8 * LARGEST, 2];
    let jobs = sizes.map(|size| stage.play(&size.to_string(), [Step::DoneWith(size)]));
    stage.submit(&jobs).await;
    let _worker = stage.worker(jobs.len());
    for (job, size) in jobs.iter().zip(sizes) {
        if size <= LARGEST {
            let row = stage.until(job.id, State::Succeeded).await;
            assert_eq!(row.result.map(|result| result.len()), Some(size));
        } else {
            let row = stage.until(job.id, State::Failed).await;
            assert_eq!((error(&row).code.as_str(), &row.result), ("result_too_large", &None));
            assert!(error(&row).message.contains(&size.to_string()), "{:?}", row.error);
        }
    }
}

#[tokio::test]
async fn what_a_batch_cannot_store_fails_its_own_job_alone() {
    let stage = Stage::set().await;
    let jobs = ["a", "b", "c"].map(|name| stage.play(name, [Step::Done("1".into())]));
    stage.submit(&jobs).await;
    // A ledger that refuses one result.
    let picky = "alter table job_outcomes add constraint picky check (result is null or result <> '2')";
    stage.world.db.sql(picky).await;
    let bad = stage.play("bad", [Step::Done("2".into())]);
    stage.submit(std::slice::from_ref(&bad)).await;
    let _worker = stage.worker(jobs.len() + 1);
    for job in &jobs {
        stage.until(job.id, State::Succeeded).await;
    }
    let row = stage.until(bad.id, State::Failed).await;
    assert_eq!((error(&row).code.as_str(), row.attempt), ("outcome_not_storable", 1));
}
