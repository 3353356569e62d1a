//! Replaying and cancelling many jobs, by the real worker.

use millwork_shared::jobs::queries::Ending;
use serde_json::{Value, json};

use super::{echo, echo_with, faults};
use crate::support::{Client, TestApp};

async fn ask(client: &Client, path: &str, body: Value) -> Value {
    client.post(path, body).await.expect(202)["data"].clone()
}

#[tokio::test]
async fn failed_jobs_are_replayed_by_a_job_that_says_how_many() {
    let app = TestApp::start().await;
    let (acme, other) = (app.quiet_tenant("acme").await, app.quiet_tenant("other").await);
    let mut failed = Vec::new();
    for (tenant, tag) in [(&acme, "a"), (&acme, "a"), (&acme, "b"), (&other, "a")] {
        let id = tenant.owner.submit(echo_with(json!({ "tags": [tag] }))).await;
        let claimed = app.claim(tenant.id, &[&id]).await.remove(0);
        app.end(&claimed, Ending::Failed).await;
        failed.push(id);
    }
    let _worker = app.worker();
    let _scheduler = app.scheduler();
    let dry = ask(&acme.owner, "/jobs/replay", json!({ "tag": "a", "dry_run": true })).await;
    let dry = acme.owner.until(dry["id"].as_str().unwrap(), "succeeded").await;
    assert_eq!(dry["result"], json!({ "matched": 2, "done": 0, "skipped": 0, "at_least": false }));

    let reply = acme.owner.post("/jobs/replay", json!({ "tag": "a", "rate_per_s": 50 })).await;
    let job = reply.expect(202)["data"].clone();
    let id = job["id"].as_str().unwrap();
    assert_eq!(reply.header("location"), format!("{}/api/v1/jobs/{id}", app.url));
    assert_eq!((&job["kind"], &job["queue"]), (&json!("jobs.replay"), &json!("maintenance")));
    let job = acme.owner.until(id, "succeeded").await;
    assert_eq!(job["result"], json!({ "matched": 2, "done": 2, "skipped": 0 }));
    for id in &failed[..2] {
        assert_eq!(acme.owner.until(id, "succeeded").await["attempt"], 2);
    }
    assert_eq!(acme.owner.job(&failed[2]).await["state"], "failed");
    assert_eq!(other.owner.job(&failed[3]).await["state"], "failed", "another tenant's");
}

#[tokio::test]
async fn waiting_jobs_are_cancelled_by_a_job() {
    let app = TestApp::start().await;
    let acme = app.quiet_tenant("acme").await;
    let mut waiting = Vec::new();
    for _ in 0..3 {
        waiting.push(acme.owner.submit(echo_with(json!({ "delay_s": 600 }))).await);
    }
    let _worker = app.worker();
    let job = ask(&acme.owner, "/jobs/cancel", json!({ "state": "scheduled", "kind": "echo" })).await;
    let job = acme.owner.until(job["id"].as_str().unwrap(), "succeeded").await;
    assert_eq!(job["result"], json!({ "matched": 3, "done": 3, "skipped": 0 }));
    for id in &waiting {
        assert_eq!(acme.owner.job(id).await["state"], "cancelled");
    }
}

#[tokio::test]
async fn a_filter_that_does_not_fit_is_refused() {
    let app = TestApp::start().await;
    let owner = app.quiet_tenant("acme").await.owner;
    for (path, state) in [("/jobs/replay", "running"), ("/jobs/replay", "succeeded"), ("/jobs/cancel", "failed")] {
        let reply = owner.post(path, json!({ "state": state })).await;
        assert_eq!(faults(&reply), [("/state".to_owned(), "not_allowed".to_owned())], "{path} {state}");
    }
    for (body, pointer, code) in [
        (json!({ "state": "lost" }), "/state", "not_allowed"),
        (json!({ "queue": "fast" }), "/queue", "not_allowed"),
        (json!({ "kind": "" }), "/kind", "too_short"),
        (json!({ "rate_per_s": 0 }), "/rate_per_s", "too_small"),
        (json!({ "rate_per_s": 10_001 }), "/rate_per_s", "too_large"),
        (json!({ "from": "2026-02-01T00:00:00Z", "to": "2026-02-01T00:00:00Z" }), "/to", "empty"),
        (json!({ "filter": {} }), "/filter", "unknown_field"),
    ] {
        let reply = owner.post("/jobs/replay", body).await;
        assert_eq!(faults(&reply), [(pointer.to_owned(), code.to_owned())]);
    }
    assert_eq!(owner.get("/jobs").await.expect(200)["data"], json!([]));
}

#[tokio::test]
async fn one_at_a_time_and_once_by_key() {
    let app = TestApp::start().await;
    let owner = app.quiet_tenant("acme").await.owner;
    owner.submit(echo()).await;
    let first = owner.post_once("/jobs/replay", "k", json!({})).await;
    let job = first.expect(202)["data"].clone();
    let again = owner.post_once("/jobs/replay", "k", json!({})).await;
    assert_eq!((again.header("idempotent-replayed"), &again.body), ("true", &first.body));
    let problem = owner.post("/jobs/replay", json!({ "tag": "a" })).await.problem(409, "job_not_unique");
    assert_eq!(problem["job_id"], job["id"]);
    ask(&owner, "/jobs/replay", json!({ "dry_run": true })).await;
    ask(&owner, "/jobs/cancel", json!({})).await;
}
