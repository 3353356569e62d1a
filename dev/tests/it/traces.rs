//! Traces, as a collector on loopback receives them from real processes.

use std::time::{Duration, Instant};

use millwork_dev::http::{Received, Receiver};
use millwork_dev::services::ports;
use serde_json::json;

use crate::support::{Cluster, Collector, MailServer, Member, SOON, Span, echo, wait_for};

const SERVER: i32 = 2;
const CLIENT: i32 = 3;
const CONSUMER: i32 = 5;

/// A trace that somebody else began.
const CALLERS: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

/// A Millwork that exports to `collector`, and a worker of it.
fn traced(collector: &Collector, more: &[(&str, &str)]) -> (Cluster, Member) {
    let variables = collector.variables();
    let variables: Vec<_> = variables.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let cluster = Cluster::start_with(&[&variables, more].concat());
    let worker = cluster.spawn_worker();
    (cluster, worker)
}

fn call(receiver: &Receiver) -> serde_json::Value {
    json!({"kind": "http.request", "payload": {"url": receiver.url(), "method": "PUT"}})
}

fn next(receiver: &Receiver) -> Received {
    receiver.next(SOON).unwrap().unwrap()
}

/// `child` follows from `parent`, in its trace.
#[track_caller]
fn assert_follows(child: &Span, parent: &Span) {
    assert_eq!((&child.trace, &child.parent), (&parent.trace, &parent.id), "{child:#?}\nfollows from\n{parent:#?}");
}

#[test]
fn a_callers_trace_goes_through_request_queue_and_job_to_the_call() {
    let (collector, receiver) = (Collector::start(), Receiver::start().unwrap());
    let (cluster, _worker) = traced(&collector, &[]);
    let headers = [("traceparent", CALLERS), ("x-request-id", "order-7")];
    let job = cluster.client.post_with("/jobs", &call(&receiver), &headers);
    let received = next(&receiver);

    let of_trace = |kind: i32| move |span: &Span| span.trace == "0af7651916cd43dd8448eb211c80319c" && span.kind == kind;
    let request = collector.the("the request", of_trace(SERVER));
    assert_eq!(request.parent, "b7ad6b7169203331");
    assert_eq!((request.service.as_str(), request.name.as_str()), ("millwork-api", "POST /api/v1/jobs"));
    assert_eq!(request.attribute("http.request.method"), "POST");
    assert_eq!(request.attribute("http.route"), "/api/v1/jobs");
    assert_eq!(request.attribute("http.response.status_code"), "202");
    assert_eq!(request.attribute("request.id"), "order-7");

    let run = collector.the("the job", of_trace(CONSUMER));
    assert_follows(&run, &request);
    assert_eq!((run.service.as_str(), run.name.as_str()), ("millwork-worker", "job http.request"));
    assert_eq!(run.attribute("job.id"), job["id"].as_str().unwrap());
    assert_eq!(run.attribute("tenant.id").len(), 36);
    for (name, value) in [
        ("job.kind", "http.request"),
        ("job.attempt", "1"),
        ("queue", "webhooks"),
        ("request.id", "order-7"),
        ("job.status", "succeeded"),
    ] {
        assert_eq!(run.attribute(name), value, "{run:#?}");
    }

    let called = collector.the("the call", of_trace(CLIENT));
    assert_follows(&called, &run);
    assert_eq!((called.service.as_str(), called.name.as_str()), ("millwork-worker", "PUT"));
    assert_eq!(called.attribute("http.request.method"), "PUT");
    assert_eq!(called.attribute("server.address"), "127.0.0.1");
    assert!(receiver.url().contains(called.attribute("server.port")));
    assert_eq!(called.attribute("http.response.status_code"), "200");
    assert_eq!(
        received.header("traceparent"),
        Some(&*called.traceparent()),
        "the third party hears of the call's span"
    );
    for span in [&request, &run, &called] {
        assert!(!span.failed && span.events == 0, "{span:#?}");
        assert!(!span.attributes.values().any(|value| value.contains("/hooks")), "no path of a third party: {span:#?}");
    }
}

#[test]
fn a_request_without_a_trace_begins_one_that_deliveries_mails_and_followers_stay_in() {
    let (collector, receiver) = (Collector::start(), Receiver::start().unwrap());
    let port = ports::free().unwrap();
    let (_mails, mail_url) = (MailServer::start_at(port), format!("smtp://127.0.0.1:{port}"));
    let (cluster, _worker) = traced(&collector, &[("MAIL_URL", &mail_url), ("MAIL_FROM", "millwork@example.com")]);
    let client = &cluster.client;
    let request = |route: &str| {
        let name = format!("POST /api/v1{route}");
        let request = collector.the(&name, |span| span.name == name);
        assert!(request.parent.is_empty() && request.kind == SERVER, "{request:#?}");
        request
    };
    let runs = |count, request: &Span| {
        let runs = collector.wait_for(count, "jobs", |span| span.kind == CONSUMER && span.trace == request.trace);
        runs.iter().for_each(|run| assert_follows(run, request));
        runs
    };

    // The mails of the registration.
    let registration = request("/auth/register");
    for run in runs(2, &registration) {
        let mail = collector.the("its mail", |span| span.parent == run.id);
        assert_eq!((mail.kind, mail.name.as_str()), (CLIENT, "mail.send"));
        assert_eq!(
            (mail.attribute("server.address"), mail.attribute("server.port")),
            ("127.0.0.1", &*port.to_string())
        );
        assert_eq!(mail.attribute("smtp.response.status_code"), "250");
    }

    // An event and its delivery.
    let endpoint = json!({"url": receiver.url(), "event_types": ["order.*"]});
    client.post_with("/webhooks", &endpoint, &[]);
    client.post_with("/events", &json!({"type": "order.created", "payload": {"n": 1}}), &[]);
    let delivered = next(&receiver);
    let runs_of_event = runs(1, &request("/events"));
    let called = collector.the("the delivery", |span| span.parent == runs_of_event[0].id);
    assert_eq!((called.kind, called.name.as_str()), (CLIENT, "POST"));
    assert_eq!(delivered.header("traceparent"), Some(&*called.traceparent()));

    // A job that waits for another, and the one that ends their batch.
    let follower = json!({"kind": "echo", "payload": 2, "after": ["first"]});
    let first = json!({"kind": "echo", "payload": 1, "ref": "first"});
    let batch = json!({"jobs": [first, follower], "batch": {"on_complete": {"kind": "echo", "payload": 3}}});
    client.post_with("/jobs/batch", &batch, &[]);
    let runs_of_batch = runs(3, &request("/jobs/batch"));
    assert!(runs_of_batch.iter().all(|run| run.name == "job echo"), "{runs_of_batch:#?}");

    // Nothing of libraries, of the exporter, of health checks.
    let known = ["job ", "mail.send", "POST", "GET /api/v1/"];
    for span in collector.spans() {
        assert!(known.iter().any(|name| span.name.starts_with(name)), "{span:#?}");
    }
}

#[test]
fn what_fails_is_marked_in_its_trace_attempt_by_attempt() {
    let collector = Collector::start();
    let (cluster, _worker) = traced(&collector, &[]);
    let nobody = format!("http://127.0.0.1:{}/secret-path?token=secret", ports::free().unwrap());
    let body = json!({"kind": "http.request", "payload": {"url": nobody, "method": "GET"}, "max_attempts": 2});
    cluster.client.post_with("/jobs", &body, &[("traceparent", CALLERS)]);
    let of_trace = |kind: i32| move |span: &Span| span.trace == "0af7651916cd43dd8448eb211c80319c" && span.kind == kind;
    let runs = collector.wait_for(2, "attempts", of_trace(CONSUMER));
    let said: Vec<_> = runs.iter().map(|run| (run.attribute("job.attempt"), run.attribute("job.status"))).collect();
    assert_eq!(said, [("1", "retried"), ("2", "failed")]);
    let calls = collector.wait_for(2, "calls", of_trace(CLIENT));
    for (run, called) in runs.iter().zip(&calls) {
        assert_follows(called, run);
        for span in [run, called] {
            assert!(span.failed && span.attribute("error.type") == "connect", "{span:#?}");
            assert!(!format!("{span:?}").contains("secret"), "{span:#?}");
        }
    }
}

#[test]
fn a_trace_that_its_caller_does_not_sample_is_passed_on_and_not_exported() {
    let (collector, receiver) = (Collector::start(), Receiver::start().unwrap());
    let (cluster, worker) = traced(&collector, &[("OTEL_EXPORTER_OTLP_HEADERS", "authorization=Bearer%20x")]);
    let unsampled = CALLERS.replace("-01", "-00");
    cluster.client.post_with("/jobs", &call(&receiver), &[("traceparent", &unsampled)]);
    let named = next(&receiver).header("traceparent").unwrap().to_owned();
    assert!(named.starts_with(&unsampled[..36]) && named.ends_with("-00") && named != unsampled, "{named}");
    assert!(worker.stop(SOON).unwrap(), "it stops by itself, and has exported everything then");
    assert!(!collector.spans().iter().any(|span| unsampled.contains(&span.trace)), "{:#?}", collector.spans());
    assert_eq!(collector.authorization().as_deref(), Some("Bearer x"));
}

#[test]
fn what_was_not_exported_yet_is_when_the_process_stops() {
    let (collector, receiver) = (Collector::start(), Receiver::start().unwrap());
    let (cluster, worker) = traced(&collector, &[("OTEL_BSP_SCHEDULE_DELAY", "600000")]);
    cluster.client.post_with("/jobs", &call(&receiver), &[("traceparent", CALLERS)]);
    next(&receiver);
    cluster.wait_until_all_ended(SOON);
    assert_eq!(collector.exports(), 0);
    assert!(worker.stop(SOON).unwrap());
    assert!(collector.spans().iter().any(|span| span.kind == CONSUMER && CALLERS.contains(&span.trace)));
}

#[test]
fn a_collector_that_is_down_or_hangs_hinders_nothing() {
    let hanging = Collector::that_hangs();
    let down = format!("http://127.0.0.1:{}", ports::free().unwrap());
    for endpoint in [&*down, &*hanging.variables()[0].1] {
        let variables = [("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint), ("OTEL_BSP_SCHEDULE_DELAY", "10")];
        let cluster = Cluster::start_with(&variables);
        let worker = cluster.spawn_worker();
        let began = Instant::now();
        // More than the exporter's queue holds.
        for _ in 0..3 {
            cluster.client.submit_many(&echo("many"), 1_000);
        }
        cluster.wait_until_all_ended(SOON);
        let took = began.elapsed();
        assert!(took < Duration::from_secs(20), "3,000 jobs took {took:?} with the collector at {endpoint}");
        if endpoint == down {
            wait_for("a word about it", SOON, || worker.said("traces cannot be exported; they are dropped"));
        }
        let said = worker.lines().filter(|line| line["message"] == "traces cannot be exported; they are dropped");
        assert!(said.count() <= 1, "once a minute at most:\n{}", worker.last_lines(50));
        let began = Instant::now();
        assert!(worker.stop(SOON).unwrap());
        assert!(began.elapsed() < Duration::from_secs(10), "its stop took {:?}", began.elapsed());
    }
}
