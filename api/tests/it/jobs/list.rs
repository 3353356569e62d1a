//! Lists of jobs: filters and pages.

use std::collections::HashSet;
use std::time::Duration;

use chrono::{SecondsFormat, TimeDelta};
use millwork_shared::jobs::queries::Ending;
use serde_json::json;

use super::{echo, echo_with, ids};
use crate::support::{Client, TestApp};

async fn listed(client: &Client, query: &str) -> Vec<String> {
    ids(&client.get(&format!("/jobs?{query}")).await.expect(200))
}

#[tokio::test]
async fn jobs_are_filtered_by_state_kind_queue_and_tag() {
    let app = TestApp::start().await;
    let acme = app.quiet_tenant("acme").await;
    let owner = &acme.owner;
    let scheduled = owner.submit(echo_with(json!({ "delay_s": 3_600, "tags": ["vip"] }))).await;
    let queued = owner.submit(echo_with(json!({ "queue": "files", "tags": ["vip", "x"] }))).await;
    let running = owner.submit(echo()).await;
    let retrying = owner.submit(echo()).await;
    let succeeded = owner.submit(echo()).await;
    let failed = owner.submit(echo()).await;
    let cancelled = owner.submit(echo()).await;
    let call = json!({ "kind": "http.request", "payload": {"url": "https://example.com", "method": "GET"} });
    let call = owner.submit(call).await;
    for (id, then) in [
        (&running, None),
        (&retrying, Some(None)),
        (&succeeded, Some(Some(Ending::Succeeded))),
        (&failed, Some(Some(Ending::Failed))),
    ] {
        let claimed = app.claim(acme.id, &[id]).await.remove(0);
        match then {
            None => {}
            Some(None) => app.put_off(&claimed, Duration::from_secs(60)).await,
            Some(Some(ending)) => app.end(&claimed, ending).await,
        }
    }
    owner.post_empty(&format!("/jobs/{cancelled}/cancel")).await.expect(202);

    for (query, expected) in [
        ("state=scheduled", vec![&scheduled]),
        ("state=queued", vec![&call, &queued]),
        ("state=running", vec![&running]),
        ("state=retrying", vec![&retrying]),
        ("state=succeeded", vec![&succeeded]),
        ("state=failed", vec![&failed]),
        ("state=cancelled", vec![&cancelled]),
        ("kind=http.request", vec![&call]),
        ("kind=echo&state=queued", vec![&queued]),
        ("kind=nope", vec![]),
        ("queue=files", vec![&queued]),
        ("queue=webhooks", vec![&call]),
        ("tag=vip", vec![&queued, &scheduled]),
        ("tag=vip&state=scheduled", vec![&scheduled]),
        ("tag=vi", vec![]),
        ("tag=%27%3B--", vec![]),
        ("limit=2", vec![&call, &cancelled]),
    ] {
        assert_eq!(listed(owner, query).await.iter().collect::<Vec<_>>(), expected, "{query}");
    }
    let states: HashSet<_> = owner.get("/jobs").await.expect(200)["data"]
        .as_array()
        .unwrap()
        .iter()
        .map(|job| (job["id"].as_str().unwrap().to_owned(), job["state"].as_str().unwrap().to_owned()))
        .collect();
    assert!(states.contains(&(retrying.clone(), "retrying".to_owned())), "{states:?}");
    assert_eq!(states.len(), 8);
    app.advance(Duration::from_secs(61)).await;
    assert!(listed(owner, "state=queued").await.contains(&retrying), "its time has come");
}

#[tokio::test]
async fn jobs_are_filtered_by_when_they_were_made() {
    let app = TestApp::start().await;
    let owner = app.quiet_tenant("acme").await.owner;
    let first = owner.submit(echo()).await;
    tokio::time::sleep(Duration::from_millis(5)).await;
    let second = owner.post("/jobs", echo()).await.expect(202)["data"].clone();
    let (second, at) = (second["id"].as_str().unwrap().to_owned(), second["created_at"].as_str().unwrap().to_owned());
    let later = (at.parse::<chrono::DateTime<chrono::Utc>>().unwrap() + TimeDelta::milliseconds(1))
        .to_rfc3339_opts(SecondsFormat::Millis, true);
    for (query, expected) in [
        (format!("from={at}"), vec![&second]),
        (format!("to={at}"), vec![&first]),
        (format!("from={later}"), vec![]),
        (format!("to={later}"), vec![&second, &first]),
        (format!("from={at}&to={later}"), vec![&second]),
        (format!("from={later}&to={at}"), vec![]),
        ("from=1960-01-01T00:00:00Z".to_owned(), vec![&second, &first]),
        ("from=0001-01-01T00:00:00Z&to=9999-12-31T23:59:59Z".to_owned(), vec![&second, &first]),
        ("to=1960-01-01T00:00:00Z".to_owned(), vec![]),
        ("from=9999-12-31T23:59:59Z".to_owned(), vec![]),
    ] {
        assert_eq!(listed(&owner, &query).await.iter().collect::<Vec<_>>(), expected, "{query}");
    }
}

#[tokio::test]
async fn pages_have_neither_gaps_nor_repeats_while_jobs_are_submitted() {
    let app = TestApp::start().await;
    let (owner, other) = (app.quiet_tenant("acme").await.owner, app.quiet_tenant("other").await.owner);
    let mut expected = Vec::new();
    for n in 0..25 {
        let tags = if n % 2 == 0 { json!(["even"]) } else { json!([]) };
        expected.push(owner.submit(echo_with(json!({ "tags": tags }))).await);
        other.submit(echo()).await;
    }
    expected.reverse();
    let even: Vec<_> = expected.iter().step_by(2).cloned().collect();
    for (filter, expected) in [("", expected), ("&tag=even", even)] {
        let (mut seen, mut cursor) = (Vec::new(), String::new());
        loop {
            let page = owner.get(&format!("/jobs?limit=4{filter}{cursor}")).await.expect(200);
            assert_eq!(page["meta"]["limit"], 4);
            seen.extend(ids(&page));
            owner.submit(echo_with(json!({ "tags": ["even"] }))).await;
            match page["meta"]["next_cursor"].as_str() {
                Some(next) => cursor = format!("&cursor={next}"),
                None => break,
            }
        }
        if filter.is_empty() {
            assert_eq!(seen, expected);
        } else {
            assert!(seen.ends_with(&expected), "what came meanwhile is before it");
        }
    }
}

#[tokio::test]
async fn a_page_that_is_just_full_is_the_last() {
    let app = TestApp::start().await;
    let owner = app.quiet_tenant("acme").await.owner;
    assert_eq!(owner.get("/jobs").await.expect(200), json!({ "data": [], "meta": {"next_cursor": null, "limit": 50} }));
    for _ in 0..3 {
        owner.submit(echo()).await;
    }
    let page = owner.get("/jobs?limit=3").await.expect(200);
    assert_eq!((ids(&page).len(), &page["meta"]["next_cursor"]), (3, &json!(null)));
    assert!(owner.get("/jobs?limit=2").await.expect(200)["meta"]["next_cursor"].is_string());
}

#[tokio::test]
async fn a_filter_that_is_none_is_refused() {
    let app = TestApp::start().await;
    let owner = app.quiet_tenant("acme").await.owner;
    for query in [
        "state=done",
        "state=",
        "state=Queued",
        "queue=fast",
        "from=yesterday",
        "to=1700000000",
        "from=2026-02-30T00:00:00Z",
        "limit=0",
        "limit=101",
    ] {
        let reply = owner.get(&format!("/jobs?{query}")).await;
        assert_eq!(reply.status, 400, "{query} {}", reply.text());
        reply.problem(400, "parameter_invalid");
    }
    owner.get(&format!("/jobs?tag={}", "x".repeat(256))).await.problem(400, "parameter_invalid");
    for query in ["tag=%00", "kind=a%00"] {
        owner.get(&format!("/jobs?{query}")).await.problem(400, "malformed");
    }
    owner.get("/jobs?cursor=x").await.problem(400, "invalid_cursor");
}
