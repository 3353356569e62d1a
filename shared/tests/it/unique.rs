//! At most one live job of a tenant has a given unique key, whoever asks at the same time.

use millwork_shared::Error;
use millwork_shared::infra::ids::JobId;
use millwork_shared::jobs::queries::{self, Ending};
use millwork_shared::jobs::{NewJob, Unique};

use super::Ledger;

fn keyed(ledger: &Ledger, key: &str) -> NewJob {
    NewJob { unique: Some(Unique { key: key.into(), hold: None }), ..ledger.job() }
}

/// Tries to store a job: the job that holds its key, if one does.
async fn store(ledger: &Ledger, job: &NewJob) -> Option<JobId> {
    let mut tx = ledger.system.system_by_index().await.unwrap();
    let holder = queries::insert_unique(&mut tx, job, job.unique.as_ref().unwrap()).await.unwrap();
    tx.commit().await.unwrap();
    holder
}

async fn run_to(ledger: &Ledger, job: &NewJob, ending: Ending) {
    let claimed = ledger.claim(ledger.worker().await, std::slice::from_ref(job)).await.remove(0);
    ledger.finish(&claimed, ending).await;
}

#[tokio::test]
async fn the_same_key_twice_in_one_batch_is_refused() {
    let ledger = Ledger::create().await;
    let (first, second) = (keyed(&ledger, "k"), keyed(&ledger, "k"));
    let mut tx = ledger.tenant().await;
    let error = queries::enqueue(&mut tx, &[keyed(&ledger, "other"), first.clone(), second]).await.unwrap_err();
    let detail = error.to_string();
    assert!(matches!(error, Error::Conflict { code: "job_not_unique", .. }), "{detail}");
    assert!(detail.contains(&first.id.to_string()), "{detail}");
}

#[tokio::test]
async fn of_two_at_the_same_time_one_gets_the_key() {
    let ledger = Ledger::create().await;
    let (one, other) = (keyed(&ledger, "k"), keyed(&ledger, "k"));
    let mut tx = ledger.tenant().await;
    queries::enqueue(&mut tx, std::slice::from_ref(&one)).await.unwrap();
    let commit = async {
        ledger.until_something_waits().await;
        tx.commit().await.unwrap();
    };
    let (holder, ()) = tokio::join!(store(&ledger, &other), commit);
    assert_eq!(holder, Some(one.id));
}

#[tokio::test]
async fn of_two_that_take_an_ended_jobs_key_over_at_the_same_time_one_gets_it() {
    let ledger = Ledger::create().await;
    let [ended, one, other] = [(); 3].map(|()| keyed(&ledger, "k"));
    ledger.store(std::slice::from_ref(&ended)).await;
    run_to(&ledger, &ended, Ending::Succeeded).await;
    let mut tx = ledger.tenant().await;
    queries::enqueue(&mut tx, std::slice::from_ref(&one)).await.unwrap();
    let commit = async {
        ledger.until_something_waits().await;
        tx.commit().await.unwrap();
    };
    let (holder, ()) = tokio::join!(store(&ledger, &other), commit);
    assert_eq!(holder, Some(one.id));
}

#[tokio::test]
async fn a_key_whose_first_owner_was_rolled_back_is_free() {
    let ledger = Ledger::create().await;
    let (one, other) = (keyed(&ledger, "k"), keyed(&ledger, "k"));
    let mut tx = ledger.tenant().await;
    queries::enqueue(&mut tx, &[one]).await.unwrap();
    let roll_back = async {
        ledger.until_something_waits().await;
        drop(tx);
    };
    let (holder, ()) = tokio::join!(store(&ledger, &other), roll_back);
    assert_eq!(holder, None);
}

#[tokio::test]
async fn batches_that_ask_for_the_same_keys_in_another_order_do_not_deadlock() {
    let ledger = Ledger::create().await;
    let jobs = |keys: [&str; 2]| keys.map(|key| keyed(&ledger, key));
    let (one, other) = (jobs(["a", "b"]), jobs(["b", "a"]));
    let mut tx = ledger.tenant().await;
    queries::enqueue(&mut tx, &one[..1]).await.unwrap(); // holds a
    let second = async {
        let mut tx = ledger.tenant().await;
        queries::enqueue(&mut tx, &other).await.unwrap_err()
    };
    let first = async {
        ledger.until_something_waits().await;
        queries::enqueue(&mut tx, &one[1..]).await.unwrap();
        tx.commit().await.unwrap();
    };
    let (error, ()) = tokio::join!(second, first);
    assert!(matches!(error, Error::Conflict { code: "job_not_unique", .. }), "{error}");
}

#[tokio::test]
async fn a_job_that_is_run_again_takes_its_key_again() {
    let ledger = Ledger::create().await;
    let job = keyed(&ledger, "k");
    ledger.store(std::slice::from_ref(&job)).await;
    run_to(&ledger, &job, Ending::Failed).await;
    let mut tx = ledger.tenant().await;
    queries::retry_now(&mut tx, job.id).await.unwrap();
    tx.commit().await.unwrap();
    assert_eq!(store(&ledger, &keyed(&ledger, "k")).await, Some(job.id));
}

#[tokio::test]
async fn a_job_is_not_run_again_while_another_has_its_key() {
    let ledger = Ledger::create().await;
    let (job, next) = (keyed(&ledger, "k"), keyed(&ledger, "k"));
    ledger.store(std::slice::from_ref(&job)).await;
    run_to(&ledger, &job, Ending::Failed).await;
    ledger.store(std::slice::from_ref(&next)).await;
    let mut tx = ledger.tenant().await;
    let error = queries::retry_now(&mut tx, job.id).await.unwrap_err();
    assert!(
        matches!(&error, Error::Conflict { code: "job_not_unique", detail } if detail.contains(&next.id.to_string()))
    );
    drop(tx);
    assert_eq!(ledger.state(job.id).await, "failed");

    run_to(&ledger, &next, Ending::Succeeded).await;
    let mut tx = ledger.tenant().await;
    queries::retry_now(&mut tx, job.id).await.unwrap();
    tx.commit().await.unwrap();
    assert_eq!(ledger.state(job.id).await, "queued");
}

#[tokio::test]
async fn a_job_that_is_run_again_within_its_own_hold_is_not_in_its_own_way() {
    let ledger = Ledger::create().await;
    let hold = Some(std::time::Duration::from_secs(3_600));
    let job = NewJob { unique: Some(Unique { key: "k".into(), hold }), ..ledger.job() };
    ledger.store(std::slice::from_ref(&job)).await;
    run_to(&ledger, &job, Ending::Failed).await;
    let mut tx = ledger.tenant().await;
    queries::retry_now(&mut tx, job.id).await.unwrap();
    tx.commit().await.unwrap();
    run_to(&ledger, &job, Ending::Succeeded).await;
    assert_eq!(store(&ledger, &keyed(&ledger, "k")).await, Some(job.id), "the hold is as long as it was");
}
