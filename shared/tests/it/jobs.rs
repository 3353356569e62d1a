//! The state machine of a job.

use std::time::Duration;

use millwork_shared::Error;
use millwork_shared::jobs::dispatch::Ticket;
use millwork_shared::jobs::queries::{self, CancelResult, Ending, Filter, Retried};
use millwork_shared::jobs::{Due, JobError, Queue, State, Unique};

use super::Ledger;

#[tokio::test]
async fn a_job_is_claimed_once_and_ends_once() {
    let ledger = Ledger::create().await;
    let job = ledger.job();
    ledger.store(std::slice::from_ref(&job)).await;
    assert_eq!(ledger.state(job.id).await, "queued");
    let (one, other) = (ledger.worker().await, ledger.worker().await);

    let claimed = ledger.claim(one, &[job.clone(), job.clone()]).await;
    assert_eq!(claimed.len(), 1, "the same ticket twice is one claim");
    assert_eq!(claimed[0].payload.get(), r#"{"n":1}"#);
    assert!(ledger.claim(other, std::slice::from_ref(&job)).await.is_empty());
    assert_eq!(ledger.state(job.id).await, "running");

    assert_eq!(ledger.finish(&claimed[0], Ending::Succeeded).await, 1);
    assert_eq!(ledger.finish(&claimed[0], Ending::Failed).await, 0, "an ended job has no second end");
    assert_eq!(ledger.state(job.id).await, "succeeded");
    assert!(ledger.claim(other, &[job]).await.is_empty(), "a late ticket of an ended job does nothing");
}

#[tokio::test]
async fn claims_come_in_the_order_in_which_they_were_taken() {
    let ledger = Ledger::create().await;
    let mut jobs: Vec<_> = (0..20).map(|_| ledger.job()).collect();
    ledger.store(&jobs).await;
    jobs.reverse(); // the youngest first, as if it had the highest priority
    let claimed = ledger.claim(ledger.worker().await, &jobs).await;
    assert_eq!(claimed.iter().map(|c| c.id).collect::<Vec<_>>(), jobs.iter().map(|j| j.id).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_lost_workers_job_runs_again_and_its_late_result_is_refused() {
    let ledger = Ledger::create().await;
    let job = ledger.job();
    ledger.store(std::slice::from_ref(&job)).await;
    let stale = ledger.worker().await;
    let late = ledger.claim(stale, std::slice::from_ref(&job)).await.remove(0);

    assert!(ledger.reap().await.requeued.is_empty(), "a live lease is left alone");
    ledger.test.advance(Duration::from_secs(16)).await;
    let report = ledger.reap().await;
    assert_eq!(report.requeued.iter().map(|t| t.id).collect::<Vec<_>>(), [job.id]);

    let again = ledger.claim(ledger.worker().await, std::slice::from_ref(&job)).await.remove(0);
    assert_eq!((again.attempt, again.lost), (2, 1));
    assert_eq!(ledger.finish(&late, Ending::Failed).await, 0);
    assert_eq!(ledger.finish(&again, Ending::Succeeded).await, 1);
    assert_eq!(ledger.state(job.id).await, "succeeded");
    let mut tx = ledger.tenant().await;
    let attempts = queries::list_attempts(&mut tx, job.id).await.unwrap();
    assert_eq!(attempts.iter().map(|a| a.ended.as_str()).collect::<Vec<_>>(), ["succeeded", "lost"]);
}

#[tokio::test]
async fn a_lost_worker_is_looked_at_once_more_for_a_claim_that_was_under_way() {
    let ledger = Ledger::create().await;
    let job = ledger.job();
    ledger.store(std::slice::from_ref(&job)).await;
    let worker = ledger.worker().await;
    ledger.test.advance(Duration::from_secs(16)).await;
    let mut lock = ledger.system.system().await.unwrap();
    sqlx::query("select from job_live where id = $1 for update").bind(job.id).execute(&mut *lock).await.unwrap();
    let given_up = async {
        ledger.until_something_waits().await;
        assert!(ledger.reap().await.requeued.is_empty());
        lock.commit().await.unwrap();
    };
    let (claimed, ()) = tokio::join!(ledger.claim(worker, std::slice::from_ref(&job)), given_up);
    assert_eq!(claimed.len(), 1);
    ledger.test.advance(Duration::from_secs(31)).await;
    assert_eq!(ledger.reap().await.requeued.len(), 1);
}

#[tokio::test]
async fn a_worker_that_was_given_up_or_has_stopped_claims_nothing_more() {
    let ledger = Ledger::create().await;
    let job = ledger.job();
    ledger.store(std::slice::from_ref(&job)).await;
    let (lost, stopped) = (ledger.worker().await, ledger.worker().await);
    ledger.test.advance(Duration::from_secs(16)).await;
    ledger.reap().await;
    let mut tx = ledger.system.system().await.unwrap();
    queries::say_goodbye(&mut tx, stopped).await.unwrap();
    tx.commit().await.unwrap();
    for worker in [lost, stopped] {
        let mut tx = ledger.system.system_relaxed().await.unwrap();
        let error = queries::claim(&mut tx, worker, &[Ticket::from(&job)]).await.unwrap_err();
        assert!(matches!(error, Error::Conflict { code: queries::LEASE_GONE, .. }), "{error}");
    }
    let mut tx = ledger.system.system_relaxed().await.unwrap();
    assert!(queries::claim(&mut tx, lost, &[]).await.unwrap().is_empty());
    assert_eq!(ledger.claim(ledger.worker().await, &[job]).await.len(), 1);
}

#[tokio::test]
async fn a_job_that_kills_its_worker_three_times_is_quarantined() {
    let ledger = Ledger::create().await;
    let job = ledger.job();
    ledger.store(std::slice::from_ref(&job)).await;
    for round in 1..=3 {
        let worker = ledger.worker().await;
        assert_eq!(ledger.claim(worker, std::slice::from_ref(&job)).await.len(), 1);
        ledger.test.advance(Duration::from_secs(16)).await;
        assert_eq!(ledger.reap().await.quarantined, usize::from(round == 3), "round {round}");
    }
    let mut tx = ledger.tenant().await;
    let row = queries::get(&mut tx, job.id).await.unwrap();
    assert_eq!(row.state(), State::Failed);
    assert!(row.error.unwrap().contains(r#""code":"worker_lost""#));
}

#[tokio::test]
async fn a_failed_attempt_waits_in_the_ledger_until_its_time() {
    let ledger = Ledger::create().await;
    let job = ledger.job();
    ledger.store(std::slice::from_ref(&job)).await;
    let worker = ledger.worker().await;
    let claimed = ledger.claim(worker, std::slice::from_ref(&job)).await.remove(0);
    let retried = || {
        [Retried {
            tenant: claimed.tenant,
            id: claimed.id,
            attempt: claimed.attempt,
            owner: claimed.owner,
            wait: Duration::from_secs(60),
            error: JobError::new("boom", "it broke"),
            detail: None,
        }]
    };
    let mut tx = ledger.system.system_by_index().await.unwrap();
    assert_eq!(queries::retry(&mut tx, &mut retried()).await.unwrap(), [job.id]);
    assert!(queries::retry(&mut tx, &mut retried()).await.unwrap().is_empty(), "the fence holds");
    tx.commit().await.unwrap();

    assert_eq!(ledger.state(job.id).await, "retrying");
    assert!(ledger.claim(worker, std::slice::from_ref(&job)).await.is_empty(), "too early");
    ledger.test.advance(Duration::from_secs(61)).await;
    assert_eq!(ledger.state(job.id).await, "queued");
    assert_eq!(ledger.claim(worker, std::slice::from_ref(&job)).await[0].attempt, 2);
}

#[tokio::test]
async fn a_released_job_costs_no_attempt_and_only_its_owner_can_release_it() {
    let ledger = Ledger::create().await;
    let job = ledger.job();
    ledger.store(std::slice::from_ref(&job)).await;
    let (owner, other) = (ledger.worker().await, ledger.worker().await);
    ledger.claim(owner, std::slice::from_ref(&job)).await;
    let held = [(job.tenant, job.id)];
    let mut tx = ledger.system.system_by_index().await.unwrap();
    assert!(queries::release(&mut tx, other, &held).await.unwrap().is_empty());
    assert_eq!(queries::release(&mut tx, owner, &held).await.unwrap().len(), 1);
    tx.commit().await.unwrap();
    assert_eq!(ledger.claim(other, std::slice::from_ref(&job)).await[0].attempt, 1);
}

#[tokio::test]
async fn cancelling_ends_a_waiting_job_and_asks_a_running_one_to_stop() {
    let ledger = Ledger::create().await;
    let (waiting, running) = (ledger.job(), ledger.job());
    ledger.store(&[waiting.clone(), running.clone()]).await;
    let claimed = ledger.claim(ledger.worker().await, std::slice::from_ref(&running)).await.remove(0);

    let mut tx = ledger.tenant().await;
    assert_eq!(queries::cancel(&mut tx, waiting.id).await.unwrap(), CancelResult::Cancelled);
    assert_eq!(queries::cancel(&mut tx, running.id).await.unwrap(), CancelResult::Requested);
    tx.commit().await.unwrap();
    assert_eq!(ledger.state(waiting.id).await, "cancelled");
    assert!(ledger.claim(claimed.owner, std::slice::from_ref(&waiting)).await.is_empty(), "cancelled, so never run");
    let mut tx = ledger.system.system().await.unwrap();
    let wishes = queries::list_cancels(&mut tx, &[(claimed.tenant, claimed.id)]).await.unwrap();
    assert_eq!(wishes, [running.id]);

    // A retry that crosses the wish is refused; the job is to end as cancelled.
    let mut retried = [Retried {
        tenant: claimed.tenant,
        id: claimed.id,
        attempt: claimed.attempt,
        owner: claimed.owner,
        wait: Duration::from_secs(1),
        error: JobError::new("boom", ""),
        detail: None,
    }];
    assert!(queries::retry(&mut tx, &mut retried).await.unwrap().is_empty());
    assert_eq!(queries::finish(&mut tx, &mut [retried[0].cancelled()]).await.unwrap(), 1);
    tx.commit().await.unwrap();
    let mut tx = ledger.tenant().await;
    let error = queries::cancel(&mut tx, waiting.id).await.unwrap_err();
    assert!(matches!(error, Error::Conflict { code: "job_has_ended", .. }));
}

#[tokio::test]
async fn a_failed_job_is_run_again_by_hand_and_keeps_its_history() {
    let ledger = Ledger::create().await;
    let job = ledger.job();
    ledger.store(std::slice::from_ref(&job)).await;
    let worker = ledger.worker().await;
    let claimed = ledger.claim(worker, std::slice::from_ref(&job)).await.remove(0);
    ledger.finish(&claimed, Ending::Failed).await;

    let mut tx = ledger.tenant().await;
    queries::retry_now(&mut tx, job.id).await.unwrap();
    tx.commit().await.unwrap();
    let again = ledger.claim(worker, std::slice::from_ref(&job)).await.remove(0);
    assert_eq!((again.attempt, again.max_attempts), (2, 26));
    ledger.finish(&again, Ending::Succeeded).await;

    let mut tx = ledger.tenant().await;
    let attempts = queries::list_attempts(&mut tx, job.id).await.unwrap();
    assert_eq!(attempts.iter().map(|a| a.ended.as_str()).collect::<Vec<_>>(), ["succeeded", "failed"]);
    let error = queries::retry_now(&mut tx, job.id).await.unwrap_err();
    assert!(matches!(error, Error::Conflict { code: "job_not_retryable", .. }));
}

#[tokio::test]
async fn a_unique_key_is_held_by_a_live_job_and_for_as_long_as_asked() {
    let ledger = Ledger::create().await;
    let unique = |hold: Option<u64>| {
        let mut job = ledger.job();
        job.unique = Some(Unique { key: "k".into(), hold: hold.map(Duration::from_secs) });
        job
    };
    let first = unique(Some(60));
    ledger.store(std::slice::from_ref(&first)).await;
    let refused = async |job| {
        let mut tx = ledger.tenant().await;
        let error = queries::enqueue(&mut tx, &[job]).await.unwrap_err();
        assert!(
            matches!(error, Error::Conflict { code: "job_not_unique", ref detail } if detail.contains(&first.id.to_string()))
        );
    };
    refused(unique(None)).await;
    let claimed = ledger.claim(ledger.worker().await, std::slice::from_ref(&first)).await.remove(0);
    ledger.finish(&claimed, Ending::Succeeded).await;
    refused(unique(None)).await; // ended, but held
    ledger.test.advance(Duration::from_secs(61)).await;
    ledger.store(&[unique(None)]).await;
}

#[tokio::test]
async fn a_paused_queue_gives_nothing_to_workers() {
    let ledger = Ledger::create().await;
    let job = ledger.job();
    ledger.store(std::slice::from_ref(&job)).await;
    let worker = ledger.worker().await;
    let mut tx = ledger.tenant().await;
    assert!(queries::pause(&mut tx, Queue::Default).await.unwrap());
    tx.commit().await.unwrap();
    assert!(ledger.claim(worker, std::slice::from_ref(&job)).await.is_empty());
    let mut tx = ledger.tenant().await;
    assert!(queries::resume(&mut tx, Queue::Default).await.unwrap());
    tx.commit().await.unwrap();
    assert_eq!(ledger.claim(worker, &[job]).await.len(), 1);
}

#[tokio::test]
async fn lists_are_filtered_by_state_and_paged_newest_first() {
    let ledger = Ledger::create().await;
    let mut jobs: Vec<_> = (0..5).map(|_| ledger.job()).collect();
    jobs[4].due = Due::In(Duration::from_secs(3600));
    jobs[3].tags = vec!["vip".into(), "x".into()];
    ledger.store(&jobs).await;
    let worker = ledger.worker().await;
    let claimed = ledger.claim(worker, &jobs[0..2]).await;
    let first = claimed.iter().find(|c| c.id == jobs[0].id).unwrap();
    ledger.finish(first, Ending::Failed).await;

    let mut tx = ledger.tenant().await;
    let mut list = async |filter: Filter| {
        let rows = queries::list(&mut tx, &filter, 10).await.unwrap();
        rows.iter().map(|row| jobs.iter().position(|job| job.id == row.id).unwrap()).collect::<Vec<_>>()
    };
    assert_eq!(list(Filter::default()).await, [4, 3, 2, 1, 0]);
    for (state, expected) in [
        (State::Scheduled, vec![4]),
        (State::Queued, vec![3, 2]),
        (State::Running, vec![1]),
        (State::Failed, vec![0]),
        (State::Succeeded, vec![]),
        (State::Retrying, vec![]),
    ] {
        assert_eq!(list(Filter { state: Some(state), ..Filter::default() }).await, expected, "{state:?}");
    }
    assert_eq!(list(Filter { tag: Some("vip".into()), ..Filter::default() }).await, [3]);
    assert_eq!(list(Filter { before: Some(jobs[3].id), ..Filter::default() }).await, [2, 1, 0]);
    assert_eq!(list(Filter { kind: Some("x".into()), ..Filter::default() }).await, [0usize; 0]);
}
