//! How many jobs run at once, and which is next.

use std::collections::BTreeMap;

use millwork_shared::jobs::{NewJob, Queue, State};
use millwork_worker::runtime::Settings;

use super::stage::{Stage, Step, settings};

#[tokio::test]
async fn no_more_handlers_run_at_once_than_the_queue_has_slots() {
    let stage = Stage::set().await;
    let jobs: Vec<_> = (0..30).map(|n| stage.play(&n.to_string(), [Step::AtTheGate])).collect();
    stage.submit(&jobs).await;
    let _worker = stage.worker(2);
    stage.begun(2).await;
    for job in &jobs {
        stage.gate.add_permits(1);
        tokio::task::yield_now().await;
        assert!(stage.most_at_once() <= 2, "at {}", job.id);
    }
    for job in &jobs {
        stage.until(job.id, State::Succeeded).await;
    }
    assert_eq!((stage.most_at_once(), stage.runs().len()), (2, 30));
}

#[tokio::test]
async fn quick_jobs_are_claimed_ahead_and_still_take_turns() {
    let stage = Stage::set().await;
    let jobs: Vec<_> = (0..400).map(|n| stage.play(&n.to_string(), [Step::Done("1".into())])).collect();
    stage.submit(&jobs).await;
    let _worker = stage.worker(2);
    for job in &jobs {
        stage.until(job.id, State::Succeeded).await;
    }
    assert_eq!(stage.most_at_once(), 2);
    assert_eq!(stage.runs().len(), 400);
}

#[tokio::test]
async fn slow_jobs_of_one_tenant_leave_slots_to_the_others_whatever_its_quick_ones_do() {
    let stage = Stage::set().await;
    let other = stage.world.db.tenant("other").await;
    let mixed: Vec<_> = (0..400)
        .map(|n| match n % 10 {
            0 => stage.play(&format!("slow-{n}"), [Step::AtTheGate]),
            _ => stage.play(&format!("quick-{n}"), [Step::Done("1".into())]),
        })
        .collect();
    stage.submit(&mixed).await;
    let _worker = stage.worker(8);
    stage.begun(51).await; // with six slow ones, its share
    let others: Vec<_> = (0..20)
        .map(|n| NewJob { tenant: other, ..stage.play(&format!("other-{n}"), [Step::Done("1".into())]) })
        .collect();
    stage.submit_as(other, &others).await;
    for job in &others {
        stage.until_as(other, job.id, State::Succeeded).await;
    }
    let slow = |runs: Vec<String>| runs.iter().filter(|name| name.starts_with("slow")).count();
    assert_eq!(slow(stage.names()), 6);
    stage.gate.add_permits(400);
    for job in &mixed {
        stage.until(job.id, State::Succeeded).await;
    }
    assert_eq!(slow(stage.names()), 40);
}

#[tokio::test]
async fn with_one_slot_the_highest_priority_is_next_and_within_it_the_oldest() {
    let stage = Stage::set().await;
    let _worker = stage.worker(1);
    stage.submit(&[stage.play("first", [Step::AtTheGate])]).await;
    stage.begun(1).await; // now the slot is taken
    let waiting = [("low", 0), ("mid", 4), ("mid-later", 4), ("high", 9)];
    let waiting = waiting.map(|(name, priority)| stage.play_at(name, priority, [Step::AtTheGate]));
    stage.submit(&waiting).await;
    for runs in 2..=5 {
        stage.gate.add_permits(1);
        stage.begun(runs).await;
    }
    assert_eq!(stage.names(), ["first", "high", "mid", "mid-later", "low"]);
}

#[tokio::test]
async fn a_queue_that_the_worker_does_not_serve_waits_for_another() {
    let stage = Stage::set().await;
    let [served, other] = [Queue::Email, Queue::Files]
        .map(|queue| NewJob { queue, ..stage.play(queue.as_str(), [Step::Done("1".into())]) });
    stage.submit(&[other.clone(), served.clone()]).await;
    let _worker = stage.worker_with(Settings { queues: BTreeMap::from([(Queue::Email, 1)]), ..settings() });
    stage.until(served.id, State::Succeeded).await;
    assert_eq!(stage.job(other.id).await.state(), State::Queued);
}

#[tokio::test]
async fn each_queue_has_slots_of_its_own() {
    let stage = Stage::set().await;
    let _worker =
        stage.worker_with(Settings { queues: BTreeMap::from([(Queue::Email, 1), (Queue::Files, 1)]), ..settings() });
    let stuck = NewJob { queue: Queue::Email, ..stage.play("stuck", [Step::AtTheGate]) };
    stage.submit(std::slice::from_ref(&stuck)).await;
    stage.begun(1).await;
    let quick = NewJob { queue: Queue::Files, ..stage.play("quick", [Step::Done("1".into())]) };
    stage.submit(std::slice::from_ref(&quick)).await;
    stage.until(quick.id, State::Succeeded).await;
    assert_eq!(stage.job(stuck.id).await.state(), State::Running);
}
