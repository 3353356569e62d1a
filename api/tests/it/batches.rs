//! Jobs that are counted together.

use millwork_shared::jobs::queries::Ending;
use serde_json::{Value, json};

use crate::support::TestApp;

fn echo() -> Value {
    json!({ "kind": "echo", "payload": {} })
}

fn id(value: &Value) -> String {
    value.as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_batch_is_shown_where_location_says() {
    let app = TestApp::start().await;
    let acme = app.quiet_tenant("acme").await;
    let last = json!({ "kind": "echo", "payload": "{{batch.failed}} of {{batch.total}}", "priority": 9 });
    let body = json!({ "jobs": [echo(), echo(), echo()], "batch": { "name": " July ", "on_complete": last } });
    let reply = acme.owner.post("/jobs/batch", body).await;
    let jobs = reply.expect(202)["data"].clone();
    assert_eq!(jobs.as_array().unwrap().len(), 3);
    let batch_id = id(&jobs[0]["batch_id"]);
    assert_eq!(reply.header("location"), format!("{}/api/v1/batches/{batch_id}", app.url));
    let batch = acme.owner.get(&format!("/batches/{batch_id}")).await.expect(200)["data"].clone();
    let expected = json!({
        "id": batch_id, "name": "July", "total": 3, "pending": 3, "succeeded": 0, "failed": 0, "cancelled": 0,
        "on_complete_id": batch["on_complete_id"], "created_at": batch["created_at"], "finished_at": null,
    });
    assert_eq!(batch, expected);
    let last = acme.owner.job(&id(&batch["on_complete_id"])).await;
    assert_eq!((&last["state"], &last["batch_id"], &last["priority"]), (&json!("scheduled"), &Value::Null, &json!(9)));

    let ids: Vec<String> = jobs.as_array().unwrap().iter().map(|job| id(&job["id"])).collect();
    let claimed = app.claim(acme.id, &ids.iter().map(String::as_str).collect::<Vec<_>>()).await;
    app.end(&claimed[0], Ending::Succeeded).await;
    app.end(&claimed[1], Ending::Failed).await;
    acme.owner.post_empty(&format!("/jobs/{}/cancel", id(&last["id"]))).await.expect(202); // has all ends told
    let began = std::time::Instant::now();
    let batch = loop {
        let batch = acme.owner.get(&format!("/batches/{batch_id}")).await.expect(200)["data"].clone();
        if batch["pending"] == 1 {
            break batch;
        }
        assert!(began.elapsed() < crate::support::PATIENCE, "{batch}");
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    };
    assert_eq!((&batch["succeeded"], &batch["failed"], &batch["finished_at"]), (&json!(1), &json!(1), &Value::Null));
}

#[tokio::test]
async fn batches_are_listed_newest_first_and_their_jobs_by_filter() {
    let app = TestApp::start().await;
    let acme = app.quiet_tenant("acme").await;
    let submit = async |name: &str| {
        let body = json!({ "jobs": [echo(), echo()], "batch": { "name": name } });
        let reply = acme.owner.post("/jobs/batch", body).await.expect(202);
        id(&reply["data"][0]["batch_id"])
    };
    let (first, second) = (submit("first").await, submit("second").await);
    acme.owner.post("/jobs/batch", json!({ "jobs": [echo()] })).await.expect(202);
    let page = acme.owner.get("/batches?limit=1").await.expect(200);
    assert_eq!((&page["data"][0]["id"], &page["data"][0]["name"]), (&json!(second), &json!("second")));
    let next = page["meta"]["next_cursor"].as_str().unwrap();
    let page = acme.owner.get(&format!("/batches?limit=1&cursor={next}")).await.expect(200);
    assert_eq!((&page["data"][0]["id"], &page["meta"]["next_cursor"]), (&json!(first), &Value::Null));
    let jobs = acme.owner.get(&format!("/jobs?batch_id={first}")).await.expect(200);
    let jobs = jobs["data"].as_array().unwrap().clone();
    assert_eq!(jobs.len(), 2);
    assert!(jobs.iter().all(|job| job["batch_id"] == json!(first)), "{jobs:?}");
}

#[tokio::test]
async fn a_batch_is_its_tenants_alone() {
    let app = TestApp::start().await;
    let (acme, other) = (app.quiet_tenant("acme").await.owner, app.quiet_tenant("other").await.owner);
    let reply = acme.post("/jobs/batch", json!({ "jobs": [echo()], "batch": {} })).await.expect(202);
    let path = format!("/batches/{}", id(&reply["data"][0]["batch_id"]));
    acme.get(&path).await.expect(200);
    other.get(&path).await.problem(404, "not_found");
    assert_eq!(other.get("/batches").await.expect(200)["data"], json!([]));
}

#[tokio::test]
async fn what_does_not_fit_is_named() {
    let app = TestApp::start().await;
    let owner = app.quiet_tenant("acme").await.owner;
    let own = owner.post("/jobs", echo()).await.expect(202)["data"]["id"].clone();
    for (batch, pointer, code) in [
        (json!({ "name": "" }), "/batch/name", "too_short"),
        (json!({ "name": "a\nb" }), "/batch/name", "format"),
        (json!({ "name": "x".repeat(201) }), "/batch/name", "too_long"),
        (json!({ "on_complete": { "kind": "nope", "payload": 1 } }), "/batch/on_complete/kind", "unknown"),
        (json!({ "on_complete": { "kind": "echo" } }), "/batch/on_complete/payload", "required"),
        (
            json!({ "on_complete": { "kind": "echo", "payload": 1, "after": [own] } }),
            "/batch/on_complete/after",
            "forbidden",
        ),
        (json!({ "on_complete": { "kind": "echo", "payload": 1, "ref": "a" } }), "/batch/on_complete/ref", "forbidden"),
        (json!({ "then": 1 }), "/batch/then", "unknown_field"),
    ] {
        let reply = owner.post("/jobs/batch", json!({ "jobs": [echo()], "batch": batch })).await;
        let problem = reply.problem(422, "body_invalid");
        let fault = problem["errors"].as_array().unwrap().iter().find(|fault| fault["pointer"] == pointer);
        assert_eq!(fault.map(|fault| &fault["code"]), Some(&json!(code)), "{problem}");
    }
    assert_eq!(owner.get("/jobs").await.expect(200)["data"].as_array().unwrap().len(), 1, "nothing was stored");
}

#[tokio::test]
async fn a_last_job_whose_unique_key_is_held_refuses_all() {
    let app = TestApp::start().await;
    let owner = app.quiet_tenant("acme").await.owner;
    let keyed = json!({ "kind": "echo", "payload": 1, "unique_key": "k" });
    let held = owner.post("/jobs", keyed.clone()).await.expect(202)["data"]["id"].clone();
    let body = json!({ "jobs": [echo()], "batch": { "on_complete": keyed } });
    let problem = owner.post("/jobs/batch", body).await.problem(409, "job_not_unique");
    assert_eq!((&problem["job_id"], problem.get("index")), (&held, None));
    assert_eq!(owner.get("/batches").await.expect(200)["data"], json!([]));
}
