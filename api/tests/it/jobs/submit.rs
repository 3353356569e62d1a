//! What an accepted job is.

use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};
use reqwest::Method;
use serde_json::{Value, json};

use super::{echo, echo_with};
use crate::support::{Reply, TestApp};

fn time(value: &Value) -> DateTime<Utc> {
    let text = value.as_str().unwrap();
    assert_eq!(text.len(), "2026-01-31T12:00:00.000Z".len(), "{text}");
    assert!(text.ends_with('Z'));
    text.parse().unwrap()
}

#[tokio::test]
async fn an_accepted_job_is_shown_at_once_and_found_where_location_says() {
    let app = TestApp::start().await;
    let acme = app.quiet_tenant("acme").await;
    let owner = &acme.owner;
    let before = app.db.clock.now();
    let request = owner.request(Method::POST, "/jobs").header("x-request-id", "order 7").json(&json!({
        "kind": "echo", "payload": {"z": 1, "a": [true, null]}, "queue": "files", "priority": 9, "max_attempts": 3,
        "timeout_ms": 5_000, "unique_key": "order/7", "unique_for_s": 60, "tags": ["vip", "Zürich"],
    }));
    let reply = Reply::of(request).await;
    let job = reply.expect(202)["data"].clone();
    assert_eq!(reply.header("content-type"), "application/json");
    let id = job["id"].as_str().unwrap();
    assert_eq!(uuid::Uuid::parse_str(id).unwrap().get_version_num(), 7);
    assert_eq!(reply.header("location"), format!("{}/api/v1/jobs/{id}", app.url));
    let created = time(&job["created_at"]);
    assert!(created >= before - TimeDelta::milliseconds(1) && created <= app.db.clock.now());
    let expected = json!({
        "id": id, "kind": "echo", "queue": "files", "state": "queued", "priority": 9,
        "payload": {"z": 1, "a": [true, null]}, "result": null, "progress": null, "attempt": 0, "max_attempts": 3,
        "run_at": job["created_at"], "created_at": job["created_at"], "started_at": null, "finished_at": null,
        "last_error": null, "unique_key": "order/7", "schedule_id": null, "request_id": "order 7",
        "tags": ["vip", "Zürich"], "after": [], "on_predecessor_failure": null, "batch_id": null,
        "submitted_by": acme.owner_id,
    });
    assert_eq!(job, expected);
    let found = Reply::of(owner.request(Method::GET, &format!("/jobs/{id}"))).await;
    assert_eq!(found.body, reply.body, "the same, to the byte");
}

#[tokio::test]
async fn what_is_not_said_is_the_kinds_own() {
    let app = TestApp::start().await;
    let owner = app.quiet_tenant("acme").await.owner;
    let call = json!({ "kind": "http.request", "payload": {"url": "https://example.com/x", "method": "GET"} });
    let mail = json!({ "kind": "email.send", "payload": {"to": "a@example.com", "subject": "Hi", "text": "Hello"} });
    for (body, queue) in [(echo(), "default"), (call, "webhooks"), (mail, "email")] {
        let job = owner.post("/jobs", body.clone()).await.expect(202)["data"].clone();
        assert_eq!((&job["queue"], &job["priority"], &job["state"]), (&json!(queue), &json!(4), &json!("queued")));
        assert!(job["max_attempts"].as_i64().unwrap() > 1);
        assert_eq!((&job["unique_key"], &job["tags"]), (&Value::Null, &json!([])));
        assert_eq!(job["payload"], body["payload"]);
    }
    let nulls = echo_with(json!({ "queue": null, "priority": null, "run_at": null, "delay_s": null, "tags": null,
        "max_attempts": null, "timeout_ms": null, "unique_key": null, "unique_for_s": null }));
    owner.post("/jobs", nulls).await.expect(202);
}

#[tokio::test]
async fn a_payload_comes_back_as_it_was_sent() {
    let app = TestApp::start().await;
    let owner = app.quiet_tenant("acme").await.owner;
    for payload in [
        "null",
        "0.10",
        "\"\\u00e9 \u{1F600}\"",
        "123456789012345678901234567890",
        r#"{"b":1.0,"a":{"b":[]},"b ":"\\u0000"}"#,
        "[[],{}, 1e3 ]",
    ] {
        let body = format!(r#"{{"payload":{payload},"kind":"echo"}}"#);
        let request = owner.request(Method::POST, "/jobs").header("content-type", "application/json").body(body);
        let id = Reply::of(request).await.expect(202)["data"]["id"].as_str().unwrap().to_owned();
        let found = owner.get(&format!("/jobs/{id}")).await.text();
        assert!(found.contains(&format!("\"payload\":{payload},")), "{payload} became {found}");
    }
}

#[tokio::test]
async fn the_largest_body_is_accepted() {
    let app = TestApp::start().await;
    let owner = app.quiet_tenant("acme").await.owner;
    let frame = r#"{"kind":"echo","payload":""}"#;
    let payload = "x".repeat(1024 * 1024 - frame.len());
    let id = owner.submit(json!({ "kind": "echo", "payload": payload })).await;
    assert_eq!(owner.job(&id).await["payload"], payload);
}

#[tokio::test]
async fn a_job_for_later_is_scheduled_until_its_time() {
    let app = TestApp::start().await;
    let owner = app.quiet_tenant("acme").await.owner;
    let now = app.db.clock.now();
    let at = now + TimeDelta::seconds(90);
    let run_at = at.to_rfc3339_opts(SecondsFormat::Millis, true);
    let by_time = owner.post("/jobs", echo_with(json!({ "run_at": run_at }))).await.expect(202)["data"].clone();
    assert_eq!((&by_time["state"], &by_time["run_at"]), (&json!("scheduled"), &json!(run_at)));
    let zoned = (at + TimeDelta::hours(2)).to_rfc3339_opts(SecondsFormat::Millis, true).replace('Z', "+02:00");
    let zoned = owner.post("/jobs", echo_with(json!({ "run_at": zoned }))).await.expect(202)["data"].clone();
    assert_eq!(zoned["run_at"], run_at);
    let by_delay = owner.post("/jobs", echo_with(json!({ "delay_s": 90 }))).await.expect(202)["data"].clone();
    assert_eq!(by_delay["state"], "scheduled");
    let off = time(&by_delay["run_at"]) - time(&by_delay["created_at"]);
    assert_eq!(off.num_seconds(), 90);
    let a_year = owner.post("/jobs", echo_with(json!({ "delay_s": 366 * 86_400 }))).await.expect(202)["data"].clone();

    for job in [&by_time, &zoned, &by_delay] {
        let id = job["id"].as_str().unwrap();
        assert_eq!(owner.job(id).await["state"], "scheduled");
        let stored = time(&owner.job(id).await["run_at"]);
        assert!((stored - time(&job["run_at"])).num_seconds().abs() <= 1, "what was answered is what was stored");
    }
    app.advance(std::time::Duration::from_secs(95)).await;
    for job in [&by_time, &zoned, &by_delay] {
        assert_eq!(owner.job(job["id"].as_str().unwrap()).await["state"], "queued");
    }
    assert_eq!(owner.job(a_year["id"].as_str().unwrap()).await["state"], "scheduled");
}

#[tokio::test]
async fn now_and_a_moment_ago_are_now() {
    let app = TestApp::start().await;
    let owner = app.quiet_tenant("acme").await.owner;
    let ago = (app.db.clock.now() - TimeDelta::seconds(30)).to_rfc3339();
    for members in [json!({ "delay_s": 0 }), json!({ "run_at": ago })] {
        let job = owner.post("/jobs", echo_with(members)).await.expect(202)["data"].clone();
        assert_eq!((&job["state"], &job["run_at"]), (&json!("queued"), &job["created_at"]));
        assert_eq!(owner.job(job["id"].as_str().unwrap()).await["state"], "queued");
    }
}
