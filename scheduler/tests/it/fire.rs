//! Schedules of tenants: fired once, on time, and by the rule when late.

use std::time::Duration;

use chrono::{DateTime, Timelike, Utc};
use millwork_scheduler::fire::look;
use millwork_shared::infra::db::ledger_now;
use millwork_shared::infra::ids::TenantId;
use millwork_shared::jobs::queries::{self as jobs, JobRow};
use millwork_shared::jobs::{NewJob, Queue, Unique};
use millwork_shared::schedules::queries::{self, Change, NewSchedule, ScheduleRow};
use millwork_shared::schedules::{Misfire, Rhythm};

use super::Yard;

const HOUR: Duration = Duration::from_secs(3_600);

impl Yard {
    async fn schedule(&self, tenant: TenantId, cron: &str, misfire: Misfire, job: &NewJob) -> ScheduleRow {
        let mut tx = self.test.db.tenant(tenant).await.unwrap();
        let now = ledger_now(&mut tx).await.unwrap();
        let new = NewSchedule {
            name: "s",
            cron,
            timezone: "UTC",
            misfire,
            job,
            next_run_at: Rhythm::parse(cron, "UTC").unwrap().next_after(now),
        };
        let row = queries::insert(&mut tx, &new).await.unwrap();
        tx.commit().await.unwrap();
        row
    }

    /// Not within the minute before an hour begins, so that hourly schedules made one after the other come together.
    async fn between_hours() -> Self {
        let yard = Self::open().await;
        if yard.now().await.minute() == 59 {
            yard.test.advance(Duration::from_secs(61)).await;
        }
        yard
    }

    async fn now(&self) -> DateTime<Utc> {
        ledger_now(&mut self.system.system().await.unwrap()).await.unwrap()
    }

    async fn hourly(&self, tenant: TenantId, misfire: Misfire) -> ScheduleRow {
        self.schedule(tenant, "0 * * * *", misfire, &Self::job(tenant)).await
    }

    async fn shown(&self, schedule: &ScheduleRow) -> ScheduleRow {
        let mut tx = self.test.db.tenant(schedule.tenant_id).await.unwrap();
        queries::get(&mut tx, schedule.id).await.unwrap()
    }

    async fn jobs_of(&self, schedule: &ScheduleRow) -> Vec<JobRow> {
        let mut tx = self.test.db.tenant(schedule.tenant_id).await.unwrap();
        let filter = jobs::Filter { schedule: Some(schedule.id), ..Default::default() };
        jobs::list(&mut tx, &filter, 1_000).await.unwrap()
    }

    /// Moves the clock past the time at which `schedule` comes next, by `after`.
    async fn pass(&self, schedule: &ScheduleRow, after: Duration) -> DateTime<Utc> {
        let next = self.shown(schedule).await.next_run_at.unwrap();
        let now = self.now().await;
        self.test.advance((next - now).to_std().unwrap() + after).await;
        next
    }

    async fn look(&self) -> usize {
        look(&self.system, &self.dispatcher).await.unwrap()
    }
}

#[tokio::test]
async fn a_schedule_fires_once_at_its_time_and_moves_on() {
    let yard = Yard::between_hours().await;
    let tenant = yard.tenant().await;
    let job = NewJob { queue: Queue::Exports, tags: vec!["t".into()], ..Yard::job(tenant) };
    let schedule = yard.schedule(tenant, "0 * * * *", Misfire::Skip, &job).await;
    assert_eq!(yard.look().await, 0, "not yet");
    for round in 1..=3 {
        let planned = yard.pass(&schedule, Duration::from_millis(10)).await;
        assert_eq!((yard.look().await, yard.look().await), (1, 0));
        let jobs = yard.jobs_of(&schedule).await;
        assert_eq!(jobs.len(), round);
        let newest = &jobs[0];
        assert_eq!(
            (newest.queue.as_str(), newest.state().as_str(), newest.tags.as_deref()),
            ("exports", "queued", Some(&["t".to_owned()][..]))
        );
        let shown = yard.shown(&schedule).await;
        assert_eq!(shown.next_run_at, Some(planned + HOUR));
        assert_eq!(shown.last_job_id, Some(newest.id));
        assert!(shown.last_run_at.unwrap() >= planned);
        assert_eq!(yard.until(Queue::Exports, 1).await, [newest.id], "it went to Redis by itself");
    }
}

#[tokio::test]
async fn two_schedulers_at_once_never_fire_twice() {
    let yard = Yard::between_hours().await;
    let tenant = yard.tenant().await;
    let mut schedules = Vec::new();
    for _ in 0..250 {
        schedules.push(yard.hourly(tenant, Misfire::Skip).await);
    }
    yard.pass(&schedules[0], Duration::from_secs(1)).await;
    let looks = futures::future::join_all((0..4).map(|_| yard.look())).await;
    assert_eq!(looks.iter().sum::<usize>() + yard.look().await, 250, "{looks:?}");
    for schedule in &schedules {
        assert_eq!(yard.jobs_of(schedule).await.len(), 1);
    }
}

#[tokio::test]
async fn a_scheduler_that_dies_before_its_commit_has_fired_nothing() {
    let yard = Yard::between_hours().await;
    let tenant = yard.tenant().await;
    let schedule = yard.hourly(tenant, Misfire::Skip).await;
    let planned = yard.pass(&schedule, Duration::from_secs(1)).await;
    // All that `look` does, up to the commit.
    let mut tx = yard.system.system().await.unwrap();
    let taken = queries::take_due(&mut tx, &[schedule.id]).await.unwrap();
    let job = taken[0].job().unwrap();
    jobs::enqueue(&mut tx, std::slice::from_ref(&job)).await.unwrap();
    let fired = queries::Fired { id: schedule.id, job: Some(job.id), next_run_at: Some(planned + HOUR) };
    queries::move_on(&mut tx, &[fired]).await.unwrap();
    assert_eq!(yard.look().await, 0, "somebody is at it");
    drop(tx);
    assert_eq!(yard.look().await, 1);
    assert_eq!(yard.jobs_of(&schedule).await.len(), 1);
    assert_eq!(yard.shown(&schedule).await.next_run_at, Some(planned + HOUR));
}

#[tokio::test]
async fn what_was_missed_is_left_out_or_made_up_for_once() {
    let yard = Yard::between_hours().await;
    let tenant = yard.tenant().await;
    let (skips, once) = (yard.hourly(tenant, Misfire::Skip).await, yard.hourly(tenant, Misfire::Once).await);
    let planned = yard.pass(&skips, HOUR * 5 + HOUR / 2).await;
    assert_eq!(yard.look().await, 1);
    assert_eq!((yard.jobs_of(&skips).await.len(), yard.jobs_of(&once).await.len()), (0, 1));
    for schedule in [&skips, &once] {
        assert_eq!(yard.shown(schedule).await.next_run_at, Some(planned + HOUR * 6));
    }
    assert_eq!(yard.shown(&skips).await.last_run_at, None);
    yard.pass(&skips, Duration::from_secs(30)).await; // a new leader takes a while: no misfire
    assert_eq!(yard.look().await, 2);
    assert_eq!((yard.jobs_of(&skips).await.len(), yard.jobs_of(&once).await.len()), (1, 2));
}

#[tokio::test]
async fn a_paused_schedule_does_not_fire_and_a_resumed_one_makes_up_for_nothing() {
    let yard = Yard::between_hours().await;
    let tenant = yard.tenant().await;
    let schedule = yard.hourly(tenant, Misfire::Once).await;
    let mut tx = yard.test.db.tenant(tenant).await.unwrap();
    let pause = Change { paused: Some(true), next_run_at: Some(None), ..Change::default() };
    queries::update(&mut tx, schedule.id, &pause).await.unwrap();
    tx.commit().await.unwrap();
    yard.test.advance(HOUR * 3).await;
    assert_eq!(yard.look().await, 0);
    assert!(yard.jobs_of(&schedule).await.is_empty());
}

#[tokio::test]
async fn a_time_at_which_the_job_before_still_lives_is_left_out_if_its_key_is_unique() {
    let yard = Yard::between_hours().await;
    let tenant = yard.tenant().await;
    let unique = Some(Unique { key: "k".into(), hold: None });
    let job = NewJob { unique, ..Yard::job(tenant) };
    // Two of one key: only one of them gets it at a time.
    let both = [
        yard.schedule(tenant, "0 * * * *", Misfire::Skip, &job).await,
        yard.schedule(tenant, "0 * * * *", Misfire::Skip, &job).await,
    ];
    let planned = yard.pass(&both[0], Duration::from_secs(1)).await;
    assert_eq!(yard.look().await, 1);
    let made = [yard.jobs_of(&both[0]).await, yard.jobs_of(&both[1]).await].concat();
    assert_eq!(made.len(), 1);
    yard.pass(&both[0], Duration::from_secs(1)).await;
    assert_eq!(yard.look().await, 0, "it still lives");
    assert_eq!(yard.shown(&both[0]).await.next_run_at, Some(planned + HOUR * 2), "and yet the schedule goes on");
    let mut tx = yard.test.db.tenant(tenant).await.unwrap();
    jobs::cancel(&mut tx, made[0].id).await.unwrap();
    tx.commit().await.unwrap();
    yard.pass(&both[0], Duration::from_secs(1)).await;
    assert_eq!(yard.look().await, 1);
}

#[tokio::test]
async fn a_schedule_that_cannot_be_read_holds_up_no_other() {
    let yard = Yard::between_hours().await;
    let tenant = yard.tenant().await;
    let (bad, good) = (yard.hourly(tenant, Misfire::Skip).await, yard.hourly(tenant, Misfire::Skip).await);
    yard.test.sql(format!("update schedules set timezone = 'Atlantis' where id = '{}'", bad.id)).await;
    yard.pass(&good, Duration::from_secs(1)).await;
    assert_eq!(yard.look().await, 1);
    assert_eq!((yard.jobs_of(&bad).await.len(), yard.jobs_of(&good).await.len()), (0, 1));
}

#[tokio::test]
async fn schedules_of_a_suspended_tenant_rest_and_then_follow_their_rules() {
    let yard = Yard::between_hours().await;
    let (suspended, other) = (yard.tenant().await, yard.tenant().await);
    let skipping = yard.hourly(suspended, Misfire::Skip).await;
    let catching_up = yard.hourly(suspended, Misfire::Once).await;
    yard.hourly(other, Misfire::Skip).await;
    yard.test.sql(format!("update tenants set suspended_at = ledger_now() where id = '{suspended}'")).await;
    yard.pass(&skipping, Duration::from_millis(10)).await;
    assert_eq!((yard.look().await, yard.look().await), (1, 0), "the other tenant's alone");
    yard.test.advance(2 * HOUR + HOUR / 2).await;
    assert_eq!(yard.look().await, 0, "the other tenant's is too late, and skips");
    yard.test.sql("update tenants set suspended_at = null").await;
    assert_eq!(yard.look().await, 1, "one is caught up on");
    assert_eq!((yard.jobs_of(&skipping).await.len(), yard.jobs_of(&catching_up).await.len()), (0, 1));
    yard.pass(&skipping, Duration::from_millis(10)).await;
    assert_eq!(yard.look().await, 3, "and all go on");
}
