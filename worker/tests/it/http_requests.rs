use std::sync::Arc;

use http::HeaderMap;
use millwork_shared::http_requests::jobs::HttpRequest;
use millwork_shared::infra::ids::{JobId, WebhookId};
use millwork_shared::jobs::{Cause, Outcome};
use millwork_shared::testing::{HttpReceiver, Reply};
use millwork_worker::http_requests::call::call;
use millwork_worker::runtime::Run;
use serde_json::{Value, json};

use crate::support::{World, done, failed, retried};

fn request(payload: Value) -> HttpRequest {
    serde_json::from_str(&payload.to_string()).unwrap()
}

async fn attempt(world: &World, payload: Value) -> (Outcome, Value) {
    attempt_in(world, payload, world.run(JobId::generate())).await
}

async fn attempt_in(world: &World, payload: Value, run: Run) -> (Outcome, Value) {
    let run = Arc::new(run);
    let outcome = call(request(payload), run.clone(), world.ctx.clone()).await.unwrap();
    (outcome, run.noted().unwrap_or_default())
}

#[tokio::test]
async fn a_call_sends_what_was_asked_for_and_shows_the_answer() {
    let world = World::create().await;
    let receiver = HttpReceiver::answering([Reply::Full {
        status: 201,
        headers: vec![("x-a".into(), "1".into()), ("x-a".into(), "2".into())],
        body: "grün".into(),
    }])
    .await;
    let mut run = world.run(JobId::generate());
    run.cause = Cause { request_id: Some("req-1".into()), traceparent: Some("00-a-b-01".into()) };
    let payload = json!({
        "url": receiver.url("/a?b=c"), "method": "PUT", "headers": {"X-Key": "k", "Accept": "text/plain"},
        "body": {"n": 1.5},
    });
    let (outcome, detail) = attempt_in(&world, payload, run).await;
    let result = done(outcome);
    assert_eq!(
        (&result["status"], &result["body"], &result["body_truncated"]),
        (&json!(201), &json!("grün"), &json!(false))
    );
    assert_eq!(result["headers"]["x-a"], "1, 2");
    assert_eq!((&detail["status"], &detail["error_class"]), (&json!(201), &json!(null)));

    let received = &receiver.requests()[0];
    assert_eq!((received.method.as_str(), received.path.as_str()), ("PUT", "/a?b=c"));
    assert_eq!((received.header("x-key"), received.header("accept")), (Some("k"), Some("text/plain")));
    assert_eq!((received.header("traceparent"), received.header("x-request-id")), (Some("00-a-b-01"), Some("req-1")));
    assert_eq!((received.header("content-type"), received.json()), (Some("application/json"), json!({"n": 1.5})));
    assert_eq!(received.header("webhook-signature"), None);
}

#[tokio::test]
async fn a_string_is_sent_as_it_is_and_the_clients_own_headers_win() {
    let world = World::create().await;
    let receiver = HttpReceiver::start().await;
    let url = receiver.url("/");
    attempt(&world, json!({"url": url, "method": "POST", "body": "a \"b\""})).await;
    let xml = json!({"Content-Type": "text/xml", "User-Agent": "me", "traceparent": "x"});
    attempt(&world, json!({"url": url, "method": "POST", "body": "<a/>", "headers": xml})).await;
    attempt(&world, json!({"url": url, "method": "GET"})).await;
    let requests = receiver.requests();
    assert_eq!(requests[0].body, b"a \"b\"");
    assert_eq!(requests[0].header("content-type"), Some("text/plain; charset=utf-8"));
    assert_eq!((requests[1].header("content-type"), requests[1].header("user-agent")), (Some("text/xml"), Some("me")));
    assert_eq!(
        (requests[2].method.as_str(), requests[2].body.len(), requests[2].header("content-type")),
        ("GET", 0, None)
    );
}

#[tokio::test]
async fn a_signed_call_verifies_and_keeps_its_id_when_it_runs_twice() {
    let world = World::create().await;
    let receiver = HttpReceiver::start().await;
    let endpoint = world.endpoint("https://example.com/".into()).await;
    let payload = json!({"url": receiver.url("/"), "method": "POST", "body": {"a": 1}, "sign": endpoint.id});
    let job = JobId::generate();
    for _ in 0..2 {
        attempt_in(&world, payload.clone(), world.run(job)).await;
    }
    for received in receiver.requests() {
        assert_eq!(received.header("webhook-id"), Some(job.to_string().as_str()));
        let headers: HeaderMap =
            received.headers.iter().map(|(n, v)| (n.parse().unwrap(), v.parse().unwrap())).collect();
        standardwebhooks::Webhook::new(&endpoint.secret).unwrap().verify(&received.body, &headers).unwrap();
    }
    assert_eq!(receiver.hits(), 2);
}

#[tokio::test]
async fn a_call_is_not_signed_for_a_webhook_that_is_not_the_tenants() {
    let world = World::create().await;
    let receiver = HttpReceiver::start().await;
    let endpoint = world.endpoint("https://example.com/".into()).await;
    let payload = |id: WebhookId| json!({"url": receiver.url("/"), "method": "POST", "sign": id});
    let stranger = Run::for_test(world.db.tenant("Acme").await, JobId::generate());
    assert_eq!(failed(attempt_in(&world, payload(endpoint.id), stranger).await.0).code, "webhook_unknown");
    assert_eq!(failed(attempt(&world, payload(WebhookId::generate())).await.0).code, "webhook_unknown");
    assert_eq!(receiver.hits(), 0);
}

#[tokio::test]
async fn a_status_says_whether_to_try_again() {
    let world = World::create().await;
    for (status, again) in [
        (200, None),
        (204, None),
        (301, Some(false)),
        (307, Some(false)),
        (400, Some(false)),
        (401, Some(false)),
        (404, Some(false)),
        (410, Some(false)),
        (408, Some(true)),
        (425, Some(true)),
        (429, Some(true)),
        (500, Some(true)),
        (502, Some(true)),
        (503, Some(true)),
        (599, Some(true)),
    ] {
        let receiver = HttpReceiver::answering([status]).await;
        let (outcome, _) = attempt(&world, json!({"url": receiver.url("/"), "method": "GET"})).await;
        match (outcome, again) {
            (Outcome::Done(_), None) => {}
            (Outcome::Retry { error, after: None }, Some(true)) => {
                assert_eq!(error.message, format!("answered {status}"))
            }
            (Outcome::Fail(error), Some(false)) => assert_eq!(error.code, "http_status"),
            (outcome, _) => panic!("{status}: {outcome:?}"),
        }
    }
}

#[tokio::test]
async fn the_log_says_what_went_wrong_and_nothing_of_a_good_call() {
    let world = World::create().await;
    let receiver = HttpReceiver::answering([503, 200]).await;
    let payload = |url: &str| serde_json::from_value(json!({"url": url, "method": "GET"})).unwrap();
    let gone = HttpReceiver::start().await.url("/"); // closed by now
    for (url, expected) in
        [(receiver.url("/"), Some("answered 503")), (receiver.url("/"), None), (gone, Some("no answer"))]
    {
        let run = Arc::new(world.run(JobId::generate()));
        call(payload(&url), run.clone(), world.ctx.clone()).await.unwrap();
        let line = run.reported().await.map(|report| report.lines[0].message.clone());
        assert_eq!(line.is_some(), expected.is_some(), "{line:?}");
        assert!(expected.is_none_or(|expected| line.unwrap().starts_with(expected)));
    }
}

#[tokio::test]
async fn retry_after_is_honoured_within_bounds() {
    let world = World::create().await;
    for (text, seconds) in [("30", Some(30)), ("0", Some(1)), ("999999", Some(86_400)), ("whenever", None)] {
        let receiver = HttpReceiver::answering([Reply::with_headers(503, &[("retry-after", text)])]).await;
        let (outcome, _) = attempt(&world, json!({"url": receiver.url("/"), "method": "GET"})).await;
        assert_eq!(retried(outcome).1, seconds, "{text}");
    }
}

#[tokio::test]
async fn the_network_may_recover_but_a_bad_target_does_not() {
    let world = World::create_with("127.0.0.1/32".parse().unwrap()).await;
    let receiver = HttpReceiver::answering([Reply::Cut]).await;
    let (outcome, detail) = attempt(&world, json!({"url": receiver.url("/"), "method": "GET"})).await;
    assert_eq!((retried(outcome).0.code.as_str(), &detail["error_class"]), ("reset", &json!("reset")));
    let (outcome, _) = attempt(&world, json!({"url": "http://127.0.0.2/", "method": "GET"})).await;
    assert_eq!(failed(outcome).code, "refused_address");
    let (outcome, _) = attempt(&world, json!({"url": "mailto:a@b.c", "method": "GET"})).await;
    assert_eq!(failed(outcome).code, "invalid_url");
}

#[tokio::test]
async fn a_handler_ends_before_the_runtime_ends_it() {
    let world = World::create().await;
    let receiver = HttpReceiver::answering([Reply::Hang]).await;
    let mut run = world.run(JobId::generate());
    run.deadline = tokio::time::Instant::now() + std::time::Duration::from_millis(600);
    let deadline = run.deadline;
    let (outcome, _) = attempt_in(&world, json!({"url": receiver.url("/"), "method": "GET"}), run).await;
    assert_eq!(retried(outcome).0.code, "timeout");
    assert!(tokio::time::Instant::now() < deadline);
}

#[tokio::test]
async fn a_large_answer_is_cut_and_said_to_be() {
    let world = World::create().await;
    let receiver = HttpReceiver::answering([Reply::Huge(1 << 20)]).await;
    let (outcome, _) = attempt(&world, json!({"url": receiver.url("/"), "method": "GET"})).await;
    let result = done(outcome);
    assert_eq!((result["body"].as_str().unwrap().len(), &result["body_truncated"]), (65_536, &json!(true)));
}
