//! What a worker counts of its work.

use std::time::{Duration, Instant};

use millwork_shared::jobs::{NewJob, State};
use millwork_shared::testing::metrics::sample;
use millwork_worker::metrics::METRICS;
use millwork_worker::runtime::Settings;

use super::stage::{Stage, Step, settings};

/// How a figure changes. Tests of one process share its figures, so that no other test may count what is asked for.
struct Change<'a> {
    stage: &'a Stage,
    series: &'static str,
    before: f64,
}

impl<'a> Change<'a> {
    fn of(stage: &'a Stage, series: &'static str) -> Self {
        Self { stage, series, before: value(stage, series) }
    }

    fn by(&self) -> f64 {
        value(self.stage, self.series) - self.before
    }
}

fn value(stage: &Stage, series: &str) -> f64 {
    sample(&METRICS.vitals.text(&stage.world.db.db), series).unwrap_or(0.0)
}

#[tokio::test]
async fn attempts_are_counted_by_kind_queue_and_end() {
    let stage = Stage::set().await;
    let change = |series| Change::of(&stage, series);
    let [succeeded, failed, retried, snoozed] = [
        r#"millwork_attempts_total{end="succeeded",kind="test.play",queue="default"}"#,
        r#"millwork_attempts_total{end="failed",kind="test.play",queue="default"}"#,
        r#"millwork_attempts_total{end="retried",kind="test.play",queue="default"}"#,
        r#"millwork_attempts_total{end="snoozed",kind="test.play",queue="default"}"#,
    ]
    .map(change);
    let runs = change(r#"millwork_job_run_seconds_count{kind="test.play",queue="default"}"#);
    let waits = change(r#"millwork_job_wait_seconds_count{kind="test.play",queue="default"}"#);
    let claimed = change(r#"millwork_jobs_claimed_total{queue="default"}"#);
    let stored = change("millwork_completion_batch_size_sum");
    let _worker = stage.worker(4);
    let minute = Duration::from_secs(60);
    let jobs = [
        stage.play("a", [Step::Done("1".into())]),
        stage.play("b", [Step::Done("1".into())]),
        stage.play("c", [Step::Fail]),
        stage.play("d", [Step::Retry { after_s: Some(60) }]),
        stage.play("e", [Step::Snooze(minute)]),
    ];
    stage.submit(&jobs).await;
    for (job, state) in jobs.iter().zip([State::Succeeded, State::Succeeded, State::Failed, State::Retrying]) {
        stage.until(job.id, state).await;
    }
    stage.until(jobs[4].id, State::Scheduled).await;
    assert_eq!([&succeeded, &failed, &retried, &snoozed].map(Change::by), [2.0, 1.0, 1.0, 1.0]);
    assert_eq!([&runs, &waits, &claimed].map(Change::by), [5.0; 3]);
    // A job's state shows a moment before the worker knows that it is stored.
    until("stored outcomes", || stored.by() == 5.0).await;
}

#[tokio::test]
async fn kinds_without_a_handler_are_one_however_many_there_are() {
    let stage = Stage::set().await;
    let retried = Change::of(&stage, r#"millwork_attempts_total{end="retried",kind="other",queue="default"}"#);
    let _worker = stage.worker(4);
    let jobs: Vec<_> =
        (0..3).map(|n| NewJob { kind: format!("made.up.{n}"), ..stage.play("a", [Step::Fail]) }).collect();
    stage.submit(&jobs).await;
    for job in &jobs {
        stage.until(job.id, State::Retrying).await;
    }
    assert_eq!(retried.by(), 3.0);
    assert!(!METRICS.vitals.text(&stage.world.db.db).contains("made.up"));
}

#[tokio::test]
async fn what_runs_is_shown_until_it_ends() {
    let stage = Stage::set().await;
    let running = Change::of(&stage, r#"millwork_jobs_running{queue="default"}"#);
    let _worker = stage.worker(3);
    assert_eq!(running.by(), 0.0);
    let jobs = ["a", "b"].map(|name| stage.play(name, [Step::AtTheGate]));
    stage.submit(&jobs).await;
    stage.begun(2).await;
    assert_eq!(running.by(), 2.0);
    assert_eq!(value(&stage, r#"millwork_worker_slots{queue="default"}"#), 3.0);
    stage.gate.add_permits(2);
    for job in &jobs {
        stage.until(job.id, State::Succeeded).await;
    }
    assert_eq!(running.by(), 0.0);
}

#[tokio::test]
async fn a_lease_that_was_taken_away_is_counted_with_the_jobs_it_held() {
    let stage = Stage::set().await;
    let [leases, jobs] = ["millwork_leases_lost_total", "millwork_jobs_abandoned_total"].map(|s| Change::of(&stage, s));
    let _worker = stage.worker(2);
    stage.submit(&[stage.play("a", [Step::AtTheGate]), stage.play("b", [Step::AtTheGate])]).await;
    stage.begun(2).await;
    stage.take_leases_away().await;
    stage.left(2).await; // as it is told to
    assert_eq!([leases.by(), jobs.by()], [1.0, 2.0]);
}

#[tokio::test]
async fn a_result_that_came_too_late_is_counted_when_the_ledger_refuses_it() {
    let stage = Stage::set().await;
    let late = Change::of(&stage, "millwork_late_results_total");
    let unaware = Settings { heartbeat: Duration::from_secs(3_600), ..settings() };
    let _worker = stage.worker_with(unaware);
    let jobs = ["a", "b"].map(|name| stage.play(name, [Step::AtTheGate]));
    stage.submit(&jobs).await;
    stage.begun(2).await;
    stage.take_leases_away().await;
    stage.gate.add_permits(2);
    until("both late results", || late.by() == 2.0).await;
    for job in &jobs {
        assert_eq!(stage.job(job.id).await.state(), State::Queued);
    }
}

async fn until(what: &str, mut seen: impl FnMut() -> bool) {
    let began = Instant::now();
    while !seen() {
        assert!(began.elapsed() < Duration::from_secs(20), "waited in vain for {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
