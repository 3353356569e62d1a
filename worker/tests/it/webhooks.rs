use std::sync::Arc;
use std::time::Duration;

use http::HeaderMap;
use millwork_shared::Error;
use millwork_shared::egress::AllowedNets;
use millwork_shared::infra::ids::{EventId, JobId, WebhookId};
use millwork_shared::jobs::{Cause, Outcome};
use millwork_shared::testing::{HttpReceiver, Received, Reply};
use millwork_shared::webhooks::jobs::DeliverWebhook;
use millwork_shared::webhooks::queries::{self, Change};
use millwork_shared::webhooks::{generate_secret, secret_context};
use millwork_worker::runtime::Run;
use millwork_worker::webhooks::deliver::deliver;
use serde_json::json;

use crate::support::{World, done, failed, retried};

/// What the published verifier says of a request.
fn verified(received: &Received, secret: &str) -> bool {
    let headers: HeaderMap = received.headers.iter().map(|(n, v)| (n.parse().unwrap(), v.parse().unwrap())).collect();
    standardwebhooks::Webhook::new(secret).unwrap().verify(&received.body, &headers).is_ok()
}

async fn attempt(world: &World, job: &DeliverWebhook, run: Run) -> (Outcome, serde_json::Value) {
    let run = Arc::new(run);
    let outcome = deliver(job.clone(), run.clone(), world.ctx.clone()).await.unwrap();
    (outcome, run.noted().unwrap_or_default())
}

#[tokio::test]
async fn a_delivery_reaches_its_receiver_and_verifies() {
    let world = World::create().await;
    let receiver = HttpReceiver::answering([Reply::Full {
        status: 202,
        headers: vec![("x-trace".into(), "abc".into())],
        body: b"thanks".to_vec(),
    }])
    .await;
    let endpoint = world.endpoint_with(receiver.url("/hook"), &[("x-api-key", "k1")]).await;
    let payload = r#"{"amount": 1.50, "note": "ünïcode"}"#;
    let (job, mut run) = world.event(endpoint.id, payload).await;
    let traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    run.cause = Cause { request_id: Some("req-1".into()), traceparent: Some(traceparent.into()) };

    let (outcome, detail) = attempt(&world, &job, run).await;
    assert_eq!(done(outcome), json!({"status": 202}));

    let received = &receiver.requests()[0];
    assert!(verified(received, &endpoint.secret));
    assert!(!verified(received, generate_secret().expose()));
    let body = String::from_utf8(received.body.clone()).unwrap();
    assert!(body.ends_with(&format!(r#","data":{payload}}}"#)), "{body}");
    assert_eq!(received.json()["type"], "order.created");
    chrono::DateTime::parse_from_rfc3339(received.json()["timestamp"].as_str().unwrap()).unwrap();
    assert_eq!(received.header("webhook-id"), Some(job.event.to_string().as_str()));
    assert_eq!(received.header("x-api-key"), Some("k1"));
    assert_eq!(received.header("content-type"), Some("application/json"));
    assert!(received.header("user-agent").unwrap().starts_with("Millwork/"));
    assert_eq!(received.header("traceparent"), Some(traceparent));

    assert_eq!((&detail["status"], &detail["body"]), (&json!(202), &json!("thanks")));
    assert_eq!((&detail["headers"]["x-trace"], &detail["error_class"]), (&json!("abc"), &json!(null)));
    assert!(detail["latency_ms"].is_u64());
}

#[tokio::test]
async fn a_delivery_that_runs_twice_is_the_same_message_twice() {
    let world = World::create().await;
    let receiver = HttpReceiver::start().await;
    let endpoint = world.endpoint(receiver.url("/")).await;
    let (job, run) = world.event(endpoint.id, "{}").await;
    let again = world.run(run.job);
    attempt(&world, &job, run).await;
    attempt(&world, &job, again).await;
    let [first, second] = receiver.requests().try_into().unwrap();
    assert_eq!((first.header("webhook-id"), &first.body), (second.header("webhook-id"), &second.body));
    assert!(verified(&first, &endpoint.secret) && verified(&second, &endpoint.secret));
}

#[tokio::test]
async fn during_a_rotation_the_old_secret_verifies_too_until_its_time_is_over() {
    let world = World::create().await;
    let receiver = HttpReceiver::start().await;
    let endpoint = world.endpoint(receiver.url("/")).await;
    let fresh = generate_secret().expose().clone();
    let sealed = world.keys.seal(&secret_context(endpoint.id), fresh.as_bytes()).unwrap();
    let mut tx = world.db.db.tenant(world.tenant).await.unwrap();
    queries::rotate_secret(&mut tx, endpoint.id, &sealed, Duration::from_secs(3600)).await.unwrap();
    tx.commit().await.unwrap();

    let (job, run) = world.event(endpoint.id, "{}").await;
    attempt(&world, &job, run).await;
    let received = receiver.requests().pop().unwrap();
    assert!(verified(&received, &endpoint.secret) && verified(&received, &fresh));

    world.db.advance(Duration::from_secs(3601)).await;
    let (job, run) = world.event(endpoint.id, "{}").await;
    attempt(&world, &job, run).await;
    let mut received = receiver.requests().pop().unwrap();
    // The published verifier reads the machine's clock, which this test's clock has left behind.
    let signatures = received.header("webhook-signature").unwrap();
    assert_eq!(signatures.split(' ').count(), 1, "{signatures}");
    let now: i64 = received.header("webhook-timestamp").unwrap().parse().unwrap();
    let key = millwork_worker::webhooks::verify::VerifyingKey::parse(&fresh).unwrap();
    let body = std::mem::take(&mut received.body);
    assert_eq!(millwork_worker::webhooks::verify::verify(&key, &received.headers, &body, now), Ok(()));
}

#[tokio::test]
async fn a_refused_delivery_follows_the_schedule_to_its_end() {
    let world = World::create().await;
    let receiver = HttpReceiver::answering([Reply::with_body(503, vec![b'x'; 10_000])]).await;
    let endpoint = world.endpoint(receiver.url("/")).await;
    let (job, run) = world.event(endpoint.id, "{}").await;
    let job_id = run.job;

    let (outcome, detail) = attempt(&world, &job, run).await;
    let (error, after) = retried(outcome);
    assert_eq!((error.code.as_str(), error.message.as_str()), ("http_status", "answered 503"));
    assert!((10..=12).contains(&after.unwrap()));
    assert_eq!((&detail["status"], &detail["error_class"]), (&json!(503), &json!("http_status")));
    assert_eq!(detail["body"].as_str().unwrap().len(), 4096);

    let nth = |attempt, max_attempts| {
        let mut run = world.run(job_id);
        (run.attempt, run.max_attempts) = (attempt, max_attempts);
        run
    };
    assert!((100..=120).contains(&retried(attempt(&world, &job, nth(2, 100)).await.0).1.unwrap()));
    assert_eq!(failed(attempt(&world, &job, nth(3, 100)).await.0).code, "http_status");

    // What `retry_now` gives a failed job: as many attempts again, counted on.
    assert!((10..=12).contains(&retried(attempt(&world, &job, nth(4, 103)).await.0).1.unwrap()));
    assert_eq!(receiver.hits(), 4);
}

#[tokio::test]
async fn retry_after_is_honoured_as_seconds_and_as_a_date() {
    let world = World::create().await;
    let date = (world.db.clock.now() + chrono::TimeDelta::seconds(500)).format("%a, %d %b %Y %H:%M:%S GMT");
    let receiver = HttpReceiver::answering([
        Reply::with_headers(429, &[("Retry-After", "300")]),
        Reply::with_headers(503, &[("Retry-After", &date.to_string())]),
    ])
    .await;
    let endpoint = world.endpoint(receiver.url("/")).await;
    let (job, run) = world.event(endpoint.id, "{}").await;
    let again = world.run(run.job);
    assert_eq!(retried(attempt(&world, &job, run).await.0).1, Some(300));
    assert!((495..=500).contains(&retried(attempt(&world, &job, again).await.0).1.unwrap()));
}

#[tokio::test]
async fn a_receiver_that_does_not_answer_in_time_is_tried_again() {
    let world = World::create().await;
    let receiver = HttpReceiver::answering([Reply::Hang, Reply::Cut]).await;
    let endpoint = world.endpoint(receiver.url("/")).await;
    let (job, run) = world.event(endpoint.id, "{}").await;
    let again = world.run(run.job);
    let (outcome, detail) = attempt(&world, &job, run).await;
    assert_eq!(retried(outcome).0.code, "timeout");
    assert_eq!((&detail["status"], &detail["error_class"]), (&json!(null), &json!("timeout")));
    assert!(detail["latency_ms"].as_u64().unwrap() >= 990);
    assert_eq!(retried(attempt(&world, &job, again).await.0).0.code, "reset");
}

#[tokio::test]
async fn a_redirect_is_not_followed_and_is_no_success() {
    let world = World::create().await;
    let elsewhere = HttpReceiver::start().await;
    let receiver = HttpReceiver::answering([Reply::with_headers(302, &[("location", &elsewhere.url("/"))])]).await;
    let endpoint = world.endpoint(receiver.url("/")).await;
    let (job, run) = world.event(endpoint.id, "{}").await;
    assert_eq!(retried(attempt(&world, &job, run).await.0).0.message, "answered 302");
    assert_eq!(elsewhere.hits(), 0);
}

#[tokio::test]
async fn gone_disables_the_endpoint_for_this_delivery_and_the_next() {
    let world = World::create().await;
    let receiver = HttpReceiver::answering([410]).await;
    let endpoint = world.endpoint(receiver.url("/")).await;
    let (job, run) = world.event(endpoint.id, "{}").await;
    let again = world.run(run.job);
    assert_eq!(failed(attempt(&world, &job, run).await.0).code, "http_status");
    let webhook = world.webhook(endpoint.id).await;
    assert!(webhook.disabled_at.is_some() && webhook.disabled_reason.unwrap().contains("410"));

    assert_eq!(failed(attempt(&world, &job, again).await.0).code, "webhook_disabled");
    assert_eq!(receiver.hits(), 1);

    world.change(endpoint.id, &Change { enabled: Some(true), ..Change::default() }).await;
    assert!(world.webhook(endpoint.id).await.disabled_reason.is_none());
    let (job, run) = world.event(endpoint.id, "{}").await;
    attempt(&world, &job, run).await;
    assert_eq!(receiver.hits(), 2);
}

#[tokio::test]
async fn what_no_longer_exists_fails_with_a_clear_code() {
    let world = World::create().await;
    let receiver = HttpReceiver::start().await;
    let endpoint = world.endpoint(receiver.url("/")).await;
    let gone = DeliverWebhook { event: EventId::generate(), webhook: endpoint.id };
    assert_eq!(failed(attempt(&world, &gone, world.run(JobId::generate())).await.0).code, "event_gone");

    let (job, run) = world.event(endpoint.id, "{}").await;
    let mut tx = world.db.db.tenant(world.tenant).await.unwrap();
    queries::delete(&mut tx, endpoint.id).await.unwrap();
    assert!(matches!(queries::delete(&mut tx, endpoint.id).await, Err(Error::NotFound(_))));
    tx.commit().await.unwrap();
    let again = world.run(run.job);
    assert_eq!(failed(attempt(&world, &job, run).await.0).code, "webhook_deleted");
    let unknown = DeliverWebhook { webhook: WebhookId::generate(), ..job };
    assert_eq!(failed(attempt(&world, &unknown, again).await.0).code, "webhook_deleted");
    assert_eq!(receiver.hits(), 0);
}

#[tokio::test]
async fn an_endpoint_of_another_tenant_is_absent() {
    let world = World::create().await;
    let receiver = HttpReceiver::start().await;
    let endpoint = world.endpoint(receiver.url("/")).await;
    let (job, run) = world.event(endpoint.id, "{}").await;
    let stranger = Run::for_test(world.db.tenant("Acme").await, run.job);
    assert_eq!(failed(attempt(&world, &job, stranger).await.0).code, "webhook_deleted");
    assert_eq!(receiver.hits(), 0);
}

#[tokio::test]
async fn a_private_address_is_not_called() {
    let world = World::create_with(AllowedNets::default()).await;
    let receiver = HttpReceiver::start().await;
    let endpoint = world.endpoint(receiver.url("/")).await;
    let (job, run) = world.event(endpoint.id, "{}").await;
    let (outcome, detail) = attempt(&world, &job, run).await;
    assert_eq!(retried(outcome).0.code, "refused_address");
    assert_eq!(detail["error_class"], "refused_address");
    assert_eq!(receiver.connections(), 0);
}

#[tokio::test]
async fn many_deliveries_at_once_each_get_their_own_event() {
    let world = World::create().await;
    let receiver = HttpReceiver::start().await;
    let endpoint = world.endpoint(receiver.url("/")).await;
    let mut jobs = Vec::new();
    for n in 0..300 {
        jobs.push(world.event(endpoint.id, &format!(r#"{{"n":{n}}}"#)).await);
    }
    let sent: Vec<_> =
        jobs.iter().enumerate().map(|(n, (job, _))| (job.event.to_string(), json!({ "n": n }))).collect();
    let attempts = jobs.into_iter().map(|(job, run)| deliver(job, Arc::new(run), world.ctx.clone()));
    for outcome in futures::future::join_all(attempts).await {
        done(outcome.unwrap());
    }
    let mut received: Vec<_> = receiver
        .requests()
        .iter()
        .map(|r| (r.header("webhook-id").unwrap().to_owned(), r.json()["data"].clone()))
        .collect();
    received.sort_by(|a, b| a.0.cmp(&b.0));
    let mut sent = sent;
    sent.sort_by(|a, b| a.0.cmp(&b.0));
    assert_eq!(received, sent);
}

/// Runs a delivery at its time, and says when it wants to run instead.
async fn paced(world: &World, job: &DeliverWebhook, run: Run) -> Option<Duration> {
    match attempt(world, job, run).await.0 {
        Outcome::Done(_) => None,
        Outcome::Snooze(wait) => Some(wait),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn an_endpoint_with_a_limit_gets_no_more_in_a_second_and_the_rest_in_turn() {
    let world = World::create().await;
    let receiver = HttpReceiver::start().await;
    let endpoint = world.endpoint(receiver.url("/")).await;
    world.change(endpoint.id, &Change { rate_limit_per_s: Some(Some(2)), ..Change::default() }).await;
    let mut waits = Vec::new();
    for _ in 0..12 {
        let (job, run) = world.event(endpoint.id, "{}").await;
        waits.extend(paced(&world, &job, run).await.map(|wait| wait.as_millis()));
    }
    // Seconds pass meanwhile: of those that were put off, each has half a second of its own after the one before.
    let sent = receiver.hits();
    assert!((2..=4).contains(&sent), "{sent} sent at once");
    assert_eq!(sent + waits.len(), 12);
    assert!(waits.last().unwrap() >= &3_000, "{waits:?}");
    assert!(waits.iter().all(|wait| *wait <= 6_000), "{waits:?}");
}

#[tokio::test]
async fn a_delivery_that_was_put_off_is_sent_although_others_wait_behind_it() {
    let world = World::create().await;
    let receiver = HttpReceiver::start().await;
    let endpoint = world.endpoint(receiver.url("/")).await;
    world.change(endpoint.id, &Change { rate_limit_per_s: Some(Some(1)), ..Change::default() }).await;
    let mut put_off = None;
    for _ in 0..20 {
        let (job, run) = world.event(endpoint.id, "{}").await;
        let id = run.job;
        if paced(&world, &job, run).await.is_some() {
            put_off.get_or_insert((job, id));
        }
    }
    let sent = receiver.hits();
    let (job, id) = put_off.expect("one of twenty had to wait");
    // Its time has come: due some seconds after it was made, and just now.
    world.db.clock.advance(Duration::from_secs(5));
    let mut tries = 0;
    while let Some(wait) = paced(&world, &job, world.run(id)).await {
        assert!(wait < Duration::from_millis(2_100), "only the next second, not behind the others: {wait:?}");
        tokio::time::sleep(Duration::from_millis(100)).await; // Redis' clock cannot be moved
        tries += 1;
        assert!(tries < 50);
    }
    assert_eq!(receiver.hits(), sent + 1);
}

#[tokio::test]
async fn an_endpoint_without_a_limit_asks_for_no_pace() {
    let world = World::create().await;
    let receiver = HttpReceiver::start().await;
    let endpoint = world.endpoint(receiver.url("/")).await;
    for _ in 0..20 {
        let (job, run) = world.event(endpoint.id, "{}").await;
        assert_eq!(paced(&world, &job, run).await, None);
    }
    assert_eq!(receiver.hits(), 20);
}

#[tokio::test]
async fn a_receiver_that_times_out_is_left_alone_for_a_while_and_then_tried_by_one() {
    let world = World::create().await;
    let (slow, quick) = (HttpReceiver::answering([Reply::Hang]).await, HttpReceiver::start().await);
    let endpoint = world.endpoint(slow.url("/")).await;
    let other = world.endpoint(quick.url("/")).await;
    let again = async || {
        let (job, run) = world.event(endpoint.id, "{}").await;
        let (outcome, detail) = attempt(&world, &job, run).await;
        assert_eq!(retried(outcome).0.code, detail["error_class"]);
        detail["error_class"].as_str().unwrap().to_owned()
    };
    assert_eq!(futures::future::join_all((0..5).map(|_| again())).await, ["timeout"; 5]);
    assert_eq!((again().await.as_str(), slow.hits()), ("circuit_open", 5));
    let (job, run) = world.event(other.id, "{}").await;
    done(attempt(&world, &job, run).await.0);

    // The last attempt is made all the same, and so is one that somebody asked for.
    for (attempt_no, max_attempts) in [(3, 100), (4, 103)] {
        let (job, mut run) = world.event(endpoint.id, "{}").await;
        (run.attempt, run.max_attempts) = (attempt_no, max_attempts);
        attempt(&world, &job, run).await;
    }
    assert_eq!(slow.hits(), 7);

    world.db.clock.advance(Duration::from_secs(31));
    assert_eq!((again().await.as_str(), slow.hits()), ("timeout", 8));
    assert_eq!((again().await.as_str(), slow.hits()), ("circuit_open", 8));
    world.db.clock.advance(Duration::from_secs(31));
    slow.then([500]);
    assert_eq!([again().await, again().await], ["http_status"; 2]);
}

#[tokio::test]
async fn a_receiver_that_fails_quickly_is_tried_every_time() {
    let world = World::create().await;
    let receiver = HttpReceiver::answering([Reply::Cut]).await;
    let endpoint = world.endpoint(receiver.url("/")).await;
    for _ in 0..10 {
        let (job, run) = world.event(endpoint.id, "{}").await;
        assert_eq!(retried(attempt(&world, &job, run).await.0).0.code, "reset");
    }
}
