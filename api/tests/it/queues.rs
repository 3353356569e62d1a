//! Queues, their figures, and workers.

use std::time::Duration;

use millwork_shared::infra::ids::TenantId;
use millwork_shared::jobs::Queue;
use millwork_shared::jobs::queries::{self, Ending, MinuteStats};
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{Reply, TestApp};

fn echo(members: Value) -> Value {
    let mut job = json!({ "kind": "echo", "payload": {} });
    job.as_object_mut().unwrap().extend(members.as_object().unwrap().clone());
    job
}

/// The entry of one queue in an answer's list.
fn queue<'a>(list: &'a Value, name: &str) -> &'a Value {
    let field = if list[0].get("name").is_some() { "name" } else { "queue" };
    list.as_array().unwrap().iter().find(|entry| entry[field] == name).unwrap()
}

async fn add_stats(app: &TestApp, tenant: TenantId, stats: MinuteStats) {
    let mut tx = app.db.db.system().system().await.unwrap();
    queries::add_stats(&mut tx, &[((tenant, Queue::Default), stats)]).await.unwrap();
    tx.commit().await.unwrap();
}

#[tokio::test]
async fn every_queue_is_listed_with_what_waits_in_it() {
    let app = TestApp::start().await;
    let (acme, other) = (app.quiet_tenant("acme").await, app.quiet_tenant("other").await);
    for members in [json!({}), json!({}), json!({ "delay_s": 600 }), json!({}), json!({}), json!({ "queue": "files" })]
    {
        acme.owner.submit(echo(members)).await;
    }
    other.owner.submit(echo(json!({}))).await;
    let jobs = acme.owner.get("/jobs?queue=default&state=queued").await.expect(200);
    let ids: Vec<_> = jobs["data"].as_array().unwrap().iter().map(|job| job["id"].as_str().unwrap()).collect();
    app.claim(acme.id, &ids[..1]).await;
    let retrying = app.claim(acme.id, &ids[1..2]).await.remove(0);
    app.put_off(&retrying, Duration::from_secs(300)).await;
    app.advance(Duration::from_secs(10)).await;

    let listed = acme.owner.get("/queues").await.expect(200)["data"].clone();
    let names: Vec<_> = listed.as_array().unwrap().iter().map(|queue| queue["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["default", "email", "webhooks", "files", "exports", "maintenance"]);
    let default = queue(&listed, "default");
    for (field, expected) in [("depth", 2), ("running", 1), ("scheduled", 1), ("retrying", 1), ("workers", 2)] {
        assert_eq!(default[field], expected, "{field} of {default}");
    }
    assert_eq!(default["paused"], false);
    assert!((10_000..20_000).contains(&default["oldest_age_ms"].as_i64().unwrap()), "{default}");
    assert_eq!(queue(&listed, "files")["depth"], 1);
    let email = queue(&listed, "email");
    assert_eq!((&email["depth"], &email["oldest_age_ms"], &email["workers"]), (&json!(0), &Value::Null, &json!(0)));

    let stats = acme.owner.get("/jobs/stats").await.expect(200)["data"]["queues"].clone();
    let default = queue(&stats, "default");
    for (field, expected) in [("queued", 2), ("running", 1), ("scheduled", 1), ("retrying", 1)] {
        assert_eq!(default[field], expected, "{field} of {default}");
    }
    assert!((10_000..20_000).contains(&default["oldest_queued_age_ms"].as_i64().unwrap()), "{default}");
    assert_eq!(default["last_15_min"]["wait_ms"]["p99"], Value::Null, "nothing has happened yet");
}

#[tokio::test]
async fn what_happened_counts_in_the_windows_that_it_lies_in() {
    let app = TestApp::start().await;
    let (acme, other) = (app.quiet_tenant("acme").await, app.quiet_tenant("other").await);
    let viewer = acme.api_key(&["jobs:read"]).await;
    let mut counts = MinuteStats { succeeded: 90, failed: 9, cancelled: 1, retried: 7, ..MinuteStats::default() };
    counts.wait_ms[MinuteStats::bucket(1)] = 107;
    counts.run_ms[MinuteStats::bucket(3)] = 100;
    counts.run_ms[MinuteStats::bucket(900)] = 7;
    add_stats(&app, acme.id, counts.clone()).await;
    add_stats(&app, acme.id, counts.clone()).await; // another worker, or a second later
    let figures = async |client: &crate::support::Client| {
        queue(&client.get("/jobs/stats").await.expect(200)["data"]["queues"], "default").clone()
    };
    let now = figures(&viewer).await;
    for window in ["last_1_min", "last_5_min", "last_15_min"] {
        let window = &now[window];
        for (field, expected) in [("succeeded", 180), ("failed", 18), ("cancelled", 2), ("retried", 14)] {
            assert_eq!(window[field], expected, "{field} of {window}");
        }
        assert_eq!(window["wait_ms"], json!({ "p50": 2, "p95": 2, "p99": 2 }));
        assert_eq!(window["run_ms"], json!({ "p50": 4, "p95": 1024, "p99": 1024 }));
        assert!(window["throughput_per_s"].as_f64().unwrap() > 0.0);
    }
    assert_eq!(figures(&other.owner).await["last_15_min"]["succeeded"], 0);

    for (minutes, counted) in [(3, [false, true, true]), (4, [false, false, true]), (10, [false; 3])] {
        app.advance(Duration::from_secs(minutes * 60)).await;
        let later = figures(&viewer).await;
        for (window, counted) in ["last_1_min", "last_5_min", "last_15_min"].iter().zip(counted) {
            assert_eq!(later[window]["succeeded"], if counted { 180 } else { 0 }, "{window} of {later}");
        }
    }
}

#[tokio::test]
async fn a_paused_queue_is_the_tenants_own_and_stays_so_until_it_is_resumed() {
    let app = TestApp::start().await;
    let (acme, other) = (app.quiet_tenant("acme").await, app.quiet_tenant("other").await);
    let paused = async |client: &crate::support::Client, name: &str| {
        queue(&client.get("/queues").await.expect(200)["data"], name)["paused"].clone()
    };
    for _ in 0..2 {
        let answer = acme.owner.post_empty("/queues/files/pause").await.expect(200);
        assert_eq!(answer["data"], json!({ "name": "files", "paused": true }));
    }
    assert_eq!(paused(&acme.owner, "files").await, true);
    assert_eq!(paused(&acme.owner, "default").await, false);
    assert_eq!(paused(&other.owner, "files").await, false);
    acme.owner.submit(echo(json!({ "queue": "files" }))).await;
    for _ in 0..2 {
        let answer = acme.owner.post_empty("/queues/files/resume").await.expect(200);
        assert_eq!(answer["data"], json!({ "name": "files", "paused": false }));
    }
    assert_eq!(paused(&acme.owner, "files").await, false);
    for name in ["fast", "Default", "default%20", "%00", "x'--"] {
        for command in ["pause", "resume"] {
            let reply = acme.owner.post_empty(&format!("/queues/{name}/{command}")).await;
            assert!(matches!(reply.status, 400 | 404), "{name} {}", reply.text());
            reply.expect(reply.status);
        }
    }
    acme.owner.post_empty("/queues/fast/pause").await.problem(404, "not_found");
}

#[tokio::test]
async fn workers_are_listed_while_their_lease_lives() {
    let app = TestApp::start().await;
    let acme = app.quiet_tenant("acme").await;
    let key = acme.api_key(&["workers:read"]).await;
    assert_eq!(key.get("/workers").await.expect(200)["data"], json!([]));
    let id = acme.owner.submit(echo(json!({}))).await;
    let claimed = app.claim(acme.id, &[&id]).await.remove(0);
    let workers = key.get("/workers").await.expect(200)["data"].clone();
    let [worker] = workers.as_array().unwrap().as_slice() else { panic!("{workers}") };
    assert_eq!(
        (&worker["id"], &worker["host"], &worker["concurrency"]),
        (&json!(claimed.owner), &json!("hand"), &json!(1))
    );
    assert_eq!(worker["queues"], json!(["default"]));
    assert!(worker["last_heartbeat_at"].as_str().unwrap().ends_with('Z'));
    app.advance(Duration::from_secs(16)).await;
    assert_eq!(key.get("/workers").await.expect(200)["data"], json!([]));
}

#[tokio::test]
async fn a_clean_up_is_a_job_of_its_own_one_at_a_time() {
    let app = TestApp::start().await;
    let (acme, other) = (app.quiet_tenant("acme").await, app.quiet_tenant("other").await);
    let reply = acme.owner.post_empty("/jobs/cleanup").await;
    let job = reply.expect(202)["data"].clone();
    let id = job["id"].as_str().unwrap();
    assert_eq!((&job["kind"], &job["queue"]), (&json!("maintenance.clean_up"), &json!("maintenance")));
    assert_eq!(reply.header("location"), format!("{}/api/v1/jobs/{id}", app.url));
    assert_eq!(acme.owner.job(id).await, job);
    let refused = acme.owner.post_empty("/jobs/cleanup").await.problem(409, "job_not_unique");
    assert_eq!(refused["job_id"], id);
    other.owner.post_empty("/jobs/cleanup").await.expect(202);
    let claimed = app.claim(acme.id, &[id]).await.remove(0);
    app.end(&claimed, Ending::Succeeded).await;
    let once = || Reply::of(acme.owner.request(Method::POST, "/jobs/cleanup").header("idempotency-key", "k"));
    let again = once().await;
    assert_ne!(again.expect(202)["data"]["id"], id);
    assert_eq!(once().await.body, again.body);
}
