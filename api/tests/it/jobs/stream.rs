//! `/jobs/{id}/events`: a job's changes as they happen.

use std::time::Duration;

use millwork_shared::jobs::queries::{Ending, LogLine};
use millwork_shared::tenants::Role;
use reqwest::{Method, Response};
use serde_json::{Value, json};

use super::echo;
use crate::admin;
use crate::support::{Client, PATIENCE, TestApp};

/// A stream of server-sent events, read one at a time.
struct Events {
    response: Response,
    text: String,
}

impl Events {
    async fn of(client: &Client, id: &str) -> Self {
        let response = client.request(Method::GET, &format!("/jobs/{id}/events")).send().await.unwrap();
        assert_eq!(response.status(), 200);
        assert!(response.headers()["content-type"].to_str().unwrap().starts_with("text/event-stream"));
        Self { response, text: String::new() }
    }

    /// The data of the next event; none at the end of the stream.
    async fn next(&mut self) -> Option<Value> {
        loop {
            if let Some((event, rest)) = self.text.split_once("\n\n") {
                let data = event.lines().find_map(|line| line.strip_prefix("data:")).map(|data| data.trim().to_owned());
                self.text = rest.to_owned();
                match data {
                    Some(data) => return Some(serde_json::from_str(&data).unwrap()),
                    None => continue, // a comment
                }
            }
            let chunk = tokio::time::timeout(PATIENCE, self.response.chunk()).await.expect("an event or the end");
            self.text.push_str(std::str::from_utf8(&chunk.unwrap()?).unwrap());
        }
    }

    async fn next_state(&mut self) -> Option<String> {
        self.next().await.map(|job| job["state"].as_str().unwrap().to_owned())
    }
}

#[tokio::test]
async fn a_stream_begins_with_how_the_job_stands_shows_every_change_and_ends_with_it() {
    let app = TestApp::start().await;
    let acme = app.quiet_tenant("acme").await;
    let id = acme.owner.submit(echo()).await;
    let mut events = Events::of(&acme.owner, &id).await;
    let first = events.next().await.unwrap();
    assert_eq!(first, acme.owner.job(&id).await, "an event is the whole job");
    let claimed = app.claim(acme.id, &[&id]).await.remove(0);
    assert_eq!(events.next_state().await.unwrap(), "running");
    app.put_off(&claimed, Duration::from_secs(60)).await;
    assert_eq!(events.next_state().await.unwrap(), "retrying");
    app.advance(Duration::from_secs(61)).await;
    assert_eq!(events.next_state().await.unwrap(), "queued");
    let claimed = app.claim(acme.id, &[&id]).await.remove(0);
    assert_eq!(events.next().await.unwrap()["attempt"], 2);
    app.end(&claimed, Ending::Succeeded).await;
    let last = events.next().await.unwrap();
    assert_eq!(last, acme.owner.job(&id).await);
    assert_eq!(last["state"], "succeeded");
    assert_eq!(events.next().await, None);
}

#[tokio::test]
async fn a_job_that_has_ended_is_shown_once() {
    let app = TestApp::start().await;
    let acme = app.quiet_tenant("acme").await;
    let id = acme.owner.submit(echo()).await;
    acme.owner.post_empty(&format!("/jobs/{id}/cancel")).await.expect(202);
    let mut events = Events::of(&acme.owner, &id).await;
    assert_eq!(events.next_state().await.unwrap(), "cancelled");
    assert_eq!(events.next().await, None);
}

#[tokio::test]
async fn whoever_comes_later_sees_how_the_job_stands_too() {
    let app = TestApp::start().await;
    let acme = app.quiet_tenant("acme").await;
    let id = acme.owner.submit(echo()).await;
    let mut one = Events::of(&acme.owner, &id).await;
    assert_eq!(one.next_state().await.unwrap(), "queued");
    let mut other = Events::of(&acme.owner, &id).await;
    assert_eq!(other.next_state().await.unwrap(), "queued");
    acme.owner.post_empty(&format!("/jobs/{id}/cancel")).await.expect(202);
    for events in [&mut one, &mut other] {
        assert_eq!(events.next_state().await.unwrap(), "cancelled");
        assert_eq!(events.next().await, None);
    }
}

#[tokio::test]
async fn a_job_that_is_run_again_can_be_followed_again() {
    let app = TestApp::start().await;
    let acme = app.quiet_tenant("acme").await;
    let id = acme.owner.submit(echo()).await;
    acme.owner.post_empty(&format!("/jobs/{id}/cancel")).await.expect(202);
    let mut ended = Events::of(&acme.owner, &id).await;
    assert_eq!(ended.next_state().await.unwrap(), "cancelled");
    acme.owner.post_empty(&format!("/jobs/{id}/retry")).await.expect(202);
    let mut events = Events::of(&acme.owner, &id).await;
    assert_eq!(events.next_state().await.unwrap(), "queued");
    assert_eq!(ended.next().await, None);
}

#[tokio::test]
async fn a_change_of_progress_is_an_event_and_the_log_has_its_route() {
    let app = TestApp::start().await;
    let acme = app.quiet_tenant("acme").await;
    let id = acme.owner.submit(echo()).await;
    let logs = async || acme.owner.get(&format!("/jobs/{id}/logs")).await.expect(200)["data"].clone();
    assert_eq!(logs().await, json!({ "lines": [], "dropped": 0 }));
    let claimed = app.claim(acme.id, &[&id]).await.remove(0);
    let mut events = Events::of(&acme.owner, &id).await;
    let first = events.next().await.unwrap();
    assert_eq!((&first["state"], &first["progress"]), (&json!("running"), &Value::Null));
    for n in [1, 2] {
        let line = LogLine { at: "2026-01-31T12:00:00Z".parse().unwrap(), attempt: 1, message: format!("step {n}") };
        app.report(&claimed, json!({ "done": n }), vec![line]).await;
        let event = events.next().await.unwrap();
        assert_eq!((&event["state"], &event["progress"]), (&json!("running"), &json!({ "done": n })));
    }
    let line = |n: u8| json!({ "at": "2026-01-31T12:00:00.000Z", "attempt": 1, "message": format!("step {n}") });
    assert_eq!(logs().await, json!({ "lines": [line(1), line(2)], "dropped": 0 }));
    app.end(&claimed, Ending::Succeeded).await;
    let last = events.next().await.unwrap();
    assert_eq!((&last["state"], &last["progress"]), (&json!("succeeded"), &json!({ "done": 2 })));
    assert!(events.next().await.is_none());
    assert_eq!(acme.owner.get("/jobs").await.expect(200)["data"][0]["progress"], json!({ "done": 2 }));
}

#[tokio::test]
async fn a_stream_shows_nothing_more_to_whoever_may_not_see_the_job_any_more() {
    let app = TestApp::start().await;
    let acme = app.quiet_tenant("acme").await;
    let (viewer, admin) = (acme.member(Role::Viewer).await, acme.member(Role::Admin).await);
    let key = admin.post("/api-keys", json!({ "name": "x", "permissions": ["jobs:read"] })).await.expect(201);
    let key = app.bearer(key["data"]["secret"].as_str().unwrap());
    acme.owner.post("/roles", json!({ "name": "Clerk", "permissions": ["queues:read"] })).await.expect(201);

    let id = acme.owner.submit(echo()).await;
    let mut streams = Vec::new();
    for client in [&viewer, &key, &acme.owner] {
        let mut events = Events::of(client, &id).await;
        assert_eq!(events.next_state().await.unwrap(), "queued");
        streams.push(events);
    }
    acme.owner.post_empty(&format!("/users/{}/deactivate", viewer.user().await)).await.expect(200);
    acme.give_roles(&admin, json!(["Clerk"])).await.expect(200);
    app.claim(acme.id, &[&id]).await;
    assert_eq!(streams[2].next_state().await.unwrap(), "running");
    assert_eq!(streams[0].next().await, None, "a session that was ended");
    assert_eq!(streams[1].next().await, None, "a key whose maker may not see jobs any more");
}

#[tokio::test]
async fn a_stream_shows_nothing_more_of_a_tenant_that_was_suspended() {
    let app = TestApp::start().await;
    let staff = admin::staff(&app, "olga@millwork.example").await;
    let acme = app.quiet_tenant("acme").await;
    let id = acme.owner.submit(echo()).await;
    let mut events = Events::of(&acme.owner, &id).await;
    assert_eq!(events.next_state().await.unwrap(), "queued");
    let job = app.claim(acme.id, &[&id]).await.remove(0);
    assert_eq!(events.next_state().await.unwrap(), "running");
    staff.post(&format!("/admin/tenants/{}/suspend", acme.id), json!({ "reason": "x" })).await.expect(200);
    app.report(&job, json!(1), Vec::new()).await;
    assert_eq!(events.next().await, None);
}
