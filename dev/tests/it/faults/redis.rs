//! Redis wiped, restarted and hung: the ledger has everything.

use std::time::{Duration, Instant};

use crate::support::{Cluster, Gate, Load, SOON, echo, redis, retrying, wait_for};

/// How long a wiped Redis may go unnoticed, by promise.
const HEALED: Duration = Duration::from_secs(30);

#[test]
fn a_thousand_waiting_jobs_run_within_half_a_minute_of_a_flush() {
    let cluster = Cluster::start();
    let client = &cluster.client;
    client.submit_many(&echo("waiting"), 1_000);
    wait_for("a thousand tickets", SOON, || redis(&cluster.redis, "ZCARD mw:{default}:ready") == ":1000");

    let flushed = Instant::now();
    assert_eq!(redis(&cluster.redis, "FLUSHALL"), "+OK");
    let _worker = cluster.spawn_worker();
    cluster.wait_until_all_ended(HEALED.saturating_sub(flushed.elapsed()));
    eprintln!("all ran within {:?} of the flush", flushed.elapsed());
    assert_eq!(client.states("waiting"), [("succeeded".to_owned(), 1_000)].into());
}

#[test]
fn a_flush_beside_a_busy_worker_neither_loses_what_waits_nor_repeats_what_runs() {
    let cluster = Cluster::start();
    let (client, gate) = (&cluster.client, Gate::closed());
    let _worker = cluster.spawn_worker_with(&[("WORKER_QUEUES", "webhooks=4")]);
    client.submit_many(&retrying(&gate.url("call"), "running"), 3); // of one tenant, three of four slots
    wait_for("three running jobs", SOON, || gate.calls("call").len() == 3);
    let mut waiting = retrying(&gate.url("call"), "waiting");
    waiting["priority"] = 2.into();
    client.submit_many(&waiting, 500);
    let mut waiting = echo("waiting");
    waiting["queue"] = "webhooks".into();
    client.submit_many(&waiting, 500);
    wait_for("a thousand tickets", SOON, || redis(&cluster.redis, "ZCARD mw:{webhooks}:ready") == ":1000");

    let flushed = Instant::now();
    assert_eq!(redis(&cluster.redis, "FLUSHALL"), "+OK");
    gate.open("done");
    cluster.wait_until_all_ended(HEALED);
    eprintln!("all ran within {:?} of the flush", flushed.elapsed());
    assert_eq!(client.states("running"), [("succeeded".to_owned(), 3)].into());
    assert_eq!(client.states("waiting"), [("succeeded".to_owned(), 1_000)].into());
    assert_eq!(gate.calls("call").len(), 503, "each call was made once");
}

#[test]
fn every_submission_is_accepted_while_redis_is_away_and_runs_when_it_is_back() {
    let mut cluster = Cluster::start();
    let client = cluster.client.clone();
    let worker = cluster.spawn_worker();
    assert_eq!(cluster.health(), "ok");
    let load = Load::start(&client, "load");
    load.go_on_for(50);

    cluster.redis.stop().unwrap();
    wait_for("the API's saying so", SOON, || cluster.health() == "degraded");
    load.go_on_for(300);
    assert_eq!(cluster.health(), "degraded");
    cluster.redis.restart().unwrap();
    let back = Instant::now();
    wait_for("the API's saying so", SOON, || cluster.health() == "ok");
    load.go_on_for(50);

    let answers = load.stop();
    let refused: Vec<_> = answers.iter().filter(|answer| answer.status != 202).collect();
    assert!(refused.is_empty(), "{refused:?}");
    cluster.wait_until_all_ended(HEALED.saturating_sub(back.elapsed()));
    eprintln!("{} jobs ran within {:?}", answers.len(), back.elapsed());
    assert_eq!(client.states("load"), [("succeeded".to_owned(), answers.len())].into());
    for member in [&cluster.api, &worker, cluster.scheduler.as_ref().unwrap()] {
        assert!(member.exited().is_none(), "{} ended", member.name());
    }
}

#[test]
fn a_redis_that_hangs_and_then_crashes_delays_no_submission() {
    let mut cluster = Cluster::start();
    let client = cluster.client.clone();
    let _worker = cluster.spawn_worker();
    let load = Load::start(&client, "load");
    load.go_on_for(50);

    cluster.redis.freeze().unwrap();
    wait_for("the API's saying so", SOON, || cluster.health() == "degraded");
    load.go_on_for(200);
    cluster.redis.kill9().unwrap();
    load.go_on_for(50);
    cluster.redis.restart().unwrap();
    let back = Instant::now();

    let answers = load.stop();
    let refused: Vec<_> = answers.iter().filter(|answer| answer.status != 202).collect();
    assert!(refused.is_empty(), "{refused:?}");
    let slowest = answers.iter().map(|answer| answer.took).max().unwrap();
    assert!(slowest < Duration::from_secs(3), "a submission waited {slowest:?}");
    cluster.wait_until_all_ended(HEALED.saturating_sub(back.elapsed()));
    assert_eq!(client.states("load"), [("succeeded".to_owned(), answers.len())].into());
}
