//! A Redis Cluster of three nodes without replicas, and the loss of one of them. On the first are the queues `webhooks` and
//! `maintenance`, on the second `default` and `email`, on the third `files` and `exports`.

use std::time::{Duration, Instant};

use millwork_dev::services::RedisCluster;
use serde_json::Value;

use crate::support::{Client, Cluster, Load, SOON, echo, redis, wait_for};

/// But for `maintenance`, which is the system's own.
const QUEUES: [&str; 5] = ["default", "email", "webhooks", "files", "exports"];
/// How long a lost node's jobs may wait once its slots are served again, by promise.
const HEALED: Duration = Duration::from_secs(30);
/// The same for a node that was seen to be away: 5 s by promise, and a busy machine.
const RESUMED: Duration = Duration::from_secs(8);
/// What a job may take while a node is away that its queue is not on. A node that is silent costs an answer's deadline once.
const PROMPT: Duration = Duration::from_secs(5);
/// How long a process waits for one answer of Redis.
const ANSWER_DEADLINE: Duration = Duration::from_secs(3);
const SLOT_OF_WEBHOOKS: u32 = 4_418;

fn job(queue: &str, tag: &str) -> Value {
    let mut job = echo(tag);
    job["queue"] = queue.into();
    job
}

fn later(queue: &str, tag: &str) -> Value {
    let mut job = job(queue, tag);
    job["delay_s"] = 1.into();
    job
}

/// Waits until one more job has run, and says how long that took.
fn run_one(client: &Client, job: &Value) -> Duration {
    let began = Instant::now();
    let id = client.submit(job);
    wait_for("the end of a job", SOON, || client.job(&id)["state"] == "succeeded");
    began.elapsed()
}

/// Jobs of `queue` that are due and wait.
fn waiting(client: &Client, queue: &str) -> u64 {
    let queues = client.get("/queues");
    let queue = queues["data"].as_array().unwrap().iter().find(|known| known["name"] == queue).unwrap();
    queue["depth"].as_u64().unwrap()
}

fn all_succeeded(client: &Client, tag: &str, count: usize) -> bool {
    client.states(tag) == [("succeeded".to_owned(), count)].into()
}

fn accepted(load: Load) -> usize {
    let answers = load.stop();
    let refused: Vec<_> = answers.iter().filter(|answer| answer.status != 202).collect();
    assert!(refused.is_empty(), "{refused:?}");
    let slowest = answers.iter().map(|answer| answer.took).max().unwrap();
    assert!(slowest < Duration::from_secs(3), "a submission waited {slowest:?}");
    answers.len()
}

fn all_well(cluster: &Cluster) -> bool {
    cluster.api.health()["checks"]["redis"]["status"] == "ok"
}

#[test]
fn every_queue_works_on_a_cluster_with_backlogs_delays_and_pauses() {
    let (cluster, nodes) = Cluster::over_redis_cluster();
    let client = &cluster.client;
    for queue in QUEUES {
        client.submit_many(&job(queue, queue), 50);
        client.submit(&later(queue, queue));
    }
    client.submit_many(&job("files", "backlog"), 5_000);
    let maintenance = client.post("/jobs/cleanup", 202)["data"]["id"].as_str().unwrap().to_owned();
    client.post("/queues/exports/pause", 200);
    for (queue, node) in [("webhooks", 0), ("default", 1), ("files", 2)] {
        let tickets = || redis(&nodes.nodes[node], &format!("ZCARD mw:{{{queue}}}:ready"));
        wait_for("tickets", SOON, || ![":0", ""].contains(&tickets().as_str()));
    }
    let health = cluster.api.health();
    assert_eq!(health["checks"]["redis"]["nodes"], serde_json::json!({"answering": 3, "silent": 0}), "{health}");

    let _worker = cluster.spawn_worker();
    for queue in QUEUES.into_iter().filter(|queue| *queue != "exports") {
        wait_for(queue, SOON, || all_succeeded(client, queue, 51));
    }
    wait_for("maintenance", SOON, || client.job(&maintenance)["state"] == "succeeded");
    wait_for("the backlog", SOON, || all_succeeded(client, "backlog", 5_000));
    assert_eq!(client.states("exports").get("succeeded"), None, "they are paused");
    client.post("/queues/exports/resume", 200);
    wait_for("exports", SOON, || all_succeeded(client, "exports", 51));
}

#[test]
fn the_loss_of_a_node_delays_the_jobs_of_its_queues_alone() {
    let (cluster, mut nodes) = Cluster::over_redis_cluster();
    let client = &cluster.client;
    let worker = cluster.spawn_worker();
    let (lost, living) = (Load::of(client, &job("webhooks", "lost")), Load::of(client, &job("files", "living")));
    lost.go_on_for(50);
    wait_for("the API's saying that all is well", SOON, || all_well(&cluster));

    nodes.nodes[0].kill9().unwrap();
    lost.go_on_for(50);
    for queue in ["default", "files"] {
        let took = run_one(client, &job(queue, "prompt"));
        assert!(took < PROMPT, "a job in {queue} took {took:?}");
    }
    // The scheduler has to do with all queues at once, and reads on in what is due 5,000 at a time.
    client.submit_many(&later("webhooks", "lost-later"), 6_000);
    let took = run_one(client, &later("files", "prompt-later"));
    assert!(took < PROMPT, "a job for later took {took:?}");
    assert!(waiting(client, "webhooks") > 50, "the queue of the lost node stands still");
    assert!(waiting(client, "files") < 50, "that of a living one does not");
    wait_for("the metrics' saying so", SOON, || {
        let page = worker.metrics();
        page.contains("millwork_redis_nodes{state=\"silent\"} 1\n") && page.contains("{dependency=\"redis\"} 0\n")
    });
    let health = cluster.api.health();
    assert_eq!(health["status"], "degraded");
    assert_eq!(health["checks"]["redis"]["detail"], "1 of 3 nodes do not answer", "{health}");

    nodes.nodes[0].lose_data().unwrap();
    nodes.nodes[0].restart().unwrap();
    nodes.wait_until_whole().unwrap();
    let back = Instant::now();
    wait_for("the API's saying that all is well", SOON, || all_well(&cluster));
    lost.go_on_for(50);
    let (lost, living) = (accepted(lost), accepted(living));
    cluster.wait_until_all_ended(RESUMED.saturating_sub(back.elapsed()));
    eprintln!("{lost} jobs of the lost node ran within {:?} of its return", back.elapsed());
    assert!(all_succeeded(client, "lost", lost) && all_succeeded(client, "living", living));
    assert!(all_succeeded(client, "lost-later", 6_000));
}

#[test]
fn what_a_living_node_forgets_is_put_back_while_another_is_lost() {
    let (cluster, mut nodes) = Cluster::over_redis_cluster();
    let client = &cluster.client;
    client.submit_many(&job("webhooks", "lost"), 200);
    client.submit_many(&job("files", "forgotten"), 500);
    let tickets = |nodes: &RedisCluster| redis(&nodes.nodes[2], "ZCARD mw:{files}:ready");
    wait_for("tickets", SOON, || tickets(&nodes) == ":500");

    nodes.nodes[0].kill9().unwrap();
    assert_eq!(redis(&nodes.nodes[2], "FLUSHALL"), "+OK");
    wait_for("the tickets' return", HEALED, || tickets(&nodes) == ":500");

    // And of the lost node when another serves its slots.
    nodes.take_over(0, 1).unwrap();
    let served = Instant::now();
    let _worker = cluster.spawn_worker();
    cluster.wait_until_all_ended(HEALED.saturating_sub(served.elapsed()));
    eprintln!("all ran within {:?} of the takeover", served.elapsed());
    assert!(all_succeeded(client, "lost", 200) && all_succeeded(client, "forgotten", 500));
}

#[test]
fn slots_move_under_load_and_every_process_follows() {
    let (cluster, mut nodes) = Cluster::over_redis_cluster();
    let client = &cluster.client;
    let _worker = cluster.spawn_worker();
    let load = Load::of(client, &job("webhooks", "load"));
    load.go_on_for(50);

    for (from, to) in [(0, 2), (2, 0)] {
        nodes.move_slot(SLOT_OF_WEBHOOKS, from, to).unwrap();
        let took = run_one(client, &job("webhooks", "moved"));
        assert!(took < PROMPT, "a job took {took:?} after the move to node {to}");
    }
    // Now without a warning.
    nodes.nodes[0].kill9().unwrap();
    load.go_on_for(50);
    nodes.take_over(0, 2).unwrap();
    let served = Instant::now();
    load.go_on_for(50);
    let count = accepted(load);
    cluster.wait_until_all_ended(HEALED.saturating_sub(served.elapsed()));
    eprintln!("all ran within {:?} of the takeover", served.elapsed());
    assert!(all_succeeded(client, "load", count));
}

#[test]
fn a_node_that_falls_silent_holds_up_no_queue_but_its_own() {
    let (cluster, mut nodes) = Cluster::over_redis_cluster();
    let client = &cluster.client;
    let _worker = cluster.spawn_worker();
    let load = Load::of(client, &job("webhooks", "silent"));
    load.go_on_for(50);

    nodes.nodes[0].freeze().unwrap();
    load.go_on_for(50);
    wait_for("the API's saying so", SOON, || cluster.health() == "degraded");
    client.submit(&later("webhooks", "silent-later"));
    run_one(client, &later("files", "first")); // the scheduler may be the one who learns of it by this
    for queue in ["default", "files"] {
        let took = run_one(client, &job(queue, "prompt"));
        assert!(took < PROMPT, "a job in {queue} took {took:?}");
        // One that is due for the silent node, and a second later one that must not wait for it.
        client.submit(&later("webhooks", "silent-later"));
        let mut second = job(queue, "prompt");
        second["delay_s"] = 2.into();
        let took = run_one(client, &second);
        assert!(took < Duration::from_secs(2) + ANSWER_DEADLINE / 2, "a job for later in {queue} took {took:?}");
    }

    nodes.nodes[0].thaw().unwrap();
    nodes.wait_until_whole().unwrap();
    let back = Instant::now();
    let count = accepted(load);
    cluster.wait_until_all_ended(HEALED.saturating_sub(back.elapsed()));
    eprintln!("all ran within {:?} of the node's return", back.elapsed());
    assert!(all_succeeded(client, "silent", count) && all_succeeded(client, "silent-later", 3));
}
