//! Getting, cancelling and running again; and who may.

use std::time::Duration;

use millwork_shared::jobs::queries::Ending;
use millwork_shared::tenants::Permission;
use reqwest::Method;
use serde_json::{Value, json};

use super::{echo, echo_with};
use crate::support::{Reply, TestApp};

const MISSING: &str = "0190163d-8694-739b-aea5-966c26f8ad91";

/// Every route of one job: method and what follows its id.
fn routes() -> [(Method, &'static str); 6] {
    [
        (Method::GET, ""),
        (Method::GET, "/attempts"),
        (Method::GET, "/logs"),
        (Method::GET, "/events"),
        (Method::POST, "/cancel"),
        (Method::POST, "/retry"),
    ]
}

#[tokio::test]
async fn another_tenants_job_is_as_absent_as_one_that_never_was() {
    let app = TestApp::start().await;
    let (acme, other) = (app.quiet_tenant("acme").await, app.quiet_tenant("other").await);
    let queued = acme.owner.submit(echo()).await;
    let failed = acme.owner.submit(echo()).await;
    let claimed = app.claim(acme.id, &[&failed]).await.remove(0);
    app.end(&claimed, Ending::Failed).await;
    for (method, rest) in routes() {
        let problem = async |id: &str| {
            let request = other.owner.request(method.clone(), &format!("/jobs/{id}{rest}"));
            let request = request.header("x-request-id", "same");
            let reply = Reply::of(request).await;
            reply.problem(404, "not_found");
            reply.body
        };
        for id in [&queued, &failed] {
            assert_eq!(problem(id).await, problem(MISSING).await, "{method} {rest}");
        }
    }
    assert_eq!(other.owner.get("/jobs").await.expect(200)["data"], json!([]));
    assert_eq!(acme.owner.job(&queued).await["state"], "queued");
    assert_eq!(acme.owner.job(&failed).await["state"], "failed");
}

#[tokio::test]
async fn each_route_needs_its_permission_and_names_it() {
    let app = TestApp::start().await;
    let acme = app.quiet_tenant("acme").await;
    let id = acme.owner.submit(echo()).await;
    let of_one = |rest: &str| format!("/jobs/{id}{rest}");
    for (method, path, permission) in [
        (Method::POST, "/jobs".to_owned(), "jobs:submit"),
        (Method::POST, "/jobs/batch".to_owned(), "jobs:submit"),
        (Method::GET, "/jobs".to_owned(), "jobs:read"),
        (Method::GET, "/jobs/stats".to_owned(), "jobs:read"),
        (Method::GET, of_one(""), "jobs:read"),
        (Method::GET, of_one("/attempts"), "jobs:read"),
        (Method::GET, of_one("/logs"), "jobs:read"),
        (Method::GET, of_one("/events"), "jobs:read"),
        (Method::POST, of_one("/cancel"), "jobs:cancel"),
        (Method::POST, of_one("/retry"), "jobs:retry"),
        (Method::POST, "/jobs/cleanup".to_owned(), "jobs:cleanup"),
        (Method::POST, "/jobs/replay".to_owned(), "jobs:retry"),
        (Method::POST, "/jobs/cancel".to_owned(), "jobs:cancel"),
        (Method::GET, "/queues".to_owned(), "queues:read"),
        (Method::POST, "/queues/default/pause".to_owned(), "queues:write"),
        (Method::POST, "/queues/default/resume".to_owned(), "queues:write"),
        (Method::GET, "/workers".to_owned(), "workers:read"),
    ] {
        let others = Permission::ALL.iter().map(|p| p.as_str()).filter(|p| *p != permission);
        let without = acme.api_key(&others.collect::<Vec<_>>()).await;
        let send = |client: &crate::support::Client| {
            let request = client.request(method.clone(), &path);
            Reply::of(match path.as_str() {
                "/jobs" if method == Method::POST => request.json(&echo()),
                "/jobs/replay" | "/jobs/cancel" => request.json(&json!({})),
                "/jobs/batch" => request.json(&json!({ "jobs": [echo()] })),
                _ => request,
            })
        };
        let problem = send(&without).await.problem(403, "permission_missing");
        assert_eq!(problem["permission"], permission, "{method} {path}");
        send(&app.anonymous()).await.problem(401, "unauthenticated");
    }
    assert_eq!(acme.owner.job(&id).await["state"], "queued", "nothing of it was done");
    let only = acme.api_key(&["jobs:cancel"]).await;
    only.post_empty(&of_one("/cancel")).await.expect(202);
}

#[tokio::test]
async fn who_submitted_a_job_may_cancel_it_and_run_it_again() {
    let app = TestApp::start().await;
    let acme = app.quiet_tenant("acme").await;
    let key = acme.api_key(&["jobs:submit"]).await;
    let sibling = acme.api_key(&["jobs:submit"]).await;
    let me = key.get("/auth/me").await.expect(200);
    let own = key.submit(echo()).await;
    assert_eq!(acme.owner.job(&own).await["submitted_by"], me["data"]["api_key_id"]);
    let many = key.post("/jobs/batch", json!({ "jobs": [echo()] })).await.expect(202);
    assert_eq!(many["data"][0]["submitted_by"], me["data"]["api_key_id"]);
    let others = acme.owner.submit(echo()).await;
    assert_eq!(acme.owner.job(&others).await["submitted_by"], json!(acme.owner_id));

    let commands = [("cancel", "jobs:cancel"), ("retry", "jobs:retry")];
    for (name, permission) in commands {
        for (client, id) in [(&key, others.as_str()), (&sibling, own.as_str()), (&key, MISSING)] {
            let problem = client.post_empty(&format!("/jobs/{id}/{name}")).await.problem(403, "permission_missing");
            assert_eq!(problem["permission"], permission);
        }
        key.post_empty(&format!("/jobs/{own}/{name}")).await.expect(202);
    }
    assert_eq!(acme.owner.job(&others).await["state"], "queued");
    let reader = acme.api_key(&["jobs:read"]).await;
    reader.post_empty(&format!("/jobs/{own}/cancel")).await.problem(403, "permission_missing");
}

#[tokio::test]
async fn a_job_that_waits_is_cancelled_at_once() {
    let app = TestApp::start().await;
    let acme = app.quiet_tenant("acme").await;
    let owner = &acme.owner;
    let queued = owner.submit(echo()).await;
    let scheduled = owner.submit(echo_with(json!({ "delay_s": 60 }))).await;
    let retrying = owner.submit(echo()).await;
    let claimed = app.claim(acme.id, &[&retrying]).await.remove(0);
    app.put_off(&claimed, Duration::from_secs(60)).await;
    for (id, attempt) in [(&queued, 0), (&scheduled, 0), (&retrying, 1)] {
        let answer = owner.post_empty(&format!("/jobs/{id}/cancel")).await.expect(202);
        assert_eq!(answer["data"], json!({ "id": id, "state": "cancelled" }));
        let job = owner.job(id).await;
        assert_eq!((&job["state"], &job["attempt"]), (&json!("cancelled"), &json!(attempt)));
        assert!(job["finished_at"].is_string());
        let problem = owner.post_empty(&format!("/jobs/{id}/cancel")).await.problem(409, "job_has_ended");
        assert!(problem["detail"].as_str().unwrap().contains("cancelled"), "{problem}");
    }
}

#[tokio::test]
async fn a_job_that_runs_is_asked_to_stop_and_one_that_has_ended_is_not() {
    let app = TestApp::start().await;
    let acme = app.quiet_tenant("acme").await;
    let running = acme.owner.submit(echo()).await;
    let claimed = app.claim(acme.id, &[&running]).await.remove(0);
    for _ in 0..2 {
        let answer = acme.owner.post_empty(&format!("/jobs/{running}/cancel")).await.expect(202);
        assert_eq!(answer["data"], json!({ "id": running, "state": "running" }));
    }
    assert_eq!(acme.owner.job(&running).await["state"], "running");
    app.end(&claimed, Ending::Succeeded).await;
    let problem = acme.owner.post_empty(&format!("/jobs/{running}/cancel")).await.problem(409, "job_has_ended");
    assert!(problem["detail"].as_str().unwrap().contains("succeeded"), "{problem}");
}

#[tokio::test]
async fn a_job_that_failed_or_was_cancelled_is_run_again_and_no_other() {
    let app = TestApp::start().await;
    let acme = app.quiet_tenant("acme").await;
    let owner = &acme.owner;
    let failed = owner.submit(echo_with(json!({ "max_attempts": 2 }))).await;
    let claimed = app.claim(acme.id, &[&failed]).await.remove(0);
    let retry = async |id: &str| owner.post_empty(&format!("/jobs/{id}/retry")).await;
    retry(&failed).await.problem(409, "job_not_retryable");
    app.end(&claimed, Ending::Failed).await;
    assert_eq!(owner.job(&failed).await["last_error"], json!({ "code": "boom", "message": "it broke" }));

    let job = retry(&failed).await.expect(202)["data"].clone();
    assert_eq!((&job["id"], &job["state"], &job["attempt"]), (&json!(failed), &json!("queued"), &json!(1)));
    assert_eq!((&job["max_attempts"], &job["finished_at"]), (&json!(3), &Value::Null));
    retry(&failed).await.problem(409, "job_not_retryable");
    let claimed = app.claim(acme.id, &[&failed]).await.remove(0);
    app.end(&claimed, Ending::Succeeded).await;
    let problem = retry(&failed).await.problem(409, "job_not_retryable");
    assert!(problem["detail"].as_str().unwrap().contains("succeeded"), "{problem}");

    let scheduled = owner.submit(echo_with(json!({ "delay_s": 60 }))).await;
    retry(&scheduled).await.problem(409, "job_not_retryable");
    owner.post_empty(&format!("/jobs/{scheduled}/cancel")).await.expect(202);
    let job = retry(&scheduled).await.expect(202)["data"].clone();
    assert_eq!((&job["state"], &job["attempt"]), (&json!("queued"), &json!(0)), "now, not when it was due");
}

#[tokio::test]
async fn commands_with_an_idempotency_key_are_done_once() {
    let app = TestApp::start().await;
    let owner = app.quiet_tenant("acme").await.owner;
    let id = owner.submit(echo()).await;
    let command = async |name: &str| {
        let request = owner.request(Method::POST, &format!("/jobs/{id}/{name}"));
        Reply::of(request.header("idempotency-key", "k")).await
    };
    for name in ["cancel", "retry"] {
        let first = command(name).await;
        first.expect(202);
        let again = command(name).await; // without the key it would be a 409
        assert_eq!((again.status, &again.body), (202, &first.body));
        assert_eq!(again.header("idempotent-replayed"), "true");
    }
}

#[tokio::test]
async fn attempts_are_listed_newest_first_with_how_they_ended() {
    let app = TestApp::start().await;
    let acme = app.quiet_tenant("acme").await;
    let id = acme.owner.submit(echo()).await;
    let attempts = async || acme.owner.get(&format!("/jobs/{id}/attempts")).await.expect(200)["data"].clone();
    assert_eq!(attempts().await, json!([]));
    let first = app.claim(acme.id, &[&id]).await.remove(0);
    let running = attempts().await;
    assert_eq!(running[0]["ended"], "running");
    assert_eq!((&running[0]["worker_id"], &running[0]["finished_at"]), (&json!(first.owner), &Value::Null));
    app.put_off(&first, Duration::from_secs(60)).await;
    app.advance(Duration::from_secs(61)).await;
    let second = app.claim(acme.id, &[&id]).await.remove(0);
    app.end(&second, Ending::Failed).await;

    let listed = attempts().await;
    let shown: Vec<_> = listed.as_array().unwrap().iter().map(|a| [&a["attempt"], &a["ended"], &a["error"]]).collect();
    let error = json!({ "code": "boom", "message": "it broke" });
    assert_eq!(json!(shown), json!([[2, "failed", error], [1, "retry", error]]));
    assert_eq!(listed[0]["worker_id"], json!(second.owner));
    let (began, ended) = (&listed[1]["started_at"], &listed[1]["finished_at"]);
    assert!(began.as_str().unwrap() <= ended.as_str().unwrap());
}
