//! Connections that fall silent, as when the machine at the other end vanishes: no error, no end, nothing.

use std::time::{Duration, Instant};

use crate::support::{Cluster, Gate, LEASE_OVER, Load, SOON, echo, retrying, wait_for};

/// Longest time for which a process may trust a connection to PostgreSQL that says nothing.
const NOTICED: Duration = Duration::from_secs(30);

#[test]
fn connections_to_postgres_that_fall_silent_are_given_up_by_every_process() {
    let (cluster, wire) = Cluster::over_a_wire();
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
