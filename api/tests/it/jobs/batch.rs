//! Many jobs, all or none.

use reqwest::Method;
use serde_json::{Value, json};

use super::{echo, echo_with, faults, ids};
use crate::support::{Client, Reply, TestApp};

fn numbered(count: usize) -> Value {
    json!({ "jobs": (0..count).map(|n| json!({ "kind": "echo", "payload": n })).collect::<Vec<_>>() })
}

async fn count(client: &Client) -> usize {
    let (mut count, mut path) = (0, "/jobs?limit=100".to_owned());
    loop {
        let page = client.get(&path).await.expect(200);
        count += page["data"].as_array().unwrap().len();
        match page["meta"]["next_cursor"].as_str() {
            Some(cursor) => path = format!("/jobs?limit=100&cursor={cursor}"),
            None => return count,
        }
    }
}

#[tokio::test]
async fn a_batch_is_answered_in_its_order() {
    let app = TestApp::start().await;
    let owner = app.quiet_tenant("acme").await.owner;
    let jobs = json!({ "jobs": [
        echo_with(json!({ "payload": 0, "priority": 9, "tags": ["a"] })),
        echo_with(json!({ "payload": 1, "delay_s": 60 })),
        {"kind": "http.request", "payload": {"url": "https://example.com", "method": "GET"}},
    ]});
    let reply = owner.post("/jobs/batch", jobs).await.expect(202);
    let shown: Vec<_> =
        reply["data"].as_array().unwrap().iter().map(|job| [&job["kind"], &job["state"], &job["queue"]]).collect();
    assert_eq!(
        json!(shown),
        json!([
            ["echo", "queued", "default"],
            ["echo", "scheduled", "default"],
            ["http.request", "queued", "webhooks"]
        ])
    );
    let mut newest_first = ids(&owner.get("/jobs").await.expect(200));
    newest_first.reverse();
    assert_eq!(newest_first, ids(&reply));
    for job in reply["data"].as_array().unwrap() {
        assert_eq!(owner.job(job["id"].as_str().unwrap()).await["payload"], job["payload"]);
    }
}

#[tokio::test]
async fn a_thousand_are_accepted_and_one_more_is_not() {
    let app = TestApp::start().await;
    let owner = app.quiet_tenant("acme").await.owner;
    let reply = owner.post("/jobs/batch", numbered(1_000)).await.expect(202);
    let payloads: Vec<_> = reply["data"].as_array().unwrap().iter().map(|job| job["payload"].clone()).collect();
    assert_eq!(payloads, (0..1_000).map(|n| json!(n)).collect::<Vec<_>>());
    let told = faults(&owner.post("/jobs/batch", numbered(1_001)).await);
    assert_eq!(told, [("/jobs".to_owned(), "too_many".to_owned())]);
    let told = faults(&owner.post("/jobs/batch", numbered(0)).await);
    assert_eq!(told, [("/jobs".to_owned(), "too_few".to_owned())]);
    assert_eq!(count(&owner).await, 1_000);
}

#[tokio::test]
async fn one_fault_refuses_all_and_says_where_it_is() {
    let app = TestApp::start().await;
    let owner = app.quiet_tenant("acme").await.owner;
    let mut jobs = numbered(1_000);
    jobs["jobs"][998]["kind"] = json!("nope");
    jobs["jobs"][999]["colour"] = json!("red");
    let told = faults(&owner.post("/jobs/batch", jobs).await);
    let expected = [("/jobs/998/kind", "unknown"), ("/jobs/999/colour", "unknown_field")];
    assert_eq!(told, expected.map(|(pointer, code)| (pointer.to_owned(), code.to_owned())));
    let told = faults(&owner.post("/jobs/batch", json!({ "jobs": vec![json!({}); 1_000] })).await);
    assert_eq!(told.len(), 50, "enough to begin with");
    assert_eq!(faults(&owner.post("/jobs/batch", json!({ "jobs": {} })).await), [("/jobs".into(), "type".into())]);
    assert_eq!(faults(&owner.post("/jobs/batch", echo()).await).len(), 3, "not a batch");
    assert_eq!(count(&owner).await, 0);
}

#[tokio::test]
async fn one_unique_key_that_is_held_refuses_all_and_names_its_holder() {
    let app = TestApp::start().await;
    let owner = app.quiet_tenant("acme").await.owner;
    let held = owner.submit(echo_with(json!({ "unique_key": "held" }))).await;
    let keyed = |key: &str| echo_with(json!({ "unique_key": key }));
    let reply = owner.post("/jobs/batch", json!({ "jobs": [echo(), keyed("free"), keyed("held")] })).await;
    let problem = reply.problem(409, "job_not_unique");
    assert_eq!((&problem["job_id"], &problem["index"]), (&json!(held), &json!(2)));
    let reply = owner.post("/jobs/batch", json!({ "jobs": [keyed("free"), echo(), keyed("free")] })).await;
    let problem = reply.problem(409, "job_not_unique");
    assert_eq!(problem["index"], 2, "the key of a job of the same batch");
    assert_eq!(count(&owner).await, 1);
    owner.post("/jobs/batch", json!({ "jobs": [keyed("free"), keyed("other")] })).await.expect(202);
}

#[tokio::test]
async fn a_batch_with_an_idempotency_key_is_stored_once() {
    let app = TestApp::start().await;
    let owner = app.quiet_tenant("acme").await.owner;
    let first = owner.post_once("/jobs/batch", "k", numbered(3)).await;
    first.expect(202);
    let again = owner.post_once("/jobs/batch", "k", numbered(3)).await;
    assert_eq!((again.status, &again.body), (202, &first.body));
    assert_eq!(again.header("idempotent-replayed"), "true");
    owner.post_once("/jobs/batch", "k", numbered(2)).await.problem(422, "idempotency_key_reused");
    assert_eq!(count(&owner).await, 3);
}

#[tokio::test]
async fn a_batch_may_be_large_but_not_without_end() {
    let app = TestApp::start().await;
    let owner = app.quiet_tenant("acme").await.owner;
    let payload = "x".repeat(900 * 1024);
    let jobs = vec![json!({ "kind": "echo", "payload": payload }); 10];
    owner.post("/jobs/batch", json!({ "jobs": jobs })).await.expect(202);
    let body = format!("{{\"jobs\":[]{}}}", " ".repeat(16 * 1024 * 1024));
    let request = owner.request(Method::POST, "/jobs/batch").header("content-type", "application/json").body(body);
    Reply::of(request).await.problem(413, "body_too_large");
}
