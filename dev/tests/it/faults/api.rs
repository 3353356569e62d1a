//! An API that is killed in the middle of submissions.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use serde_json::Value;

use crate::support::{Client, Cluster, SOON, echo, wait_for};

const THREADS: usize = 4;
const CRASHES: usize = 4;

#[test]
fn a_retried_key_never_makes_a_second_job_however_often_the_api_is_killed() {
    let mut cluster = Cluster::start();
    let client = cluster.client.clone();
    let _worker = cluster.spawn_worker();
    let (stop, answered, unanswered) = (AtomicBool::new(false), AtomicUsize::new(0), AtomicUsize::new(0));

    let by_key: BTreeMap<String, String> = thread::scope(|scope| {
        let clients: Vec<_> = (0..THREADS)
            .map(|number| {
                let (client, stop, answered, unanswered) = (&client, &stop, &answered, &unanswered);
                scope.spawn(move || {
                    let mut ids = Vec::new();
                    while !stop.load(Ordering::SeqCst) {
                        let key = format!("key-{number}-{}", ids.len());
                        ids.push((key.clone(), submit(client, &key, unanswered)));
                        answered.fetch_add(1, Ordering::SeqCst);
                    }
                    ids
                })
            })
            .collect();
        for _ in 0..CRASHES {
            let enough = answered.load(Ordering::SeqCst) + 60;
            wait_for("submissions", SOON, || answered.load(Ordering::SeqCst) >= enough);
            cluster.crash_api();
        }
        stop.store(true, Ordering::SeqCst);
        clients.into_iter().flat_map(|client| client.join().unwrap()).collect()
    });
    let unanswered = unanswered.load(Ordering::SeqCst);
    eprintln!("{} keys, {unanswered} requests without an answer", by_key.len());
    assert!(unanswered >= CRASHES, "the API was killed under requests");

    cluster.wait_until_all_ended(SOON);
    let jobs = client.jobs("keyed");
    let mut made: Vec<&str> = jobs.iter().map(|job| job["id"].as_str().unwrap()).collect();
    let mut told: Vec<&str> = by_key.values().map(String::as_str).collect();
    made.sort_unstable();
    told.sort_unstable();
    assert_eq!(made, told, "one job a key, the one that was answered");
    for (key, id) in &by_key {
        let answer = client.try_submit(&job(key), Some(key)).unwrap();
        assert_eq!(answer.header("idempotent-replayed"), Some("true"));
        assert_eq!(answer.json().unwrap()["data"]["id"], **id);
    }
    assert_eq!(client.jobs("keyed").len(), by_key.len());
}

fn job(key: &str) -> Value {
    let mut job = echo("keyed");
    job["payload"] = key.into();
    job
}

/// As a careful client does: the same key until there is an answer. The job's id.
fn submit(client: &Client, key: &str, unanswered: &AtomicUsize) -> String {
    let mut id = None;
    wait_for("an answer to a key", SOON, || {
        match client.try_submit(&job(key), Some(key)) {
            Ok(answer) if answer.status == 202 => {
                id = answer.json().unwrap()["data"]["id"].as_str().map(str::to_owned);
            }
            Ok(answer) => {
                let in_progress = answer.status == 409 && answer.text().contains("idempotency_in_progress");
                assert!(in_progress || answer.status == 503, "{} {}", answer.status, answer.text());
            }
            Err(_) => {
                unanswered.fetch_add(1, Ordering::SeqCst);
                thread::sleep(Duration::from_millis(20));
            }
        }
        id.is_some()
    });
    id.unwrap()
}
