//! Cancelling and pausing, from one process to another.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::support::{Cluster, Ending, Gate, SOON, echo, redis, retrying, wait_for};

#[test]
fn a_cancel_reaches_a_running_handler_within_a_second() {
    let cluster = Cluster::start();
    let (client, gate) = (&cluster.client, Gate::closed());
    let _workers = [cluster.spawn_worker(), cluster.spawn_worker()];
    let paths = ["a", "b", "c", "d", "e"];
    let ids = paths.map(|path| client.submit(&retrying(&gate.url(path), "held")));
    wait_for("five running jobs", SOON, || paths.iter().all(|path| gate.calls(path).len() == 1));

    let mut took: Vec<Duration> = paths
        .iter()
        .zip(&ids)
        .map(|(path, id)| {
            client.post(&format!("/jobs/{id}/cancel"), 202);
            let asked = Instant::now();
            let mut ended = None;
            wait_for("the end of the call", SOON, || {
                ended = gate.calls(path)[0].ended;
                ended.is_some()
            });
            let (ending, at) = ended.unwrap();
            assert_eq!(ending, Ending::Gone);
            wait_for("the end of the job", SOON, || client.job(id)["state"] == "cancelled");
            assert_eq!(client.endings(id), ["cancelled"]);
            at.saturating_duration_since(asked)
        })
        .collect();
    took.sort_unstable();
    eprintln!("the handlers were stopped after {took:?}");
    // One may meet a busy machine; not most of them.
    assert!(took[2] < Duration::from_secs(1), "{took:?}");
    assert_eq!(client.live(), 0);
}

#[test]
fn a_paused_queue_starts_nothing_even_when_redis_forgets_that_it_is_paused() {
    let cluster = Cluster::start();
    let (client, gate) = (&cluster.client, Gate::closed());
    gate.open("done");
    let _worker = cluster.spawn_worker();
    client.post("/queues/webhooks/pause", 200);
    let job = retrying(&gate.url("call"), "paused");
    client.submit_many(&job, 20);
    let mut later = job.clone();
    later["delay_s"] = json!(1);
    client.submit(&later);

    redis(&cluster.redis, "FLUSHALL");
    let _second = cluster.spawn_worker();
    wait_for("the pause's return to Redis", SOON, || redis(&cluster.redis, "SCARD mw:{webhooks}:paused") == ":1");
    // Whatever could have started before this one has started.
    let marker = client.submit(&json!({"kind": "echo", "payload": {}, "delay_s": 2}));
    wait_for("the end of a job in another queue", SOON, || client.job(&marker)["state"] == "succeeded");
    let other = client.submit(&echo("other"));
    wait_for("the end of a job in another queue", SOON, || client.job(&other)["state"] == "succeeded");
    assert_eq!(client.states("paused"), [("queued".to_owned(), 21)].into());
    assert!(gate.calls("call").is_empty());

    client.post("/queues/webhooks/resume", 200);
    wait_for("the end of all", SOON, || client.states("paused").get("succeeded") == Some(&21));
    assert_eq!(gate.calls("call").len(), 21);
}
