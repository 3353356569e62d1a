//! What becomes of submitted jobs.

use std::time::{Duration, Instant};

use chrono::TimeDelta;
use futures::future::join_all;
use millwork_shared::testing::HttpReceiver;
use millwork_shared::testing::receiver::Reply as Answer;
use reqwest::Method;
use serde_json::{Value, json};

use super::{hits, start};
use crate::support::{PATIENCE, Reply};

fn echo(payload: Value) -> Value {
    json!({ "kind": "echo", "payload": payload })
}

fn call(url: String) -> Value {
    json!({ "kind": "http.request", "payload": {"url": url, "method": "POST", "body": {"n": 1}} })
}

#[tokio::test]
async fn an_echo_returns_its_payload() {
    let app = start().await;
    let owner = app.quiet_tenant("acme").await.owner;
    let _worker = app.worker();
    let payload = json!({ "b": [1, 2.5, "é"], "a": null });
    let id = owner.submit(echo(payload.clone())).await;
    let job = owner.until(&id, "succeeded").await;
    assert_eq!((&job["result"], &job["attempt"], &job["last_error"]), (&payload, &json!(1), &Value::Null));
    let times = ["created_at", "started_at", "finished_at"].map(|field| job[field].as_str().unwrap().to_owned());
    assert!(times.is_sorted(), "{times:?}");
}

#[tokio::test]
async fn the_largest_payload_is_returned_too() {
    let app = start().await;
    let owner = app.quiet_tenant("acme").await.owner;
    let _worker = app.worker();
    let payload = "x".repeat(1024 * 1024 - 100);
    let ids = join_all((0..3).map(|_| owner.submit(echo(json!(payload))))).await;
    let small = owner.submit(echo(json!(1))).await;
    for id in ids {
        assert_eq!(owner.until(&id, "succeeded").await["result"], payload);
    }
    assert_eq!(owner.until(&small, "succeeded").await["result"], 1);
}

#[tokio::test]
async fn a_call_carries_the_names_of_the_request_that_asked_for_it() {
    let app = start().await;
    let owner = app.quiet_tenant("acme").await.owner;
    let receiver = HttpReceiver::start().await;
    let _worker = app.worker();
    let trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let request = owner.request(Method::POST, "/jobs").header("x-request-id", "order-7").header("traceparent", trace);
    let id = Reply::of(request.json(&call(receiver.url("/hook")))).await.expect(202)["data"]["id"].clone();
    let job = owner.until(id.as_str().unwrap(), "succeeded").await;
    assert_eq!((&job["result"]["status"], &job["request_id"]), (&json!(200), &json!("order-7")));
    let [received] = &receiver.requests()[..] else { panic!("one call") };
    assert_eq!((received.method.as_str(), received.path.as_str()), ("POST", "/hook"));
    assert_eq!(received.json(), json!({ "n": 1 }));
    assert_eq!(received.header("x-request-id"), Some("order-7"));
    assert!(received.header("traceparent").unwrap().contains("0af7651916cd43dd8448eb211c80319c"));
}

#[tokio::test]
async fn a_call_that_is_refused_for_now_is_made_again_after_its_wait() {
    let app = start().await;
    let owner = app.quiet_tenant("acme").await.owner;
    let retry_after = Answer::with_headers(503, &[("retry-after", "60")]);
    let receiver = HttpReceiver::answering([retry_after, 200.into()]).await;
    let (_worker, _scheduler) = (app.worker(), app.scheduler());
    let id = owner.submit(call(receiver.url("/"))).await;
    let job = owner.until(&id, "retrying").await;
    assert_eq!((&job["attempt"], receiver.hits()), (&json!(1), 1));
    let run_at: chrono::DateTime<chrono::Utc> = job["run_at"].as_str().unwrap().parse().unwrap();
    assert!((55..=75).contains(&(run_at - app.db.clock.now()).num_seconds()), "{job}");
    app.advance(Duration::from_secs(80)).await;
    let job = owner.until(&id, "succeeded").await;
    assert_eq!((&job["attempt"], receiver.hits()), (&json!(2), 2));
    let attempts = owner.get(&format!("/jobs/{id}/attempts")).await.expect(200)["data"].clone();
    let shown: Vec<_> = attempts.as_array().unwrap().iter().map(|a| [&a["ended"], &a["detail"]["status"]]).collect();
    assert_eq!(json!(shown), json!([["succeeded", 200], ["retry", 503]]));
}

#[tokio::test]
async fn a_call_that_hangs_is_cancelled_within_two_seconds() {
    let app = start().await;
    let owner = app.quiet_tenant("acme").await.owner;
    let receiver = HttpReceiver::answering([Answer::Hang]).await;
    let _worker = app.worker();
    let id = owner.submit(call(receiver.url("/"))).await;
    hits(&receiver, 1).await;
    let asked = Instant::now();
    let answer = owner.post_empty(&format!("/jobs/{id}/cancel")).await.expect(202);
    assert_eq!(answer["data"]["state"], "running");
    owner.until(&id, "cancelled").await;
    assert!(asked.elapsed() < Duration::from_secs(2), "{:?}", asked.elapsed());

    receiver.then([200]);
    owner.post_empty(&format!("/jobs/{id}/retry")).await.expect(202);
    let job = owner.until(&id, "succeeded").await;
    assert_eq!((&job["attempt"], receiver.hits()), (&json!(2), 2));
}

#[tokio::test]
async fn a_call_that_takes_longer_than_its_timeout_has_failed() {
    let app = start().await;
    let owner = app.quiet_tenant("acme").await.owner;
    let receiver = HttpReceiver::answering([Answer::Hang]).await;
    let _worker = app.worker();
    let mut job = call(receiver.url("/"));
    job["timeout_ms"] = json!(500);
    job["max_attempts"] = json!(1);
    let id = owner.submit(job).await;
    let job = owner.until(&id, "failed").await;
    assert_eq!(job["last_error"]["code"], "timeout");
}

#[tokio::test]
async fn jobs_for_later_run_when_their_time_comes() {
    let app = start().await;
    let owner = app.quiet_tenant("acme").await.owner;
    let (_worker, _scheduler) = (app.worker(), app.scheduler());
    let at = (app.db.clock.now() + TimeDelta::seconds(50)).to_rfc3339();
    let by_time = owner.submit(json!({ "kind": "echo", "payload": 1, "run_at": at })).await;
    let by_delay = owner.submit(json!({ "kind": "echo", "payload": 1, "delay_s": 50 })).await;
    let now = owner.submit(echo(json!(1))).await;
    owner.until(&now, "succeeded").await;
    for id in [&by_time, &by_delay] {
        assert_eq!(owner.job(id).await["state"], "scheduled");
    }
    app.advance(Duration::from_secs(52)).await;
    for id in [&by_time, &by_delay] {
        owner.until(id, "succeeded").await;
    }
}

#[tokio::test]
async fn a_paused_queue_starts_nothing_until_it_is_resumed() {
    let app = start().await;
    let (acme, other) = (app.quiet_tenant("acme").await, app.quiet_tenant("other").await);
    let (_worker, _scheduler) = (app.worker(), app.scheduler());
    acme.owner.post_empty("/queues/default/pause").await.expect(200);
    let ids = join_all((0..5).map(|n| acme.owner.submit(echo(json!(n))))).await;
    let elsewhere = acme.owner.submit(json!({ "kind": "echo", "payload": 1, "queue": "files" })).await;
    let others = other.owner.submit(echo(json!(1))).await;
    acme.owner.until(&elsewhere, "succeeded").await;
    other.owner.until(&others, "succeeded").await;
    for id in &ids {
        assert_eq!(acme.owner.job(id).await["state"], "queued");
    }
    acme.owner.post_empty("/queues/default/resume").await.expect(200);
    for id in &ids {
        acme.owner.until(id, "succeeded").await;
    }
}

#[tokio::test]
async fn a_thousand_jobs_are_done_once_each_and_counted() {
    let app = start().await;
    let owner = app.quiet_tenant("acme").await.owner;
    let (_worker, _scheduler) = (app.worker(), app.scheduler());
    let jobs: Vec<_> = (0..1_000).map(|n| echo(json!(n))).collect();
    let batch = owner.post("/jobs/batch", json!({ "jobs": jobs })).await.expect(202);
    let began = Instant::now();
    let succeeded = async || {
        let stats = owner.get("/jobs/stats").await.expect(200);
        let default = stats["data"]["queues"].as_array().unwrap().iter().find(|q| q["queue"] == "default").cloned();
        default.unwrap()["last_5_min"]["succeeded"].as_i64().unwrap()
    };
    while succeeded().await < 1_000 {
        assert!(began.elapsed() < PATIENCE, "{} are done", succeeded().await);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(succeeded().await, 1_000);
    for job in batch["data"].as_array().unwrap().iter().step_by(100) {
        let done = owner.job(job["id"].as_str().unwrap()).await;
        assert_eq!(
            (&done["state"], &done["attempt"], &done["result"]),
            (&json!("succeeded"), &json!(1), &job["payload"])
        );
    }
}

#[tokio::test]
async fn a_sweep_at_a_tenants_wish_is_done_once_at_a_time_and_tells_what_it_found() {
    let app = start().await;
    let owner = app.quiet_tenant("acme").await.owner;
    let dry = owner.post("/files/sweep", json!({ "dry_run": true })).await.expect(202)["data"]["id"].clone();
    let id = owner.post("/files/sweep", json!({})).await.expect(202)["data"]["id"].clone();
    owner.post("/files/sweep", json!({})).await.problem(409, "job_not_unique");
    owner.post("/files/sweep", json!({ "dry": true })).await.problem(422, "body_invalid");
    let _worker = app.worker();
    for (id, dry_run) in [(dry, true), (id, false)] {
        let job = owner.until(id.as_str().unwrap(), "succeeded").await;
        assert_eq!(job["kind"], "files.sweep");
        assert_eq!(job["result"]["dry_run"], dry_run);
        assert_eq!(job["result"]["found"]["orphans"], 0, "{job}");
    }
}

#[tokio::test]
async fn a_clean_up_at_a_tenants_wish_is_done() {
    let app = start().await;
    let owner = app.quiet_tenant("acme").await.owner;
    let _worker = app.worker();
    let id = owner.post_empty("/jobs/cleanup").await.expect(202)["data"]["id"].as_str().unwrap().to_owned();
    let job = owner.until(&id, "succeeded").await;
    assert!(job["result"].is_object(), "{job}");
    owner.post_empty("/jobs/cleanup").await.expect(202);
}
