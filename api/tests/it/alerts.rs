//! What a tenant wants to be told of.

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{Reply, TestApp};

fn on_failures() -> Value {
    json!({ "on": "job.failed", "kind": "http.request", "notify": { "email": "ops@acme.example", "event": true } })
}

fn on_a_backlog() -> Value {
    json!({ "on": "queue.backlogged", "queue": "email", "threshold": { "age_s": 300 }, "notify": { "event": true } })
}

fn path(alert: &Value) -> String {
    format!("/alerts/{}", alert["id"].as_str().unwrap())
}

#[tokio::test]
async fn an_alert_is_kept_changed_and_deleted() {
    let app = TestApp::start().await;
    let owner = app.quiet_tenant("acme").await.owner;
    let reply = owner.post("/alerts", on_failures()).await;
    let alert = reply.expect(201)["data"].clone();
    assert_eq!(reply.header("location"), format!("{}/api/v1{}", app.url, path(&alert)));
    let expected = json!({
        "id": alert["id"], "on": "job.failed", "kind": "http.request", "queue": null, "threshold": null,
        "notify": { "email": "ops@acme.example", "event": true }, "enabled": true, "behind_since": null,
        "created_at": alert["created_at"], "updated_at": alert["updated_at"], "version": 1,
    });
    assert_eq!(alert, expected);
    assert_eq!(owner.get(&path(&alert)).await.expect(200)["data"], alert);

    let change = json!({ "kind": null, "queue": "webhooks", "notify": { "event": true }, "enabled": false });
    let changed = owner.patch(&path(&alert), change).await.expect(200)["data"].clone();
    assert_eq!(
        (&changed["kind"], &changed["queue"], &changed["enabled"]),
        (&Value::Null, &json!("webhooks"), &json!(false))
    );
    assert_eq!((&changed["notify"], &changed["version"]), (&json!({ "email": null, "event": true }), &json!(2)));
    let stale = owner.request(Method::PATCH, &path(&alert)).header("if-match", "\"1\"").json(&json!({}));
    Reply::of(stale).await.problem(412, "version_stale");

    let other = owner.post("/alerts", on_a_backlog()).await.expect(201)["data"].clone();
    assert_eq!(other["threshold"], json!({ "depth": null, "age_s": 300 }));
    let listed = owner.get("/alerts").await.expect(200);
    let ids: Vec<_> = listed["data"].as_array().unwrap().iter().map(|alert| &alert["id"]).collect();
    assert_eq!(ids, [&other["id"], &alert["id"]]);
    owner.delete(&path(&alert)).await.expect(204);
    owner.get(&path(&alert)).await.problem(404, "not_found");
    owner.delete(&path(&alert)).await.problem(404, "not_found");
}

#[tokio::test]
async fn what_does_not_fit_is_named() {
    let app = TestApp::start().await;
    let owner = app.quiet_tenant("acme").await.owner;
    let cases = [
        (json!({ "on": "job.done", "notify": { "event": true } }), "/on", "not_allowed"),
        (json!({ "on": "job.failed", "notify": {} }), "/notify", "required"),
        (json!({ "on": "job.failed", "notify": { "event": false } }), "/notify", "required"),
        (json!({ "on": "job.failed", "notify": { "email": "a@b@c" } }), "/notify/email", "format"),
        (json!({ "on": "job.failed", "notify": { "sms": "1" } }), "/notify/sms", "unknown_field"),
        (
            json!({ "on": "job.failed", "threshold": { "depth": 1 }, "notify": { "event": true } }),
            "/threshold",
            "forbidden",
        ),
        (json!({ "on": "job.failed", "queue": "maintenance", "notify": { "event": true } }), "/queue", "forbidden"),
        (json!({ "on": "queue.backlogged", "queue": "email", "notify": { "event": true } }), "/threshold", "required"),
        (
            json!({ "on": "queue.backlogged", "queue": "email", "threshold": {}, "notify": { "event": true } }),
            "/threshold",
            "required",
        ),
        (
            json!({ "on": "queue.backlogged", "threshold": { "depth": 5 }, "notify": { "event": true } }),
            "/queue",
            "required",
        ),
        (
            json!({ "on": "queue.backlogged", "queue": "email", "threshold": { "depth": 0 }, "notify": { "event": true } }),
            "/threshold/depth",
            "too_small",
        ),
    ];
    for (body, pointer, code) in cases {
        let problem = owner.post("/alerts", body).await.problem(422, "body_invalid");
        let fault = problem["errors"].as_array().unwrap().iter().find(|fault| fault["pointer"] == pointer);
        assert_eq!(fault.map(|fault| &fault["code"]), Some(&json!(code)), "{problem}");
    }
    let alert = owner.post("/alerts", on_a_backlog()).await.expect(201)["data"].clone();
    for change in [json!({ "queue": null }), json!({ "kind": "echo" }), json!({ "notify": {} })] {
        owner.patch(&path(&alert), change).await.problem(422, "body_invalid");
    }
    assert_eq!(owner.get(&path(&alert)).await.expect(200)["data"], alert);
}

#[tokio::test]
async fn alerts_are_their_tenants_alone_and_bounded() {
    let app = TestApp::start().await;
    let (acme, other) = (app.quiet_tenant("acme").await, app.quiet_tenant("other").await);
    let alert = acme.owner.post("/alerts", on_failures()).await.expect(201)["data"].clone();
    other.owner.get(&path(&alert)).await.problem(404, "not_found");
    other.owner.patch(&path(&alert), json!({ "enabled": false })).await.problem(404, "not_found");
    other.owner.delete(&path(&alert)).await.problem(404, "not_found");
    assert_eq!(other.owner.get("/alerts").await.expect(200)["data"], json!([]));
    let reader = acme.api_key(&["alerts:read"]).await;
    reader.get(&path(&alert)).await.expect(200);
    reader.post("/alerts", on_failures()).await.problem(403, "permission_missing");
    reader.patch(&path(&alert), json!({ "enabled": false })).await.problem(403, "permission_missing");
    for _ in 1..20 {
        acme.owner.post("/alerts", on_failures()).await.expect(201);
    }
    acme.owner.post("/alerts", on_failures()).await.problem(409, "too_many_alerts");
    other.owner.post("/alerts", on_failures()).await.expect(201);
}

#[tokio::test]
async fn the_tags_of_our_own_jobs_are_not_for_clients() {
    let app = TestApp::start().await;
    let owner = app.quiet_tenant("acme").await.owner;
    let job = json!({ "kind": "echo", "payload": 1, "tags": ["a", "millwork:alert"] });
    let problem = owner.post("/jobs", job).await.problem(422, "body_invalid");
    assert_eq!(
        (&problem["errors"][0]["pointer"], &problem["errors"][0]["code"]),
        (&json!("/tags/1"), &json!("reserved"))
    );
}
