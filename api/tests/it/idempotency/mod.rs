//! The first answer of a POST is kept and replayed.

mod personal;

use std::time::Duration;

use futures::future::join_all;
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{Reply, Tenant, TestApp};

fn new_key(name: &str) -> Value {
    json!({ "name": name, "permissions": ["jobs:read"] })
}

async fn count(tenant: &Tenant<'_>) -> usize {
    tenant.owner.get("/api-keys?limit=100").await.expect(200)["data"].as_array().unwrap().len()
}

#[tokio::test]
async fn the_same_request_is_answered_byte_for_byte_and_done_once() {
    let app = TestApp::start().await;
    let acme = app.tenant("acme").await;
    let first = acme.owner.post_once("/api-keys", "k1", new_key("a")).await;
    first.expect(201);
    assert_eq!(first.header("idempotent-replayed"), "");
    let second = acme.owner.post_once("/api-keys", "k1", new_key("a")).await;
    assert_eq!(second.header("idempotent-replayed"), "true");
    assert_eq!((second.status, &second.body), (first.status, &first.body));
    for header in ["location", "content-type"] {
        assert_eq!(second.header(header), first.header(header), "{header}");
    }
    assert_ne!(second.header("x-request-id"), first.header("x-request-id"));
    assert_eq!(count(&acme).await, 1);
}

#[tokio::test]
async fn the_stored_answer_is_sealed() {
    let app = TestApp::start().await;
    let acme = app.tenant("acme").await;
    let reply = acme.owner.post_once("/api-keys", "k1", new_key("a")).await;
    let secret = reply.expect(201)["data"]["secret"].as_str().unwrap().to_owned();
    let row: String = sqlx::query_scalar("select k::text || encode(sealed_body, 'escape') from idempotency_keys k")
        .fetch_one(&app.db.owner().await)
        .await
        .unwrap();
    assert!(!row.contains(&secret), "{row}");
}

#[tokio::test]
async fn a_key_stands_for_one_body_one_route_and_one_tenant() {
    let app = TestApp::start().await;
    let (acme, other) = (app.tenant("acme").await, app.tenant("other").await);
    let first = acme.owner.post_once("/api-keys", "k1", new_key("a")).await.expect(201);
    acme.owner.post_once("/api-keys", "k1", new_key("b")).await.problem(422, "idempotency_key_reused");
    let path = format!("/api-keys/{}/rotate", first["data"]["id"].as_str().unwrap());
    let rotate = || Reply::of(acme.owner.request(Method::POST, &path).header("idempotency-key", "k1"));
    let rotated = rotate().await;
    assert_ne!(rotated.expect(200)["data"]["secret"], first["data"]["secret"]);
    assert_eq!(rotate().await.body, rotated.body);
    let foreign = other.owner.post_once("/api-keys", "k1", new_key("a")).await;
    assert_ne!(foreign.expect(201)["data"]["id"], first["data"]["id"]);
    assert_eq!((count(&acme).await, count(&other).await), (1, 1));
}

#[tokio::test]
async fn of_requests_with_one_key_at_once_one_is_done() {
    let app = TestApp::start().await;
    let acme = app.tenant("acme").await;
    let replies = join_all((0..12).map(|_| acme.owner.post_once("/api-keys", "k1", new_key("a")))).await;
    let mut bodies: Vec<_> = replies.iter().filter(|reply| reply.status == 201).map(|reply| &reply.body).collect();
    assert!(!bodies.is_empty());
    bodies.dedup();
    assert_eq!(bodies.len(), 1, "every success is the same answer");
    for reply in replies.iter().filter(|reply| reply.status != 201) {
        reply.problem(409, "idempotency_in_progress");
    }
    assert_eq!(count(&acme).await, 1);
}

#[tokio::test]
async fn a_key_whose_request_is_still_running_is_refused_without_waiting() {
    let app = TestApp::start().await;
    let acme = app.tenant("acme").await;
    let mut running = app.db.db.tenant(acme.id).await.unwrap();
    let claim =
        millwork_shared::idempotency::queries::claim(&mut running, "POST /api/v1/api-keys", "k1").await.unwrap();
    assert!(claim.is_none());
    let started = std::time::Instant::now();
    acme.owner.post_once("/api-keys", "k1", new_key("a")).await.problem(409, "idempotency_in_progress");
    assert!(started.elapsed() < Duration::from_secs(1));
    drop(running); // the request fails: its key is free again
    let deadline = std::time::Instant::now() + Duration::from_secs(5);
    while acme.owner.post_once("/api-keys", "k1", new_key("a")).await.status == 409 {
        assert!(std::time::Instant::now() < deadline);
        tokio::task::yield_now().await;
    }
    assert_eq!(count(&acme).await, 1);
}

#[tokio::test]
async fn a_request_that_failed_may_come_again() {
    let app = TestApp::start().await;
    let acme = app.tenant("acme").await;
    let past = json!({ "name": "a", "permissions": ["jobs:read"], "expires_at": "2020-01-01T00:00:00Z" });
    acme.owner.post_once("/api-keys", "k1", past).await.problem(422, "body_invalid");
    acme.owner.post_once("/api-keys", "k1", new_key("a")).await.expect(201);
}

#[tokio::test]
async fn a_day_later_the_key_is_free() {
    let app = TestApp::start().await;
    let acme = app.tenant("acme").await;
    let key = acme.api_key(&["api_keys:write", "api_keys:read", "jobs:read"]).await;
    let first = key.post_once("/api-keys", "k1", new_key("a")).await.expect(201);
    app.advance(Duration::from_secs(24 * 3600 - 60)).await;
    key.post_once("/api-keys", "k1", new_key("b")).await.problem(422, "idempotency_key_reused");
    app.advance(Duration::from_secs(61)).await;
    let second = key.post_once("/api-keys", "k1", new_key("b")).await;
    assert_ne!(second.expect(201)["data"]["id"], first["data"]["id"]);
    assert_eq!(key.post_once("/api-keys", "k1", new_key("b")).await.body, second.body);
}

#[tokio::test]
async fn a_key_that_is_none_is_refused() {
    let app = TestApp::start().await;
    let acme = app.tenant("acme").await;
    acme.owner.post_once("/api-keys", &"x".repeat(255), new_key("a")).await.expect(201);
    for key in ["", &"x".repeat(256)] {
        acme.owner.post_once("/api-keys", key, new_key("a")).await.problem(400, "idempotency_key_invalid");
    }
}
