//! Two schedulers, and what becomes of the standby when the leader is gone.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::{Cluster, Gate, LEASE_OVER, Member, SOON, echo, redis, retrying, wait_for};

/// Standbys try every two seconds; a leader that hangs is put out after ten.
const TAKEN_OVER: Duration = Duration::from_secs(10);
const PUT_OUT: Duration = Duration::from_secs(25);

#[test]
fn the_standby_takes_over_admission_retries_and_repair_from_a_killed_leader() {
    let cluster = Cluster::without_scheduler();
    let (client, gate) = (&cluster.client, Gate::closed());
    let (leader, standby) = leader_and_standby(&cluster);
    let worker = cluster.spawn_worker();
    // Through the hands of the scheduler: a job for later, one that is to be tried again, one whose worker dies.
    let later = client.submit(&delayed(3));
    gate.answer_new(500, "not now");
    let failing = client.submit(&retrying(&gate.url("failing"), "failing"));
    wait_for("a failed attempt", SOON, || !gate.calls("failing").is_empty());

    leader.kill9().unwrap();
    let killed = Instant::now();
    wait_for("the standby's taking over", TAKEN_OVER, || standby.said("leading"));
    eprintln!("taken over within {:?}", killed.elapsed());
    gate.answer_new(200, "now");
    for id in [&later, &failing] {
        wait_for("the end of what had to wait", SOON, || client.job(id)["state"] == "succeeded");
    }

    worker.kill9().unwrap();
    let tickets = client.submit_many(&echo("flushed"), 100).len();
    wait_for("tickets", SOON, || redis(&cluster.redis, "ZCARD mw:{default}:ready") == format!(":{tickets}"));
    redis(&cluster.redis, "FLUSHALL");
    let _worker = cluster.spawn_worker();
    wait_for("repair after the flush", LEASE_OVER, || client.states("flushed").get("succeeded") == Some(&tickets));
}

#[test]
fn a_lost_worker_is_noticed_by_the_standby_of_a_killed_leader() {
    let cluster = Cluster::without_scheduler();
    let (client, gate) = (&cluster.client, Gate::closed());
    let (leader, _standby) = leader_and_standby(&cluster);
    let worker = cluster.spawn_worker();
    let id = client.submit(&retrying(&gate.url("call"), "held"));
    wait_for("a running job", SOON, || gate.calls("call").len() == 1);

    leader.kill9().unwrap();
    worker.kill9().unwrap();
    let _worker = cluster.spawn_worker();
    gate.answer_new(200, "second");
    wait_for("its end on another worker", LEASE_OVER + TAKEN_OVER, || client.job(&id)["state"] == "succeeded");
    assert_eq!(client.endings(&id), ["lost", "succeeded"]);
}

#[test]
fn a_leader_that_hangs_is_put_out_and_stands_by_when_it_wakes() {
    let cluster = Cluster::without_scheduler();
    let client = &cluster.client;
    let (leader, standby) = leader_and_standby(&cluster);
    let _worker = cluster.spawn_worker();

    leader.sigstop().unwrap();
    let id = client.submit(&delayed(1));
    let hung = Instant::now();
    wait_for("the standby's taking over", PUT_OUT, || standby.said("leading"));
    eprintln!("taken over within {:?}", hung.elapsed());
    wait_for("the end of a delayed job", SOON, || client.job(&id)["state"] == "succeeded");

    leader.sigcont().unwrap();
    wait_for("its noticing", SOON, || leader.said("no longer leading"));
    standby.kill9().unwrap();
    let id = client.submit(&delayed(1));
    wait_for("its leading again", SOON, || client.job(&id)["state"] == "succeeded");
}

/// Before any worker is started.
fn leader_and_standby(cluster: &Cluster) -> (Member, Member) {
    let leader = cluster.spawn_scheduler();
    wait_for("a leader", SOON, || leader.said("leading"));
    let standby = cluster.spawn_scheduler();
    // Only a leader does this; by the time that it is done the standby has seen that there is one.
    cluster.client.submit(&delayed(3));
    wait_for("admission of a delayed job", SOON, || redis(&cluster.redis, "ZCARD mw:{default}:ready") == ":1");
    assert!(!standby.said("leading"));
    (leader, standby)
}

fn delayed(seconds: u64) -> Value {
    json!({"kind": "echo", "payload": {}, "delay_s": seconds, "tags": ["delayed"]})
}
