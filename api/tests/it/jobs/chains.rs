//! Jobs that wait for others.

use millwork_shared::jobs::queries::Ending;
use serde_json::{Value, json};

use super::{echo, echo_with, faults};
use crate::support::TestApp;

fn told(faults: &[(&str, &str)]) -> Vec<(String, String)> {
    faults.iter().map(|(pointer, code)| ((*pointer).to_owned(), (*code).to_owned())).collect()
}

#[tokio::test]
async fn a_job_is_stored_at_once_and_shows_what_it_waits_for() {
    let app = TestApp::start().await;
    let owner = app.quiet_tenant("acme").await.owner;
    let first = owner.submit(echo()).await;
    let reply = owner.post("/jobs", echo_with(json!({ "after": [first] }))).await;
    let answer = reply.expect(202)["data"].clone();
    assert!(reply.header("location").ends_with(answer["id"].as_str().unwrap()));
    let shown = owner.job(answer["id"].as_str().unwrap()).await;
    for job in [&answer, &shown] {
        assert_eq!((&job["state"], &job["after"]), (&json!("scheduled"), &json!([first])), "{job}");
        assert_eq!(job["on_predecessor_failure"], "cancel");
        assert_eq!(job["run_at"], shown["created_at"], "a wait has no time: {job}");
    }
    assert_eq!(owner.job(&first).await["after"], json!([]));
    let waiting = owner.get("/jobs?state=scheduled").await.expect(200);
    assert_eq!(super::ids(&waiting), [shown["id"].as_str().unwrap()]);
}

#[tokio::test]
async fn predecessors_that_have_ended_count() {
    let app = TestApp::start().await;
    let acme = app.quiet_tenant("acme").await;
    let (well, badly) = (acme.owner.submit(echo()).await, acme.owner.submit(echo()).await);
    let claimed = app.claim(acme.id, &[&well, &badly]).await;
    for job in &claimed {
        let ending = if job.id.to_string() == well { Ending::Succeeded } else { Ending::Failed };
        app.end(job, ending).await;
    }
    let after = |members: Value| echo_with(members);
    let due = acme.owner.post("/jobs", after(json!({ "after": [well] }))).await.expect(202);
    assert_eq!(due["data"]["state"], "queued");
    let anyway = json!({ "after": [badly], "on_predecessor_failure": "run" });
    assert_eq!(acme.owner.post("/jobs", after(anyway)).await.expect(202)["data"]["state"], "queued");
    let never = acme.owner.post("/jobs", after(json!({ "after": [well, badly] }))).await.expect(202);
    let shown = acme.owner.job(never["data"]["id"].as_str().unwrap()).await;
    for job in [&never["data"], &shown] {
        assert_eq!((&job["state"], &job["last_error"]["code"]), (&json!("cancelled"), &json!("predecessor_failed")));
        assert!(job["last_error"]["message"].as_str().unwrap().contains(&badly), "{job}");
        assert!(job["finished_at"].is_string(), "{job}");
    }
}

#[tokio::test]
async fn a_predecessor_that_the_tenant_does_not_have_is_a_fault() {
    let app = TestApp::start().await;
    let (acme, other) = (app.quiet_tenant("acme").await.owner, app.quiet_tenant("other").await.owner);
    let (own, theirs) = (acme.submit(echo()).await, other.submit(echo()).await);
    let missing = "0190163d-8694-739b-aea5-966c26f8ad91";
    let reply = acme.post("/jobs", echo_with(json!({ "after": [theirs, own, missing] }))).await;
    assert_eq!(faults(&reply), told(&[("/after/0", "unknown"), ("/after/2", "unknown")]));
    let jobs = json!({ "jobs": [echo(), echo_with(json!({ "after": [own, theirs] }))] });
    assert_eq!(faults(&acme.post("/jobs/batch", jobs).await), told(&[("/jobs/1/after/1", "unknown")]));
    assert_eq!(acme.get("/jobs").await.expect(200)["data"].as_array().unwrap().len(), 1, "nothing was stored");
}

#[tokio::test]
async fn what_does_not_fit_is_named() {
    let app = TestApp::start().await;
    let owner = app.quiet_tenant("acme").await.owner;
    let id = owner.submit(echo()).await;
    for (members, fault) in [
        (json!({ "after": ["first"] }), ("/after/0", "invalid")),
        (json!({ "after": [7] }), ("/after/0", "type")),
        (json!({ "after": id }), ("/after", "type")),
        (json!({ "after": [id, id] }), ("/after/1", "duplicate")),
        (json!({ "after": [id, id.to_uppercase()] }), ("/after/1", "duplicate")),
        (json!({ "after": vec![&id; 101] }), ("/after", "too_many")),
        (json!({ "ref": "a" }), ("/ref", "batch_only")),
        (json!({ "on_predecessor_failure": "run" }), ("/on_predecessor_failure", "needs_after")),
        (json!({ "after": [id], "on_predecessor_failure": "ignore" }), ("/on_predecessor_failure", "not_allowed")),
    ] {
        let reply = owner.post("/jobs", echo_with(members.clone())).await;
        assert!(faults(&reply).contains(&told(&[fault])[0]), "{members}: {}", reply.text());
    }
    owner.post("/jobs", echo_with(json!({ "after": [] }))).await.expect(202);
}

#[tokio::test]
async fn items_of_a_batch_wait_for_items_before_them() {
    let app = TestApp::start().await;
    let owner = app.quiet_tenant("acme").await.owner;
    let earlier = owner.submit(echo()).await;
    let jobs = json!({ "jobs": [
        echo_with(json!({ "ref": "a" })),
        echo_with(json!({ "ref": "b", "after": ["a"] })),
        echo_with(json!({ "after": ["b", "a", earlier], "on_predecessor_failure": "run" })),
    ]});
    let reply = owner.post("/jobs/batch", jobs).await.expect(202);
    let data = reply["data"].as_array().unwrap();
    let states: Vec<_> = data.iter().map(|job| job["state"].as_str().unwrap()).collect();
    assert_eq!(states, ["queued", "scheduled", "scheduled"]);
    assert_eq!(data[2]["after"], json!([data[1]["id"], data[0]["id"], earlier]));
    for job in data {
        let shown = owner.job(job["id"].as_str().unwrap()).await;
        assert_eq!((&shown["state"], &shown["after"]), (&job["state"], &job["after"]));
    }
}

#[tokio::test]
async fn a_name_must_be_an_earlier_items_and_one_items_only() {
    let app = TestApp::start().await;
    let owner = app.quiet_tenant("acme").await.owner;
    let id = owner.submit(echo()).await;
    let jobs = json!({ "jobs": [
        echo_with(json!({ "ref": "a", "after": ["b"] })), // which would be a cycle
        echo_with(json!({ "ref": "b", "after": ["a", "b"] })),
        echo_with(json!({ "ref": "b", "after": ["c"] })),
        echo_with(json!({ "ref": id })),
        echo_with(json!({ "ref": "" })),
    ]});
    let expected = [
        ("/jobs/0/after/0", "unknown"),
        ("/jobs/1/after/1", "unknown"),
        ("/jobs/2/after/0", "unknown"),
        ("/jobs/2/ref", "duplicate"),
        ("/jobs/3/ref", "invalid"),
        ("/jobs/4/ref", "too_short"),
    ];
    assert_eq!(faults(&owner.post("/jobs/batch", jobs).await), told(&expected));
}

#[tokio::test]
async fn a_wait_with_an_idempotency_key_is_stored_once() {
    let app = TestApp::start().await;
    let owner = app.quiet_tenant("acme").await.owner;
    let id = owner.submit(echo()).await;
    let job = echo_with(json!({ "after": [id] }));
    let first = owner.post_once("/jobs", "k", job.clone()).await;
    first.expect(202);
    let again = owner.post_once("/jobs", "k", job).await;
    assert_eq!((again.status, &again.body), (202, &first.body));
    assert_eq!((again.header("idempotent-replayed"), again.header("location")), ("true", first.header("location")));
}
