//! `Idempotency-Key` and `unique_key`.

use std::time::Duration;

use futures::future::join_all;
use millwork_shared::jobs::queries::Ending;
use serde_json::{Value, json};

use super::{echo, echo_with, ids};
use crate::support::{Client, TestApp};

async fn stored(client: &Client) -> Vec<String> {
    ids(&client.get("/jobs?limit=100").await.expect(200))
}

fn keyed(key: &str) -> Value {
    echo_with(json!({ "unique_key": key }))
}

#[tokio::test]
async fn the_same_submission_is_answered_byte_for_byte_and_stored_once() {
    let app = TestApp::start().await;
    let (acme, other) = (app.quiet_tenant("acme").await, app.quiet_tenant("other").await);
    let first = acme.owner.post_once("/jobs", "k", echo()).await;
    let id = first.expect(202)["data"]["id"].clone();
    assert_eq!(first.header("idempotent-replayed"), "");
    let claimed = app.claim(acme.id, &[id.as_str().unwrap()]).await;
    app.end(&claimed[0], Ending::Succeeded).await; // the answer stays what it was
    let again = acme.owner.post_once("/jobs", "k", echo()).await;
    assert_eq!((again.status, &again.body), (202, &first.body));
    assert_eq!(again.header("idempotent-replayed"), "true");
    assert_eq!(again.header("location"), first.header("location"));
    acme.owner.post_once("/jobs", "k", keyed("x")).await.problem(422, "idempotency_key_reused");
    let foreign = other.owner.post_once("/jobs", "k", keyed("x")).await.expect(202);
    assert_eq!((stored(&acme.owner).await.len(), stored(&other.owner).await.len()), (1, 1));
    assert_ne!(foreign["data"]["id"], id);
    let unkeyed = acme.owner.submit(echo()).await;
    assert_ne!(json!(unkeyed), id);
}

#[tokio::test]
async fn of_twenty_submissions_with_one_key_at_once_one_is_stored() {
    let app = TestApp::start().await;
    let owner = app.quiet_tenant("acme").await.owner;
    for members in [json!({}), json!({ "unique_key": "u" })] {
        let before = stored(&owner).await.len();
        let key = members.to_string();
        let replies = join_all((0..20).map(|_| owner.post_once("/jobs", &key, echo_with(members.clone())))).await;
        let accepted: Vec<_> = replies.iter().filter(|reply| reply.status == 202).collect();
        assert!(!accepted.is_empty());
        assert!(accepted.iter().all(|reply| reply.body == accepted[0].body), "all of them the same answer");
        assert_eq!(accepted.iter().filter(|reply| reply.header("idempotent-replayed").is_empty()).count(), 1);
        for reply in replies.iter().filter(|reply| reply.status != 202) {
            reply.problem(409, "idempotency_in_progress");
        }
        assert_eq!(stored(&owner).await.len(), before + 1);
    }
}

#[tokio::test]
async fn a_submission_that_was_refused_may_come_again_with_its_key() {
    let app = TestApp::start().await;
    let acme = app.quiet_tenant("acme").await;
    acme.owner.post_once("/jobs", "k", json!({ "kind": "nope", "payload": 1 })).await.problem(422, "body_invalid");
    let held = acme.owner.submit(keyed("u")).await;
    acme.owner.post_once("/jobs", "k", keyed("u")).await.problem(409, "job_not_unique");
    acme.owner.post_empty(&format!("/jobs/{held}/cancel")).await;
    let first = acme.owner.post_once("/jobs", "k", keyed("u")).await;
    first.expect(202);
    // The key of this answer is stored, and so the unique key of its own job is not in its way.
    assert_eq!(acme.owner.post_once("/jobs", "k", keyed("u")).await.body, first.body);
}

#[tokio::test]
async fn a_second_live_job_with_the_key_is_refused_and_told_of_the_first() {
    let app = TestApp::start().await;
    let (acme, other) = (app.quiet_tenant("acme").await, app.quiet_tenant("other").await);
    let first = acme.owner.submit(keyed("u")).await;
    let refused = acme.owner.post("/jobs", keyed("u")).await.problem(409, "job_not_unique");
    assert_eq!(refused["job_id"], first);
    acme.owner.submit(keyed("U")).await;
    other.owner.submit(keyed("u")).await;

    let claimed = app.claim(acme.id, &[&first]).await;
    acme.owner.post("/jobs", keyed("u")).await.problem(409, "job_not_unique");
    app.end(&claimed[0], Ending::Failed).await;
    let next = acme.owner.submit(keyed("u")).await;
    let refused = acme.owner.post_empty(&format!("/jobs/{first}/retry")).await.problem(409, "job_not_unique");
    assert!(refused["detail"].as_str().unwrap().contains(&next), "{refused}");
}

#[tokio::test]
async fn a_key_is_held_as_long_as_asked_although_the_job_has_ended() {
    let app = TestApp::start().await;
    let acme = app.quiet_tenant("acme").await;
    let key = acme.api_key(&["jobs:submit", "jobs:read"]).await;
    let first = key.submit(echo_with(json!({ "unique_key": "u", "unique_for_s": 3_600 }))).await;
    let claimed = app.claim(acme.id, &[&first]).await;
    app.end(&claimed[0], Ending::Succeeded).await;
    let refused = key.post("/jobs", keyed("u")).await.problem(409, "job_not_unique");
    assert_eq!(refused["job_id"], first);
    app.advance(Duration::from_secs(3_590)).await;
    key.post("/jobs", keyed("u")).await.problem(409, "job_not_unique");
    app.advance(Duration::from_secs(11)).await;
    key.submit(keyed("u")).await;
}

#[tokio::test]
async fn of_twenty_jobs_with_one_unique_key_at_once_one_is_stored() {
    let app = TestApp::start().await;
    let owner = app.quiet_tenant("acme").await.owner;
    // By both routes: one groups commits, the other has its own.
    let one = |n: usize| {
        let owner = owner.clone();
        async move {
            match n % 2 {
                0 => owner.post("/jobs", keyed("u")).await,
                _ => owner.post("/jobs/batch", json!({ "jobs": [keyed("u")] })).await,
            }
        }
    };
    let replies = join_all((0..20).map(one)).await;
    assert_eq!(replies.iter().filter(|reply| reply.status == 202).count(), 1);
    let [stored] = &stored(&owner).await[..] else { panic!("one is stored") };
    for reply in replies.iter().filter(|reply| reply.status != 202) {
        assert_eq!(reply.problem(409, "job_not_unique")["job_id"], *stored);
    }
}
