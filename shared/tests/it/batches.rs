//! Jobs that are counted together.

use std::time::Duration;

use millwork_shared::batches::queries::{self as batches, BatchRow};
use millwork_shared::batches::{NewBatch, PLACEHOLDERS};
use millwork_shared::infra::ids::{BatchId, JobId};
use millwork_shared::jobs::chains::{OnFailure, Wait};
use millwork_shared::jobs::queries::{self, Ending};
use millwork_shared::jobs::{Due, NewJob};
use serde_json::value::RawValue;

use super::Ledger;

impl Ledger {
    /// Stores jobs as a batch, and the job that runs last.
    async fn store_batch(&self, jobs: &[NewJob], last: Option<&NewJob>, waits: &[Wait]) -> BatchId {
        let id = BatchId::generate();
        let mut tx = self.tenant().await;
        let all: Vec<NewJob> = jobs.iter().chain(last).cloned().collect();
        queries::enqueue(&mut tx, &all).await.unwrap();
        let ids = jobs.iter().map(|job| job.id).collect();
        let batch = NewBatch { id, name: None, jobs: ids, on_complete: last.map(|job| job.id) };
        batches::insert(&mut tx, &batch).await.unwrap();
        queries::follow(&mut tx, waits).await.unwrap().unwrap();
        tx.commit().await.unwrap();
        id
    }

    async fn batch(&self, id: BatchId) -> BatchRow {
        let mut tx = self.tenant().await;
        batches::get(&mut tx, id).await.unwrap()
    }
}

fn figures(row: &BatchRow) -> [i32; 4] {
    [row.total, row.succeeded, row.failed, row.cancelled]
}

#[tokio::test]
async fn a_batch_counts_the_ends_of_its_jobs_and_then_runs_its_last() {
    let ledger = Ledger::create().await;
    let jobs = [ledger.job(), ledger.job(), ledger.job()];
    let payload = format!(r#"{{"text":"{}","n":[1.10]}}"#, PLACEHOLDERS.join(" "));
    let last = NewJob { payload: RawValue::from_string(payload).unwrap(), ..ledger.job() };
    let id = ledger.store_batch(&jobs, Some(&last), &[]).await;
    assert_eq!(ledger.state(last.id).await, "scheduled");
    ledger.run_to(&jobs[0], Ending::Succeeded).await;
    ledger.run_to(&jobs[1], Ending::Failed).await;
    assert_eq!(ledger.tell().await, []);
    let row = ledger.batch(id).await;
    assert_eq!((figures(&row), row.finished_at), ([3, 1, 1, 0], None));
    ledger.cancel(&jobs[2]).await;
    assert_eq!(ledger.tell().await, [last.id]);
    let row = ledger.batch(id).await;
    assert_eq!((figures(&row), row.finished_at.is_some()), ([3, 1, 1, 1], true));
    let claimed = ledger.claim(ledger.worker().await, std::slice::from_ref(&last)).await.remove(0);
    assert_eq!(claimed.payload.get(), format!(r#"{{"text":"{id} 3 1 1 1","n":[1.10]}}"#));
    assert_eq!(ledger.left().await, [0, 0, 0]);
}

#[tokio::test]
async fn a_batch_finishes_once_whatever_is_run_again() {
    let ledger = Ledger::create().await;
    let (jobs, last) = ([ledger.job(), ledger.job()], ledger.job());
    let id = ledger.store_batch(&jobs, Some(&last), &[]).await;
    ledger.run_to(&jobs[0], Ending::Failed).await;
    assert_eq!(ledger.tell().await, []);
    let retry = async |job: JobId| {
        let mut tx = ledger.tenant().await;
        queries::retry_now(&mut tx, job).await.unwrap();
        tx.commit().await.unwrap();
    };
    retry(jobs[0].id).await;
    ledger.run_to(&jobs[0], Ending::Succeeded).await;
    assert_eq!(ledger.tell().await, [], "it was counted already");
    ledger.run_to(&jobs[1], Ending::Failed).await;
    assert_eq!(ledger.tell().await, [last.id]);
    ledger.run_to(&last, Ending::Succeeded).await;
    let finished = ledger.batch(id).await;
    retry(jobs[1].id).await;
    ledger.run_to(&jobs[1], Ending::Succeeded).await;
    assert_eq!(ledger.tell().await, []);
    let now = ledger.batch(id).await;
    assert_eq!((figures(&now), now.finished_at), ([2, 0, 2, 0], finished.finished_at));
    assert_eq!(ledger.state(last.id).await, "succeeded");
}

#[tokio::test]
async fn the_last_two_jobs_that_end_at_the_same_moment_finish_a_batch_once() {
    let ledger = Ledger::create().await;
    let (jobs, last) = ([ledger.job(), ledger.job()], ledger.job());
    ledger.store_batch(&jobs, Some(&last), &[]).await;
    ledger.run_to(&jobs[0], Ending::Succeeded).await;
    let mut first = ledger.system.system_relaxed().await.unwrap();
    assert!(queries::tell_ends(&mut first).await.unwrap().due.is_empty());
    ledger.run_to(&jobs[1], Ending::Succeeded).await;
    let commit = async {
        ledger.until_something_waits().await;
        first.commit().await.unwrap();
    };
    let (second, ()) = tokio::join!(ledger.tell_once(), commit);
    assert_eq!(second.due.iter().map(|ticket| ticket.id).collect::<Vec<_>>(), [last.id]);
}

#[tokio::test]
async fn a_job_that_is_cancelled_as_it_is_stored_counts_too() {
    let ledger = Ledger::create().await;
    let failed = ledger.job();
    ledger.store(std::slice::from_ref(&failed)).await;
    ledger.run_to(&failed, Ending::Failed).await;
    let (jobs, last) = ([ledger.job(), ledger.job()], ledger.job());
    let wait = |job: &NewJob, after: JobId| Wait { job: job.id, after: vec![after], on_failure: OnFailure::Cancel };
    let waits = [wait(&jobs[0], failed.id), wait(&jobs[1], jobs[0].id)];
    let id = ledger.store_batch(&jobs, Some(&last), &waits).await;
    assert_eq!(ledger.tell().await, [last.id]);
    assert_eq!(figures(&ledger.batch(id).await), [2, 0, 0, 2]);
    let mut tx = ledger.tenant().await;
    let row = queries::get(&mut tx, jobs[1].id).await.unwrap();
    assert_eq!((row.batch_id, row.after), (Some(id), Some(vec![jobs[0].id])));
}

#[tokio::test]
async fn a_last_job_keeps_its_own_time_and_may_be_cancelled() {
    let ledger = Ledger::create().await;
    let [one, other] = [[ledger.job()], [ledger.job()]];
    let later = NewJob { due: Due::In(Duration::from_secs(600)), ..ledger.job() };
    let never = ledger.job();
    ledger.store_batch(&one, Some(&later), &[]).await;
    let id = ledger.store_batch(&other, Some(&never), &[]).await;
    ledger.cancel(&never).await;
    ledger.run_to(&one[0], Ending::Succeeded).await;
    ledger.run_to(&other[0], Ending::Succeeded).await;
    assert_eq!(ledger.tell().await, []);
    assert_eq!(ledger.state(never.id).await, "cancelled");
    assert!(ledger.batch(id).await.finished_at.is_some());
    assert!(ledger.claim(ledger.worker().await, std::slice::from_ref(&later)).await.is_empty());
    ledger.test.advance(Duration::from_secs(601)).await;
    ledger.run_to(&later, Ending::Succeeded).await;
}

#[tokio::test]
async fn finished_batches_leave_after_their_retention_and_open_ones_stay() {
    let ledger = Ledger::create().await;
    let [done, open] = [[ledger.job()], [ledger.job()]];
    ledger.store_batch(&done, None, &[]).await;
    let kept = ledger.store_batch(&open, None, &[]).await;
    ledger.run_to(&done[0], Ending::Succeeded).await;
    ledger.tell().await;
    let delete = async || {
        let mut tx = ledger.system.system().await.unwrap();
        let deleted = batches::delete_finished(&mut tx, Duration::from_secs(30 * 86_400)).await.unwrap();
        tx.commit().await.unwrap();
        deleted
    };
    assert_eq!(delete().await, 0);
    ledger.test.advance(Duration::from_secs(31 * 86_400)).await;
    assert_eq!(delete().await, 1);
    assert_eq!(ledger.batch(kept).await.total, 1);
}
