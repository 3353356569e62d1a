//! Replaying and cancelling many jobs: what is chosen, how fast, and that nothing is done twice.

use std::time::Duration;

use millwork_shared::infra::ids::JobId;
use millwork_shared::jobs::bulk::{Bulk, CancelJobs, ReplayJobs, Selection};
use millwork_shared::jobs::kinds::Echo;
use millwork_shared::jobs::queries::{self, CancelResult, NewWorker};
use millwork_shared::jobs::{NewJob, Outcome, Queue, State, Unique};
use millwork_worker::jobs::bulk;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use std::sync::Arc;

use crate::support::{World, done};

/// More than a test has jobs.
const FAST: u32 = 10_000;

fn all(rate_per_s: u32) -> Bulk {
    Bulk { selection: Selection::default(), rate_per_s, dry_run: false }
}

fn only(selection: Selection) -> Bulk {
    Bulk { selection, ..all(FAST) }
}

impl World {
    fn echo(&self) -> NewJob {
        NewJob::of(self.tenant, &Echo(RawValue::NULL.to_owned())).unwrap()
    }

    async fn store(&self, jobs: &[NewJob]) {
        let mut tx = self.db.db.tenant(self.tenant).await.unwrap();
        queries::enqueue(&mut tx, jobs).await.unwrap();
        tx.commit().await.unwrap();
    }

    /// Stores jobs and ends them.
    async fn ended(&self, state: State, jobs: &[NewJob]) {
        self.store(jobs).await;
        self.end(state, jobs).await;
    }

    async fn end(&self, state: State, jobs: &[NewJob]) {
        let ids: Vec<_> = jobs.iter().map(|job| format!("'{}'", job.id)).collect();
        let sql = format!(
            "with ended as (delete from job_live where id in ({}) returning *)
             insert into job_outcomes (tenant_id, id, state, attempt, finished_at)
             select tenant_id, id, '{}', attempt + 1, ledger_now() from ended",
            ids.join(","),
            state.as_str()
        );
        self.db.sql(sql).await;
    }

    async fn replay(&self, id: JobId, bulk: &Bulk) -> Outcome {
        bulk::replay(ReplayJobs(bulk.clone()), Arc::new(self.run(id)), self.ctx.clone()).await.unwrap()
    }

    async fn cancel_many(&self, id: JobId, bulk: &Bulk) -> Outcome {
        bulk::cancel(CancelJobs(bulk.clone()), Arc::new(self.run(id)), self.ctx.clone()).await.unwrap()
    }

    async fn states(&self, jobs: &[NewJob]) -> Vec<&'static str> {
        let mut tx = self.db.db.tenant(self.tenant).await.unwrap();
        let mut states = Vec::new();
        for job in jobs {
            states.push(queries::get(&mut tx, job.id).await.unwrap().state().as_str());
        }
        states
    }

    async fn count(&self, of: &str) -> usize {
        self.db.sql(format!("select count(*)::text from {of}")).await[0].as_ref().unwrap().parse().unwrap()
    }
}

fn counts(matched: u64, done: u64, skipped: u64) -> Value {
    json!({ "matched": matched, "done": done, "skipped": skipped })
}

#[tokio::test]
async fn those_that_match_live_again_and_no_others() {
    let world = World::create().await;
    let tagged = |tag: &str| NewJob { tags: vec![tag.into()], ..world.echo() };
    let (a, b) = ([tagged("a"), tagged("a")], [tagged("b")]);
    let exports = [NewJob { queue: Queue::Exports, ..tagged("a") }];
    let mail = [NewJob { kind: "email.send".into(), ..tagged("a") }];
    let (cancelled, succeeded) = ([tagged("a")], [tagged("a")]);
    for (state, jobs) in [
        (State::Failed, &a[..]),
        (State::Failed, &b),
        (State::Failed, &exports),
        (State::Failed, &mail),
        (State::Cancelled, &cancelled),
        (State::Succeeded, &succeeded),
    ] {
        world.ended(state, jobs).await;
    }
    let later = Selection { from: Some(world.db.clock.now() + Duration::from_secs(60)), ..Selection::default() };
    let before = Selection { to: Some(a[0].created_at() - Duration::from_secs(60)), ..Selection::default() };
    for nothing in [later, before] {
        assert_eq!(done(world.replay(JobId::generate(), &only(nothing)).await), counts(0, 0, 0));
    }
    let chosen = Selection {
        kind: Some("echo".into()),
        queue: Some("default".into()),
        tag: Some("a".into()),
        from: Some(a[0].created_at() - Duration::from_secs(60)),
        to: Some(world.db.clock.now() + Duration::from_secs(60)),
        ..Selection::default()
    };
    let count = Bulk { dry_run: true, ..only(chosen.clone()) };
    let counted = done(world.replay(JobId::generate(), &count).await);
    assert_eq!(counted, json!({ "matched": 2, "done": 0, "skipped": 0, "at_least": false }));
    assert_eq!(world.states(&a).await, ["failed", "failed"], "nothing was done");
    assert_eq!(done(world.replay(JobId::generate(), &only(chosen)).await), counts(2, 2, 0));
    assert_eq!(world.states(&a).await, ["queued", "queued"]);
    assert_eq!(world.states(&b).await, ["failed"]);
    assert_eq!([world.states(&exports).await, world.states(&mail).await].concat(), ["failed", "failed"]);
    assert_eq!([world.states(&cancelled).await, world.states(&succeeded).await].concat(), ["cancelled", "succeeded"]);

    let cancelled_ones = Selection { state: Some(State::Cancelled), ..Selection::default() };
    assert_eq!(done(world.replay(JobId::generate(), &only(cancelled_ones)).await), counts(1, 1, 0));
    assert_eq!(world.states(&cancelled).await, ["queued"]);
    let mut tx = world.db.db.tenant(world.tenant).await.unwrap();
    let attempts = queries::list_attempts(&mut tx, a[0].id).await.unwrap();
    assert_eq!(attempts.iter().map(|a| a.ended.as_str()).collect::<Vec<_>>(), ["failed"], "its past is kept");
}

#[tokio::test]
async fn a_pace_is_kept_by_waits_in_the_ledger_and_nothing_is_replayed_twice() {
    let world = World::create().await;
    let jobs: Vec<_> = (0..5).map(|_| world.echo()).collect();
    world.ended(State::Failed, &jobs).await;
    let (id, bulk) = (JobId::generate(), all(2));
    let mut lived = Vec::new();
    for round in 0..2 {
        let outcome = world.replay(id, &bulk).await;
        assert!(matches!(outcome, Outcome::Snooze(wait) if wait == Duration::from_secs(1)), "{outcome:?}");
        lived.push(world.count("job_live").await);
        if round == 0 {
            // Whoever runs it again at once, as after a crash, does nothing more.
            assert!(matches!(world.replay(id, &bulk).await, Outcome::Snooze(_)));
            assert_eq!(world.count("job_live").await, 2);
            // Those that fail again are not replayed again.
            world.end(State::Failed, &jobs[..2]).await;
        }
        world.db.advance(Duration::from_secs(1)).await;
    }
    assert_eq!(lived, [2, 2]);
    assert_eq!(done(world.replay(id, &bulk).await), counts(5, 5, 0));
    assert_eq!(world.states(&jobs).await, ["failed", "failed", "queued", "queued", "queued"]);
    world.db.advance(Duration::from_secs(1)).await;
    assert_eq!(done(world.replay(id, &bulk).await), counts(5, 5, 0), "it may run once more");
}

#[tokio::test]
async fn two_workers_that_both_believe_to_have_it_share_work_and_pace() {
    let world = World::create().await;
    let jobs: Vec<_> = (0..1_200).map(|_| world.echo()).collect();
    world.ended(State::Failed, &jobs).await;
    let (id, bulk) = (JobId::generate(), all(FAST));
    let mut tx = world.db.db.tenant(world.tenant).await.unwrap();
    queries::lock_sweep(&mut tx, id, &bulk.selection).await.unwrap(); // so that neither waits for the other's row
    tx.commit().await.unwrap();
    let outcomes = tokio::join!(world.replay(id, &bulk), world.replay(id, &bulk));
    let (finished, put_off): (Vec<_>, Vec<_>) =
        [outcomes.0, outcomes.1].into_iter().partition(|outcome| matches!(outcome, Outcome::Done(_)));
    assert!(put_off.iter().all(|outcome| matches!(outcome, Outcome::Snooze(_))), "{put_off:?}");
    assert!(!finished.is_empty());
    for outcome in finished {
        assert_eq!(done(outcome), counts(1_200, 1_200, 0));
    }
    assert_eq!((world.count("job_live").await, world.count("job_attempts").await), (1_200, 1_200));
}

#[tokio::test]
async fn one_whose_unique_key_is_held_meanwhile_is_skipped_and_counted() {
    let world = World::create().await;
    let keyed = |key: &str| NewJob { unique: Some(Unique { key: key.into(), hold: None }), ..world.echo() };
    let mut old = Vec::new();
    for key in ["held", "twice", "twice", "free"] {
        let job = keyed(key);
        world.ended(State::Failed, std::slice::from_ref(&job)).await;
        old.push(job);
    }
    world.store(&[keyed("held")]).await;
    assert_eq!(done(world.replay(JobId::generate(), &all(FAST)).await), counts(4, 2, 2));
    assert_eq!(world.states(&old).await, ["failed", "queued", "failed", "queued"]);
    let mut tx = world.db.db.tenant(world.tenant).await.unwrap();
    assert!(queries::enqueue(&mut tx, &[keyed("free")]).await.is_err(), "it holds its key again");
}

#[tokio::test]
async fn a_failed_cancellation_of_many_is_not_replayed_with_everything() {
    let world = World::create().await;
    let jobs = [NewJob::of(world.tenant, &CancelJobs(all(1))).unwrap(), world.echo()];
    world.ended(State::Failed, &jobs).await;
    assert_eq!(done(world.replay(JobId::generate(), &all(FAST)).await), counts(1, 1, 0));
    assert_eq!(world.states(&jobs).await, ["failed", "queued"]);
}

#[tokio::test]
async fn those_that_wait_are_cancelled_and_those_that_run_are_told() {
    let world = World::create().await;
    let due = millwork_shared::jobs::Due::In(Duration::from_secs(600));
    let (queued, running) = ([world.echo(), world.echo()], [world.echo()]);
    let scheduled = [NewJob { due, ..world.echo() }];
    world.store(&[&queued[..], &running, &scheduled].concat()).await;
    let id = JobId::generate();
    let later = [world.echo()];
    world.store(&later).await;
    let worker = millwork_shared::infra::ids::WorkerId::generate();
    let known = NewWorker { host: "h".into(), version: "1", queues: vec![], concurrency: 1 };
    let mut tx = world.db.db.system().system().await.unwrap();
    queries::register(&mut tx, worker, &known, Duration::from_secs(15)).await.unwrap();
    let claimed = queries::claim(&mut tx, worker, &[(&running[0]).into()]).await.unwrap();
    assert_eq!(claimed.len(), 1);
    tx.commit().await.unwrap();

    let scheduled_ones = Selection { state: Some(State::Scheduled), ..Selection::default() };
    assert_eq!(done(world.cancel_many(JobId::generate(), &only(scheduled_ones)).await), counts(1, 1, 0));
    assert_eq!(world.states(&scheduled).await, ["cancelled"]);
    assert_eq!(world.states(&queued).await, ["queued", "queued"]);
    let count = Bulk { dry_run: true, ..all(FAST) };
    assert_eq!(done(world.cancel_many(JobId::generate(), &count).await)["matched"], 4);
    assert_eq!(done(world.cancel_many(id, &all(FAST)).await), counts(3, 3, 0));
    assert_eq!(world.states(&queued).await, ["cancelled", "cancelled"]);
    assert_eq!([world.states(&running).await, world.states(&later).await].concat(), ["running", "queued"]);
    let mut tx = world.db.db.system().system().await.unwrap();
    assert_eq!(queries::list_cancels(&mut tx, &[(world.tenant, running[0].id)]).await.unwrap(), [running[0].id]);
    let mut tx = world.db.db.tenant(world.tenant).await.unwrap();
    assert_eq!(queries::cancel(&mut tx, later[0].id).await.unwrap(), CancelResult::Cancelled);
}
