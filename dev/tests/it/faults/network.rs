//! Connections that fall silent, as when the machine at the other end vanishes: no error, no end, nothing.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::support::{Cluster, Gate, LEASE_OVER, Load, SOON, echo, retrying, wait_for};

/// Longest time for which a process may trust a connection that says nothing.
const NOTICED: Duration = Duration::from_secs(30);

#[test]
fn connections_to_postgres_that_fall_silent_are_given_up_by_every_process() {
    let (cluster, wire, _to_redis) = Cluster::over_wires();
    let (client, gate) = (&cluster.client, Gate::closed());
    let worker = cluster.spawn_worker();
    client.submit_many(&retrying(&gate.url("call"), "held"), 20);
    wait_for("20 running jobs", SOON, || gate.calls("call").len() == 20);
    let load = Load::start(client, "load");
    load.go_on_for(100);

    wire.silence();
    let silent = Instant::now();
    wait_for("submissions that work", NOTICED, || {
        load.answers_since(silent).iter().filter(|answer| answer.status == 202).count() >= 20
    });
    eprintln!("submissions work again after {:?}", silent.elapsed());
    gate.open("done");
    wait_for("the end of the running jobs", NOTICED, || client.states("held").get("succeeded") == Some(&20));
    eprintln!("what ran has ended after {:?}", silent.elapsed());
    let answers = load.stop();
    for answer in &answers {
        let fits = answer.status == 202 || (answer.status == 503 && answer.retry_after.is_some());
        assert!(fits, "{answer:?}");
    }
    cluster.wait_until_all_ended(LEASE_OVER);
    eprintln!("all has ended after {:?}", silent.elapsed());
    let accepted = answers.iter().filter(|answer| answer.status == 202).count();
    assert!(client.jobs("load").len() >= accepted);
    assert!(!client.workers().is_empty() && worker.exited().is_none());

    // Once more, with every pool at rest.
    wire.silence();
    let silent = Instant::now();
    let mut id = None;
    wait_for("a submission that works", NOTICED, || {
        let answer = client.try_submit(&echo("after"), None).unwrap();
        id = answer.expect(202).ok().and_then(|job| job["data"]["id"].as_str().map(str::to_owned));
        id.is_some()
    });
    wait_for("its end", NOTICED, || client.job(id.as_ref().unwrap())["state"] == "succeeded");
    eprintln!("a job has ended after {:?}", silent.elapsed());
}

#[test]
fn connections_to_redis_that_fall_silent_are_given_up_by_every_process() {
    let (cluster, _to_postgres, wire) = Cluster::over_wires();
    let client = &cluster.client;
    let _worker = cluster.spawn_worker();
    let first = client.submit(&echo("before"));
    wait_for("the end of a job", SOON, || client.job(&first)["state"] == "succeeded");

    wire.half_open(); // which is silence to who asks
    let silent = Instant::now();
    // The API offers one, the scheduler the other; the worker takes both.
    let later = json!({"kind": "echo", "payload": {}, "delay_s": 1});
    let ids = [client.submit(&echo("after")), client.submit(&later)];
    wait_for("their end", NOTICED, || ids.iter().all(|id| client.job(id)["state"] == "succeeded"));
    eprintln!("both have ended after {:?}", silent.elapsed());
    wait_for("the API's saying that all is well", NOTICED, || cluster.health() == "ok");
}
