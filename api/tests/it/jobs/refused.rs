//! What is refused, and how: every fault at once, each with its pointer.

use chrono::TimeDelta;
use reqwest::Method;
use serde_json::{Value, json};

use super::{echo, echo_with, faults};
use crate::support::{Options, Reply, TestApp};

const MISSING: &str = "0190163d-8694-739b-aea5-966c26f8ad91";

fn own(faults: &[(&str, &str)]) -> Vec<(String, String)> {
    faults.iter().map(|(pointer, code)| ((*pointer).to_owned(), (*code).to_owned())).collect()
}

#[tokio::test]
async fn a_field_that_does_not_fit_is_named() {
    let app = TestApp::start().await;
    let owner = app.quiet_tenant("acme").await.owner;
    let now = app.db.clock.now();
    let at = |by: TimeDelta| (now + by).to_rfc3339();
    let cases = [
        (json!({ "priority": 10 }), "/priority", "too_large"),
        (json!({ "priority": -1 }), "/priority", "too_small"),
        (json!({ "priority": 256 }), "/priority", "too_large"),
        (json!({ "priority": "x" }), "/priority", "type"),
        (json!({ "priority": 4.5 }), "/priority", "type"),
        (json!({ "queue": "fast" }), "/queue", "not_allowed"),
        (json!({ "queue": "maintenance" }), "/queue", "forbidden"),
        (json!({ "run_at": at(TimeDelta::minutes(-2)) }), "/run_at", "in_the_past"),
        (json!({ "run_at": "0001-01-01T00:00:00Z" }), "/run_at", "in_the_past"),
        (json!({ "run_at": at(TimeDelta::days(367)) }), "/run_at", "too_far"),
        (json!({ "run_at": "9999-12-31T23:59:59Z" }), "/run_at", "too_far"),
        (json!({ "run_at": "tomorrow" }), "/run_at", "format"),
        (json!({ "run_at": "2026-02-30T00:00:00Z" }), "/run_at", "format"),
        (json!({ "run_at": 1_800_000_000 }), "/run_at", "type"),
        (json!({ "delay_s": -1 }), "/delay_s", "too_small"),
        (json!({ "delay_s": 366 * 86_400 + 1 }), "/delay_s", "too_large"),
        (json!({ "delay_s": "10s" }), "/delay_s", "type"),
        (json!({ "max_attempts": 0 }), "/max_attempts", "too_small"),
        (json!({ "max_attempts": 101 }), "/max_attempts", "too_large"),
        (json!({ "timeout_ms": 99 }), "/timeout_ms", "too_small"),
        (json!({ "timeout_ms": 3_600_001 }), "/timeout_ms", "too_large"),
        (json!({ "unique_key": "" }), "/unique_key", "too_short"),
        (json!({ "unique_key": "ü".repeat(256) }), "/unique_key", "too_long"),
        (json!({ "unique_key": "k", "unique_for_s": 0 }), "/unique_for_s", "too_small"),
        (json!({ "unique_for_s": 60 }), "/unique_for_s", "needs_unique_key"),
        (json!({ "tags": ["a\tb"] }), "/tags/0", "invalid"),
        (json!({ "tags": ["a", ""] }), "/tags/1", "invalid"),
        (json!({ "tags": ["x".repeat(65)] }), "/tags/0", "invalid"),
        (json!({ "tags": vec!["a"; 21] }), "/tags", "too_many"),
        (json!({ "tags": "vip" }), "/tags", "type"),
        (json!({ "tags": [7] }), "/tags/0", "type"),
        (json!({ "kind": "nope" }), "/kind", "unknown"),
        (json!({ "kind": "webhook.deliver" }), "/kind", "unknown"),
        (json!({ "kind": "maintenance.clean_up" }), "/kind", "unknown"),
        (json!({ "kind": "" }), "/kind", "unknown"),
        (json!({ "kind": null }), "/kind", "type"),
        (json!({ "colour": "red" }), "/colour", "unknown_field"),
        (json!({ "a/b~c": 1 }), "/a~1b~0c", "unknown_field"),
    ];
    for (members, pointer, code) in cases {
        let reply = owner.post("/jobs", echo_with(members.clone())).await;
        assert_eq!(reply.status, 422, "{members} {}", reply.text());
        assert_eq!(faults(&reply), own(&[(pointer, code)]), "{members}");
        let reply = owner.post("/jobs/batch", json!({ "jobs": [echo(), echo_with(members.clone())] })).await;
        assert_eq!(faults(&reply), own(&[(&format!("/jobs/1{pointer}"), code)]), "{members}");
    }
    let accepted = echo_with(json!({ "unique_key": "ü".repeat(255), "tags": ["ü".repeat(64)], "max_attempts": 100,
        "timeout_ms": 100, "unique_for_s": 1, "priority": 0 }));
    owner.post("/jobs", accepted).await.expect(202);
}

#[tokio::test]
async fn both_times_are_one_too_many() {
    let app = TestApp::start().await;
    let owner = app.quiet_tenant("acme").await.owner;
    let run_at = (app.db.clock.now() + TimeDelta::hours(1)).to_rfc3339();
    let reply = owner.post("/jobs", echo_with(json!({ "run_at": run_at, "delay_s": 5 }))).await;
    assert_eq!(faults(&reply), own(&[("/delay_s", "exclusive")]));
}

#[tokio::test]
async fn every_fault_is_told_at_once_whatever_finds_it() {
    let app = TestApp::start().await;
    let owner = app.quiet_tenant("acme").await.owner;
    let everything = json!({
        "kind": "http.request", "priority": -1, "tags": ["a\nb"], "run_at": "2020-01-01T00:00:00Z", "delay_s": 5,
        "queue": "maintenance", "admin": true, "unique_for_s": 60,
        "payload": {"url": "ftp://example.com", "method": "TRACE", "headers": {"Host": "x"}, "bdoy": 1},
    });
    let told = faults(&owner.post("/jobs", everything.clone()).await);
    let pointers: Vec<_> = told.iter().map(|(pointer, _)| pointer.as_str()).collect();
    let expected = [
        "/admin",
        "/delay_s",
        "/payload/bdoy",
        "/payload/headers/Host",
        "/payload/method",
        "/payload/url",
        "/priority",
        "/queue",
        "/run_at",
        "/tags/0",
        "/unique_for_s",
    ];
    assert_eq!(pointers, expected);

    let jobs = json!({ "jobs": [everything, echo(), {"kind": "nope"}, 7, {"kind": "nope", "payload": 1}] });
    let told = faults(&owner.post("/jobs/batch", jobs).await);
    let pointers: Vec<_> = told.iter().map(|(pointer, _)| pointer.as_str()).collect();
    let first = expected.iter().map(|pointer| format!("/jobs/0{pointer}"));
    let rest = ["/jobs/2/kind", "/jobs/2/payload", "/jobs/3", "/jobs/4/kind"].map(str::to_owned);
    assert_eq!(pointers, first.chain(rest).collect::<Vec<_>>());
    assert_eq!(owner.get("/jobs").await.expect(200)["data"], json!([]));
}

#[tokio::test]
async fn missing_fields_are_named_and_other_shapes_refused() {
    let app = TestApp::start().await;
    let owner = app.quiet_tenant("acme").await.owner;
    let both = own(&[("/kind", "required"), ("/payload", "required")]);
    assert_eq!(faults(&owner.post("/jobs", json!({})).await), both);
    assert_eq!(faults(&owner.post("/jobs", json!({ "kind": "echo" })).await), own(&[("/payload", "required")]));
    for body in [json!([]), json!(null), json!("echo"), json!(7)] {
        assert_eq!(faults(&owner.post("/jobs", body).await), own(&[("", "type")]));
    }
    let twice = r#"{"kind":"echo","payload":1,"kind":"echo"}"#;
    let request = owner.request(Method::POST, "/jobs").header("content-type", "application/json").body(twice);
    assert_eq!(faults(&Reply::of(request).await), own(&[("", "invalid")]));
}

#[tokio::test]
async fn a_payload_must_fit_its_kind() {
    let nets = "127.0.0.0/8".parse().unwrap();
    let app = TestApp::start_with(Options { nets, ..Options::default() }).await;
    let owner = app.quiet_tenant("acme").await.owner;
    let call = |payload: Value| json!({ "kind": "http.request", "payload": payload });
    let get = |url: &str| call(json!({ "url": url, "method": "GET" }));
    for url in [
        "",
        "example.com",
        "/x",
        "ftp://example.com",
        "file:///etc/passwd",
        "http://10.0.0.1/",
        "http://169.254.169.254/latest/meta-data",
        "http://[::1]/",
        "http://user:pw@example.com/",
        "http://",
        "http://exa mple.com",
    ] {
        let reply = owner.post("/jobs", get(url)).await;
        assert_eq!(reply.status, 422, "{url:?} {}", reply.text());
        let told = faults(&reply);
        assert!(!told.is_empty() && told.iter().all(|(pointer, _)| pointer == "/payload/url"), "{url:?} {told:?}");
    }
    owner.post("/jobs", get("http://127.0.0.1:9/")).await.expect(202);
    for (payload, pointer) in [
        (json!({}), "/payload/method"),
        (json!([]), "/payload"),
        (json!({ "url": "https://example.com", "method": "get" }), "/payload/method"),
        (json!({ "url": "https://example.com", "method": "GET", "sign": "x" }), "/payload/sign"),
        (json!({ "url": "https://example.com", "method": "GET", "headers": {"a b": "x"} }), "/payload/headers/a b"),
        (json!({ "url": "https://example.com", "method": "GET", "headers": {"x": "a\r\nb: c"} }), "/payload/headers/x"),
    ] {
        let told = faults(&owner.post("/jobs", call(payload.clone())).await);
        assert!(told.iter().any(|(told, _)| told == pointer), "{payload} {told:?}");
    }
    let mail = json!({ "kind": "email.send", "payload": {"to": "a@example.com\r\nBcc: b@example.com", "text": "x"} });
    let told = faults(&owner.post("/jobs", mail).await);
    let pointers: Vec<_> = told.iter().map(|(pointer, _)| pointer.as_str()).collect();
    assert_eq!(pointers, ["/payload/subject", "/payload/to"]);
}

#[tokio::test]
async fn a_body_that_cannot_be_read_is_refused_before_anything_else() {
    let app = TestApp::start().await;
    let owner = app.quiet_tenant("acme").await.owner;
    let frame = |payload: &str| format!(r#"{{"kind":"echo","payload":{payload}}}"#);
    let nested = |n| frame(&format!("{}1{}", "[".repeat(n), "]".repeat(n)));
    let large = frame(&format!("\"{}\"", "x".repeat(1024 * 1024 - frame("\"\"").len() + 1)));
    assert_eq!(large.len(), 1024 * 1024 + 1);
    let json = "application/json";
    for (media_type, body, status, code) in [
        (json, large, 413, "body_too_large"),
        (json, frame("\"a\\u0000b\""), 400, "body_malformed"),
        (json, frame("{\"\\u0000\":1}"), 400, "body_malformed"),
        (json, frame("\"a\0b\""), 400, "body_malformed"),
        (json, frame("\"\\ud800\""), 400, "body_malformed"),
        (json, frame("\"\\ud800x\""), 400, "body_malformed"),
        (json, frame("{\"\\udc00\":1}"), 400, "body_malformed"),
        (json, frame("\"\\ud83d\\u0041\""), 400, "body_malformed"),
        (json, nested(64), 400, "body_too_deep"),
        (json, nested(100_000), 400, "body_too_deep"),
        (json, frame("1").replace('}', ""), 400, "body_malformed"),
        (json, format!("{} {{}}", frame("1")), 400, "body_malformed"),
        (json, frame("01"), 400, "body_malformed"),
        (json, frame("NaN"), 400, "body_malformed"),
        (json, "\u{feff}{}".to_owned(), 400, "body_malformed"),
        (json, String::new(), 400, "body_missing"),
        ("text/plain", frame("1"), 415, "media_type_unsupported"),
        ("application/x-www-form-urlencoded", "kind=echo".to_owned(), 415, "media_type_unsupported"),
    ] {
        for path in ["/jobs", "/jobs/batch"] {
            if path == "/jobs/batch" && status == 413 {
                continue; // it takes more
            }
            let start: String = body.chars().take(60).collect();
            let request = owner.request(Method::POST, path).header("content-type", media_type).body(body.clone());
            let reply = Reply::of(request).await;
            assert_eq!(reply.status, status, "{path} {media_type} {start} {}", reply.text());
            reply.problem(status, code);
        }
    }
    for fine in [frame("\"\\ud83d\\ude00\""), frame("\"\\\\ud800\""), nested(63)] {
        let request = owner.request(Method::POST, "/jobs").header("content-type", json).body(fine);
        Reply::of(request).await.expect(202);
    }
}

#[tokio::test]
async fn addresses_of_no_job_are_refused() {
    let app = TestApp::start().await;
    let owner = app.quiet_tenant("acme").await.owner;
    for (method, rest) in
        [("GET", ""), ("GET", "/attempts"), ("GET", "/events"), ("POST", "/cancel"), ("POST", "/retry")]
    {
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        let to = |id: &str| Reply::of(owner.request(method.clone(), &format!("/jobs/{id}{rest}")));
        for id in ["7", "not-a-uuid", "0190163d-8694-739b-aea5-966c26f8ad9z", "%00"] {
            let reply = to(id).await;
            assert!(reply.status == 400, "{method} {id}{rest} {}", reply.text());
            reply.expect(400);
        }
        to(MISSING).await.problem(404, "not_found");
        to("00000000-0000-0000-0000-000000000000").await.problem(404, "not_found");
        to("ffffffff-ffff-ffff-ffff-ffffffffffff").await.problem(404, "not_found");
    }
}
