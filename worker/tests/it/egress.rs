use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt;
use http::{HeaderMap, Method};
use millwork_shared::egress::AllowedNets;
use millwork_shared::testing::{HttpReceiver, Reply};
use millwork_worker::egress::{Answer, BODY_MAX_BYTES, Call, Egress, Exchange, Failure, FailureClass, Lookup};
use tokio::time::Instant;

fn loopback() -> Egress {
    Egress::new("127.0.0.0/8".parse().unwrap()).unwrap()
}

fn call_within(url: String, deadline: Duration) -> Call {
    Call {
        method: Method::POST,
        url,
        headers: HeaderMap::new(),
        body: Bytes::from_static(b"hello"),
        traceparent: None,
        deadline: Instant::now() + deadline,
    }
}

fn call(url: String) -> Call {
    call_within(url, Duration::from_secs(20))
}

async fn answer(egress: &Egress, url: String) -> Answer {
    egress.call(call(url)).await.outcome.expect("an answer")
}

async fn failure(egress: &Egress, url: String) -> Failure {
    egress.call(call(url)).await.outcome.expect_err("no answer")
}

/// A resolver that says `addresses` of every name, and counts how often it was asked.
fn says(addresses: &[&str]) -> (Lookup, Arc<AtomicUsize>) {
    let addresses: Vec<IpAddr> = addresses.iter().map(|a| a.parse().unwrap()).collect();
    let asked = Arc::new(AtomicUsize::new(0));
    let count = asked.clone();
    let lookup: Lookup = Arc::new(move |_| {
        count.fetch_add(1, Ordering::Relaxed);
        let addresses = addresses.clone();
        async move { Ok(addresses) }.boxed()
    });
    (lookup, asked)
}

#[tokio::test]
async fn an_answer_comes_back_with_status_headers_and_body() {
    let receiver = HttpReceiver::answering([Reply::Full {
        status: 202,
        headers: vec![("x-a".into(), "1".into())],
        body: b"thanks".to_vec(),
    }])
    .await;
    let answer = answer(&loopback(), receiver.url("/hook?x=1#fragment")).await;
    assert_eq!((answer.status, answer.header("x-a"), &answer.body[..]), (202, Some("1"), &b"thanks"[..]));
    assert!(!answer.truncated);
    let received = &receiver.requests()[0];
    assert_eq!((received.method.as_str(), received.path.as_str()), ("POST", "/hook?x=1"));
    assert_eq!(received.body, b"hello");
    assert!(received.header("user-agent").unwrap().starts_with("Millwork/"));
}

#[tokio::test]
async fn a_connection_is_used_again() {
    let receiver = HttpReceiver::start().await;
    let egress = loopback();
    for _ in 0..5 {
        answer(&egress, receiver.url("/")).await;
    }
    assert_eq!((receiver.hits(), receiver.connections()), (5, 1));
}

#[tokio::test]
async fn a_redirect_is_an_answer_and_is_not_followed() {
    let inside = HttpReceiver::start().await;
    let location = inside.url("/admin");
    let receiver = HttpReceiver::answering([Reply::with_headers(307, &[("location", &location)])]).await;
    assert_eq!(answer(&loopback(), receiver.url("/")).await.status, 307);
    assert_eq!((receiver.hits(), inside.hits()), (1, 0));
}

#[tokio::test]
async fn a_cookie_is_not_kept() {
    let receiver = HttpReceiver::answering([Reply::with_headers(200, &[("set-cookie", "id=1; Path=/")])]).await;
    let egress = loopback();
    answer(&egress, receiver.url("/")).await;
    answer(&egress, receiver.url("/")).await;
    assert!(receiver.requests().iter().all(|request| request.header("cookie").is_none()));
}

#[tokio::test]
async fn the_deadline_covers_every_part_of_an_answer() {
    let step = Duration::from_millis(30);
    for reply in [Reply::Hang, Reply::SlowHead(step), Reply::Drip(step)] {
        let receiver = HttpReceiver::answering([reply.clone()]).await;
        let started = Instant::now();
        let Exchange { latency, outcome } =
            loopback().call(call_within(receiver.url("/"), Duration::from_millis(300))).await;
        assert_eq!(outcome.expect_err("too slow").class, FailureClass::Timeout, "{reply:?}");
        assert!(latency >= Duration::from_millis(290) && started.elapsed() < Duration::from_secs(5), "{reply:?}");
    }
}

#[tokio::test]
async fn the_deadline_covers_the_name_too() {
    let lookup: Lookup = Arc::new(|_| std::future::pending().boxed());
    let egress = Egress::with_lookup(AllowedNets::default(), lookup).unwrap();
    let exchange = egress.call(call_within("http://slow.example/".into(), Duration::from_millis(100))).await;
    assert_eq!(exchange.outcome.expect_err("no name").class, FailureClass::Timeout);
}

#[tokio::test]
async fn of_a_gigabyte_only_the_beginning_is_read() {
    let receiver = HttpReceiver::answering([Reply::Huge(1 << 30)]).await;
    let started = Instant::now();
    let answer = answer(&loopback(), receiver.url("/")).await;
    assert_eq!((answer.status, answer.body.len(), answer.truncated), (200, BODY_MAX_BYTES, true));
    assert!(started.elapsed() < Duration::from_secs(5));
}

#[tokio::test]
async fn a_body_that_just_fits_is_not_called_truncated() {
    let receiver = HttpReceiver::answering([Reply::Huge(BODY_MAX_BYTES as u64)]).await;
    let answer = answer(&loopback(), receiver.url("/")).await;
    assert_eq!((answer.body.len(), answer.truncated), (BODY_MAX_BYTES, false));
}

#[tokio::test]
async fn of_many_headers_only_some_are_kept_and_too_many_are_an_error() {
    let long = "v".repeat(1000);
    let many: Vec<_> = (0..50).map(|n| (format!("x-{n}"), long.clone())).collect();
    let receiver = HttpReceiver::answering([Reply::Full { status: 200, headers: many, body: Vec::new() }]).await;
    let kept = answer(&loopback(), receiver.url("/")).await.headers;
    let bytes: usize = kept.iter().map(|(name, value)| name.len() + value.len()).sum();
    assert!(bytes <= 8 * 1024 && kept.len() >= 8, "{} headers of {bytes} bytes", kept.len());

    let endless = (0..10_000).map(|n| (format!("x-{n}"), long.clone())).collect();
    receiver.then([Reply::Full { status: 200, headers: endless, body: Vec::new() }]);
    assert_eq!(failure(&loopback(), receiver.url("/")).await.class, FailureClass::Protocol);
}

#[tokio::test]
async fn failures_are_told_apart() {
    let receiver = HttpReceiver::answering([Reply::Cut]).await;
    assert_eq!(failure(&loopback(), receiver.url("/")).await.class, FailureClass::Reset);
    receiver.then([Reply::Garbage]);
    assert_eq!(failure(&loopback(), receiver.url("/")).await.class, FailureClass::Protocol);
    let https = format!("https://{}/", receiver.addr());
    assert_eq!(failure(&loopback(), https).await.class, FailureClass::Tls);
    assert_eq!(failure(&loopback(), "ftp://127.0.0.1/".into()).await.class, FailureClass::InvalidUrl);

    let nobody = receiver.url("/");
    drop(receiver);
    tokio::task::yield_now().await;
    assert_eq!(failure(&loopback(), nobody).await.class, FailureClass::Connect);

    let lookup: Lookup = Arc::new(|_| async { Err(std::io::Error::other("no such name")) }.boxed());
    let nameless = Egress::with_lookup(AllowedNets::default(), lookup).unwrap();
    let failure = failure(&nameless, "http://absent.example/".into()).await;
    assert_eq!((failure.class, failure.message.as_str()), (FailureClass::Dns, "no such name"));
}

#[tokio::test]
async fn a_literal_private_address_is_refused_without_a_connection() {
    let receiver = HttpReceiver::start().await;
    let egress = Egress::new(AllowedNets::default()).unwrap();
    let port = receiver.addr().port();
    for host in ["127.0.0.1", "2130706433", "0x7f.1", "0177.1", "[::ffff:127.0.0.1]", "localhost", "0"] {
        let failure = failure(&egress, format!("http://{host}:{port}/")).await;
        assert_eq!(failure.class, FailureClass::RefusedAddress, "{host}");
    }
    assert_eq!(receiver.connections(), 0);
}

#[tokio::test]
async fn a_name_that_resolves_to_loopback_is_refused_by_the_systems_own_resolver() {
    let receiver = HttpReceiver::start().await;
    let lookup = millwork_worker::egress::system_lookup();
    // The system resolves `localhost`; asking for it under another name gets past the check of the URL's text.
    let alias: Lookup = Arc::new(move |_| lookup("localhost".into()));
    let egress = Egress::with_lookup(AllowedNets::default(), alias).unwrap();
    let failure = failure(&egress, format!("http://harmless.example:{}/", receiver.addr().port())).await;
    assert_eq!(failure.class, FailureClass::RefusedAddress);
    assert!(failure.message.starts_with("harmless.example resolves to "), "{}", failure.message);
    assert_eq!(receiver.connections(), 0);
}

#[tokio::test]
async fn a_name_with_one_bad_address_among_good_ones_is_refused() {
    // The good ones are of networks that nobody announces: should this test fail, it calls no one.
    for private in ["127.0.0.1", "10.0.0.1", "169.254.169.254", "::1", "fd00::1", "::ffff:10.0.0.1", "64:ff9b::a00:1"] {
        for order in [["11.0.0.1", private], [private, "3ffe::1"]] {
            let (lookup, asked) = says(&order);
            let egress = Egress::with_lookup(AllowedNets::default(), lookup).unwrap();
            let failure = failure(&egress, "http://rebinding.example/".into()).await;
            assert_eq!(failure.class, FailureClass::RefusedAddress, "{order:?}");
            assert_eq!(asked.load(Ordering::Relaxed), 1);
        }
    }
}

#[tokio::test]
async fn the_address_that_was_checked_is_the_one_that_is_called() {
    let receiver = HttpReceiver::start().await;
    let (lookup, asked) = says(&["127.0.0.1"]);
    let egress = Egress::with_lookup("127.0.0.1/32".parse().unwrap(), lookup).unwrap();
    let answer = answer(&egress, format!("http://inside.example:{}/", receiver.addr().port())).await;
    assert_eq!((answer.status, asked.load(Ordering::Relaxed)), (200, 1));
    assert_eq!(
        receiver.requests()[0].header("host"),
        Some(format!("inside.example:{}", receiver.addr().port()).as_str())
    );
}

#[tokio::test]
async fn a_name_without_addresses_is_a_dns_failure() {
    let (lookup, _) = says(&[]);
    let egress = Egress::with_lookup(AllowedNets::default(), lookup).unwrap();
    assert_eq!(failure(&egress, "http://empty.example/".into()).await.class, FailureClass::Dns);
}
