//! Jobs that wait for others.

use std::time::Duration;

use millwork_shared::infra::ids::JobId;
use millwork_shared::jobs::chains::{OnFailure, Wait};
use millwork_shared::jobs::queries::{self, Ending, Followed, Told, Unknown};
use millwork_shared::jobs::{Due, JobError, NewJob};
use millwork_shared::maintenance::queries as maintenance;

use super::Ledger;

const DAY: Duration = Duration::from_secs(86_400);

impl Ledger {
    /// Stores a job that is to run after others.
    async fn store_after(&self, after: &[JobId], on_failure: OnFailure) -> NewJob {
        let job = self.job();
        self.store_waiting(&job, after, on_failure).await.unwrap();
        job
    }

    async fn store_waiting(
        &self,
        job: &NewJob,
        after: &[JobId],
        on_failure: OnFailure,
    ) -> Result<Followed, Vec<Unknown>> {
        let mut tx = self.tenant().await;
        queries::enqueue(&mut tx, std::slice::from_ref(job)).await.unwrap();
        let wait = Wait { job: job.id, after: after.to_vec(), on_failure };
        let followed = queries::follow(&mut tx, &[wait]).await.unwrap()?;
        tx.commit().await.unwrap();
        Ok(followed)
    }

    /// Runs a job to its end.
    pub async fn run_to(&self, job: &NewJob, ending: Ending) {
        let claimed = self.claim(self.worker().await, std::slice::from_ref(job)).await.remove(0);
        assert_eq!(self.finish(&claimed, ending).await, 1);
    }

    pub async fn tell_once(&self) -> Told {
        let mut tx = self.system.system_relaxed().await.unwrap();
        let told = queries::tell_ends(&mut tx).await.unwrap();
        tx.commit().await.unwrap();
        told
    }

    /// Tells all ends: the jobs that are due by it.
    pub async fn tell(&self) -> Vec<JobId> {
        let mut due = Vec::new();
        loop {
            let told = self.tell_once().await;
            due.extend(told.due.iter().map(|ticket| ticket.id));
            if !told.more {
                return due;
            }
        }
    }

    pub async fn cancel(&self, job: &NewJob) {
        let mut tx = self.tenant().await;
        queries::cancel(&mut tx, job.id).await.unwrap();
        tx.commit().await.unwrap();
    }

    async fn error(&self, job: &NewJob) -> JobError {
        let mut tx = self.tenant().await;
        serde_json::from_str(&queries::get(&mut tx, job.id).await.unwrap().error.unwrap()).unwrap()
    }

    /// Rows that are left of what waits.
    pub async fn left(&self) -> [i64; 3] {
        let owner = self.test.owner().await;
        let count = |table| sqlx::query_scalar(sqlx::AssertSqlSafe(format!("select count(*) from {table}")));
        [
            count("job_followers").fetch_one(&owner).await.unwrap(),
            count("job_waits").fetch_one(&owner).await.unwrap(),
            count("job_ends").fetch_one(&owner).await.unwrap(),
        ]
    }
}

async fn two(ledger: &Ledger) -> [NewJob; 2] {
    let jobs = [ledger.job(), ledger.job()];
    ledger.store(&jobs).await;
    jobs
}

#[tokio::test]
async fn a_job_waits_until_its_last_predecessor_has_ended() {
    let ledger = Ledger::create().await;
    let [one, other] = two(&ledger).await;
    let last = ledger.store_after(&[one.id, other.id], OnFailure::Cancel).await;
    assert_eq!(ledger.state(last.id).await, "scheduled");
    ledger.run_to(&one, Ending::Succeeded).await;
    assert_eq!(ledger.tell().await, []);
    assert!(ledger.claim(ledger.worker().await, std::slice::from_ref(&last)).await.is_empty(), "a stray ticket");
    ledger.run_to(&other, Ending::Succeeded).await;
    assert_eq!(ledger.state(last.id).await, "scheduled", "until it is told");
    assert_eq!(ledger.tell().await, [last.id]);
    ledger.run_to(&last, Ending::Succeeded).await;
    assert_eq!(ledger.tell().await, []);
    assert_eq!(ledger.left().await, [0, 0, 0]);
}

#[tokio::test]
async fn predecessors_that_end_at_the_same_moment_release_once() {
    let ledger = Ledger::create().await;
    let [one, other] = two(&ledger).await;
    let last = ledger.store_after(&[one.id, other.id], OnFailure::Cancel).await;
    ledger.run_to(&one, Ending::Succeeded).await;
    let mut first = ledger.system.system_relaxed().await.unwrap();
    assert!(queries::tell_ends(&mut first).await.unwrap().due.is_empty());
    ledger.run_to(&other, Ending::Succeeded).await;
    let commit = async {
        ledger.until_something_waits().await;
        first.commit().await.unwrap();
    };
    let (second, ()) = tokio::join!(ledger.tell_once(), commit);
    assert_eq!(second.due.iter().map(|ticket| ticket.id).collect::<Vec<_>>(), [last.id]);
}

#[tokio::test]
async fn many_tellers_at_once_release_each_job_once() {
    let ledger = Ledger::create().await;
    let jobs: Vec<NewJob> = (0..40).map(|_| ledger.job()).collect();
    ledger.store(&jobs).await;
    let mut waiting = Vec::new();
    for pair in jobs.windows(3) {
        let after: Vec<JobId> = pair.iter().map(|job| job.id).collect();
        waiting.push(ledger.store_after(&after, OnFailure::Run).await.id);
    }
    let worker = ledger.worker().await;
    let claimed = ledger.claim(worker, &jobs).await;
    let end_some = |some: usize| {
        let (ledger, claimed) = (&ledger, &claimed);
        async move {
            let mut due = Vec::new();
            for job in claimed.iter().skip(some).step_by(4) {
                ledger.finish(job, Ending::Succeeded).await;
                due.extend(ledger.tell_once().await.due.iter().map(|ticket| ticket.id));
            }
            due
        }
    };
    let (a, b, c, d) = tokio::join!(end_some(0), end_some(1), end_some(2), end_some(3));
    let mut due = [a, b, c, d, ledger.tell().await].concat();
    due.sort();
    assert_eq!(due, waiting);
    assert_eq!(ledger.left().await, [0, 0, 0]);
}

#[tokio::test]
async fn a_job_that_is_stored_while_its_predecessor_ends_is_told() {
    let ledger = Ledger::create().await;
    let [one, _] = two(&ledger).await;
    let claimed = ledger.claim(ledger.worker().await, std::slice::from_ref(&one)).await.remove(0);
    let last = ledger.job();
    let mut tx = ledger.tenant().await;
    queries::enqueue(&mut tx, std::slice::from_ref(&last)).await.unwrap();
    let wait = Wait { job: last.id, after: vec![one.id], on_failure: OnFailure::Cancel };
    assert!(queries::follow(&mut tx, &[wait]).await.unwrap().unwrap().waiting.contains(&last.id));
    let commit = async {
        ledger.until_something_waits().await;
        tx.commit().await.unwrap();
    };
    let (ended, ()) = tokio::join!(ledger.finish(&claimed, Ending::Succeeded), commit);
    assert_eq!((ended, ledger.tell().await), (1, vec![last.id]));
}

#[tokio::test]
async fn a_job_whose_predecessor_ends_while_it_is_stored_need_not_wait() {
    let ledger = Ledger::create().await;
    let [one, _] = two(&ledger).await;
    let claimed = ledger.claim(ledger.worker().await, std::slice::from_ref(&one)).await.remove(0);
    let mut ending = ledger.system.system_by_index().await.unwrap();
    let mut batch = [queries::Finished {
        tenant: claimed.tenant,
        id: claimed.id,
        attempt: claimed.attempt,
        owner: claimed.owner,
        ending: Ending::Succeeded,
        result: None,
        error: None,
        detail: None,
    }];
    assert_eq!(queries::end(&mut ending, &mut batch).await.unwrap(), queries::Ends { accepted: 1, to_tell: 0 });
    let (last, after) = (ledger.job(), [one.id]);
    let commit = async {
        ledger.until_something_waits().await;
        ending.commit().await.unwrap();
    };
    let (followed, ()) = tokio::join!(ledger.store_waiting(&last, &after, OnFailure::Cancel), commit);
    assert!(followed.unwrap().waiting.is_empty());
    assert_eq!(ledger.state(last.id).await, "queued");
    assert_eq!(ledger.left().await, [0, 0, 0]);
}

#[tokio::test]
async fn a_failure_cancels_all_down_the_chain_and_names_its_cause() {
    let ledger = Ledger::create().await;
    let [first, other] = two(&ledger).await;
    let second = ledger.store_after(&[first.id, other.id], OnFailure::Cancel).await;
    let third = ledger.store_after(&[second.id], OnFailure::Cancel).await;
    let anyway = ledger.store_after(&[second.id], OnFailure::Run).await;
    ledger.run_to(&first, Ending::Failed).await;
    assert_eq!(ledger.tell().await, [anyway.id]);
    for (job, cause, how) in [(&second, &first, "failed"), (&third, &second, "was cancelled")] {
        assert_eq!(ledger.state(job.id).await, "cancelled");
        let error = ledger.error(job).await;
        assert_eq!(error.code, "predecessor_failed");
        assert!(error.message.contains(&cause.id.to_string()) && error.message.ends_with(how), "{error}");
    }
    ledger.run_to(&other, Ending::Succeeded).await;
    ledger.run_to(&anyway, Ending::Succeeded).await;
    assert_eq!(ledger.tell().await, []);
    assert_eq!(ledger.left().await, [0, 0, 0]);
}

#[tokio::test]
async fn every_way_to_end_is_told() {
    let ledger = Ledger::create().await;
    let [by_hand, of_lost_worker] = two(&ledger).await;
    let [poison, with_many] = two(&ledger).await;
    let mut after = Vec::new();
    for job in [&by_hand, &of_lost_worker, &poison, &with_many] {
        after.push(ledger.store_after(&[job.id], OnFailure::Cancel).await);
    }
    ledger.cancel(&by_hand).await;
    ledger.tell().await;
    assert_eq!(ledger.state(after[0].id).await, "cancelled");

    assert_eq!(ledger.claim(ledger.worker().await, std::slice::from_ref(&of_lost_worker)).await.len(), 1);
    ledger.cancel(&of_lost_worker).await; // it runs: a wish
    ledger.test.advance(Duration::from_secs(16)).await;
    assert_eq!(ledger.reap().await.cancelled, 1);
    ledger.tell().await;
    assert_eq!(ledger.state(after[1].id).await, "cancelled");

    for _ in 0..3 {
        assert_eq!(ledger.claim(ledger.worker().await, std::slice::from_ref(&poison)).await.len(), 1);
        ledger.test.advance(Duration::from_secs(16)).await;
        ledger.reap().await;
    }
    ledger.tell().await;
    assert_eq!(ledger.state(after[2].id).await, "cancelled");

    let mut tx = ledger.tenant().await;
    assert_eq!(queries::cancel_many(&mut tx, &[with_many.id], None).await.unwrap(), 1);
    tx.commit().await.unwrap();
    ledger.tell().await;
    assert_eq!(ledger.state(after[3].id).await, "cancelled");
    assert_eq!(ledger.left().await, [0, 0, 0]);
}

#[tokio::test]
async fn an_attempt_that_is_not_the_last_is_no_end() {
    let ledger = Ledger::create().await;
    let [one, _] = two(&ledger).await;
    let last = ledger.store_after(&[one.id], OnFailure::Cancel).await;
    assert_eq!(ledger.claim(ledger.worker().await, std::slice::from_ref(&one)).await.len(), 1);
    ledger.test.advance(Duration::from_secs(16)).await;
    assert_eq!(ledger.reap().await.requeued.len(), 1);
    assert_eq!(ledger.tell().await, []);
    assert_eq!(ledger.state(last.id).await, "scheduled");
    ledger.run_to(&one, Ending::Succeeded).await;
    assert_eq!(ledger.tell().await, [last.id], "the mark stays when a job runs again");
}

#[tokio::test]
async fn predecessors_that_have_ended_count_when_the_job_is_stored() {
    let ledger = Ledger::create().await;
    let [well, badly] = two(&ledger).await;
    ledger.run_to(&well, Ending::Succeeded).await;
    ledger.run_to(&badly, Ending::Failed).await;
    let due = ledger.store_after(&[well.id], OnFailure::Cancel).await;
    let anyway = ledger.store_after(&[well.id, badly.id], OnFailure::Run).await;
    let never = ledger.store_after(&[well.id, badly.id], OnFailure::Cancel).await;
    assert_eq!(ledger.state(due.id).await, "queued");
    assert_eq!(ledger.state(anyway.id).await, "queued");
    assert_eq!(ledger.state(never.id).await, "cancelled");
    assert!(ledger.error(&never).await.message.contains(&badly.id.to_string()));
    assert_eq!(ledger.left().await, [0, 0, 0]);
}

#[tokio::test]
async fn a_job_waits_for_its_own_time_as_well() {
    let ledger = Ledger::create().await;
    let [one, _] = two(&ledger).await;
    let last = NewJob { due: Due::In(DAY), ..ledger.job() };
    ledger.store_waiting(&last, &[one.id], OnFailure::Cancel).await.unwrap();
    ledger.run_to(&one, Ending::Succeeded).await;
    assert_eq!(ledger.tell().await, [], "not due yet");
    assert_eq!(ledger.state(last.id).await, "scheduled");
    ledger.test.advance(DAY).await;
    let mut tx = ledger.system.system().await.unwrap();
    let (due, _) = queries::list_due(&mut tx, None, 10).await.unwrap();
    assert_eq!(due.iter().map(|ticket| ticket.id).collect::<Vec<_>>(), [last.id]);
}

#[tokio::test]
async fn an_unknown_predecessor_is_told_by_its_place_and_nothing_is_stored() {
    let ledger = Ledger::create().await;
    let [one, _] = two(&ledger).await;
    let other = Ledger { tenant: ledger.test.tenant("other").await, test: ledger.test, system: ledger.system };
    let [theirs, _] = two(&other).await;
    let job = other.job();
    let after = [theirs.id, one.id, JobId::generate()];
    let unknown = other.store_waiting(&job, &after, OnFailure::Run).await.unwrap_err();
    assert_eq!(unknown, [(0, 1), (0, 2)]);
    let mut tx = other.tenant().await;
    assert!(queries::find(&mut tx, job.id).await.unwrap().is_none());
}

#[tokio::test]
async fn what_was_done_to_a_waiting_job_by_hand_stands() {
    let ledger = Ledger::create().await;
    let [one, other] = two(&ledger).await;
    let stopped = ledger.store_after(&[one.id], OnFailure::Run).await;
    let forced = ledger.store_after(&[other.id], OnFailure::Cancel).await;
    let forced_too = ledger.store_after(&[one.id], OnFailure::Run).await;
    ledger.cancel(&stopped).await;
    for job in [&forced, &forced_too] {
        ledger.cancel(job).await;
        let mut tx = ledger.tenant().await;
        queries::retry_now(&mut tx, job.id).await.unwrap();
        tx.commit().await.unwrap();
        assert_eq!(ledger.state(job.id).await, "queued", "by hand it runs at once");
    }
    ledger.run_to(&one, Ending::Succeeded).await;
    ledger.run_to(&other, Ending::Failed).await;
    assert_eq!(ledger.tell().await, []);
    assert_eq!(ledger.state(stopped.id).await, "cancelled");
    assert_eq!(ledger.state(forced.id).await, "queued");
    assert_eq!(ledger.left().await, [0, 0, 0]);
}

#[tokio::test]
async fn an_end_is_not_told_to_those_who_followed_after_it() {
    let ledger = Ledger::create().await;
    let [one, _] = two(&ledger).await;
    let before = ledger.store_after(&[one.id], OnFailure::Cancel).await;
    ledger.run_to(&one, Ending::Failed).await;
    let mut tx = ledger.tenant().await;
    queries::retry_now(&mut tx, one.id).await.unwrap();
    tx.commit().await.unwrap();
    let after = ledger.store_after(&[one.id], OnFailure::Cancel).await;
    assert_eq!(ledger.tell().await, [], "the end before this one followed");
    assert_eq!(ledger.state(before.id).await, "cancelled");
    ledger.run_to(&one, Ending::Failed).await;
    let mut tx = ledger.tenant().await;
    queries::retry_now(&mut tx, one.id).await.unwrap();
    tx.commit().await.unwrap();
    let last = ledger.store_after(&[one.id], OnFailure::Cancel).await;
    ledger.run_to(&one, Ending::Succeeded).await;
    assert_eq!(ledger.tell().await, [last.id], "two ends at once, each to its own followers");
    assert_eq!(ledger.state(after.id).await, "cancelled");
    assert_eq!(ledger.left().await, [0, 0, 0]);
}

#[tokio::test]
async fn a_job_with_more_followers_than_one_step_tells_releases_them_all() {
    let ledger = Ledger::create().await;
    let [one, _] = two(&ledger).await;
    let jobs: Vec<NewJob> = (0..2_500).map(|_| ledger.job()).collect();
    let wait = |job: &NewJob| Wait { job: job.id, after: vec![one.id], on_failure: OnFailure::Cancel };
    let mut tx = ledger.tenant().await;
    queries::enqueue(&mut tx, &jobs).await.unwrap();
    queries::follow(&mut tx, &jobs.iter().map(wait).collect::<Vec<_>>()).await.unwrap().unwrap();
    tx.commit().await.unwrap();
    ledger.run_to(&one, Ending::Succeeded).await;
    let first = ledger.tell_once().await;
    assert!(first.more && first.due.len() < jobs.len(), "{}", first.due.len());
    assert_eq!(first.due.len() + ledger.tell().await.len(), jobs.len());
    assert_eq!(ledger.left().await, [0, 0, 0]);
}

#[tokio::test]
async fn a_predecessor_that_is_past_its_retention_strands_nobody() {
    let ledger = Ledger::create().await;
    let [early, late] = two(&ledger).await;
    let last = ledger.store_after(&[early.id, late.id], OnFailure::Cancel).await;
    ledger.run_to(&early, Ending::Succeeded).await;
    ledger.tell().await;
    let running = ledger.claim(ledger.worker().await, std::slice::from_ref(&late)).await.remove(0);
    let roll = async || {
        let mut tx = ledger.system.system().await.unwrap();
        maintenance::ensure_partitions(&mut tx, 7).await.unwrap();
        for table in maintenance::ROLLED {
            maintenance::drop_partitions(&mut tx, table, DAY * 30).await.unwrap();
        }
        tx.commit().await.unwrap();
    };
    ledger.test.advance(DAY * 40).await;
    roll().await;
    let mut tx = ledger.tenant().await;
    assert!(queries::find(&mut tx, early.id).await.unwrap().is_none());
    assert_eq!(queries::get(&mut tx, last.id).await.unwrap().after.unwrap(), [early.id, late.id]);
    drop(tx);
    ledger.finish(&running, Ending::Succeeded).await;
    assert_eq!(ledger.tell().await, [last.id]);
    ledger.run_to(&last, Ending::Succeeded).await;
    ledger.test.advance(DAY * 40).await;
    roll().await;
    assert_eq!(ledger.test.sql("select count(*)::text from job_links").await, [Some("0".to_owned())]);
}

#[tokio::test]
async fn an_end_that_was_never_written_down_is_found() {
    let ledger = Ledger::create().await;
    let [one, other] = two(&ledger).await;
    let last = ledger.store_after(&[one.id], OnFailure::Run).await;
    let waiting = ledger.store_after(&[other.id], OnFailure::Run).await;
    let find = async || {
        let mut tx = ledger.system.system_relaxed().await.unwrap();
        let found = queries::find_untold(&mut tx, None).await.unwrap().1;
        tx.commit().await.unwrap();
        found
    };
    assert_eq!(find().await, 0);
    ledger.test.sql(format!("delete from job_live where id = '{}'", one.id)).await;
    assert_eq!(find().await, 1);
    assert_eq!(find().await, 0, "once");
    assert_eq!(ledger.tell().await, [last.id]);
    assert_eq!(ledger.state(waiting.id).await, "scheduled");
}
