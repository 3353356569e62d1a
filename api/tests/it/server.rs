//! Connections: kept alive, cut off, let finish.

use std::sync::Arc;
use std::time::Duration;

use millwork_api::http::server::{self, settings::ServerSettings};
use millwork_shared::infra::tasks;
use poem::endpoint::make;
use poem::{Endpoint, Response};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// Before a test that waits for what does not come says so.
const PATIENCE: Duration = Duration::from_secs(30);
const GET: &[u8] = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n";

struct Server {
    addr: std::net::SocketAddr,
    stop: CancellationToken,
    ended: JoinHandle<Option<std::io::Result<()>>>,
}

async fn start(grace: Duration, endpoint: impl Endpoint<Output = Response> + 'static) -> Server {
    start_with(ServerSettings { grace, ..ServerSettings::default() }, endpoint).await
}

async fn start_with(settings: ServerSettings, endpoint: impl Endpoint<Output = Response> + 'static) -> Server {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (addr, stop) = (listener.local_addr().unwrap(), CancellationToken::new());
    let ended = tasks::spawn("server", server::serve(listener, endpoint, settings, stop.clone()));
    Server { addr, stop, ended }
}

/// Reads until `end` has come, or the connection is closed.
async fn read_until(socket: &mut TcpStream, end: &str) -> String {
    let mut read = Vec::new();
    let mut chunk = [0; 1_024];
    while !String::from_utf8_lossy(&read).contains(end) {
        let some = tokio::time::timeout(PATIENCE, socket.read(&mut chunk)).await;
        match some.expect("it neither says more nor closes the connection").unwrap() {
            0 => break,
            n => read.extend_from_slice(&chunk[..n]),
        }
    }
    String::from_utf8(read).unwrap()
}

fn hello() -> impl Endpoint<Output = Response> {
    make(|_| async { Ok::<_, poem::Error>(Response::builder().body("hello")) })
}

#[tokio::test]
async fn a_connection_serves_many_requests_and_a_head_that_is_none_ends_it() {
    let server = start(Duration::from_secs(5), hello()).await;
    let mut socket = TcpStream::connect(server.addr).await.unwrap();
    for _ in 0..3 {
        socket.write_all(GET).await.unwrap();
        assert!(read_until(&mut socket, "hello").await.starts_with("HTTP/1.1 200 OK\r\n"));
    }
    socket.write_all(b"\x16\x03\x01 no http\r\n\r\n").await.unwrap();
    assert!(read_until(&mut socket, "never").await.starts_with("HTTP/1.1 400"));
}

#[tokio::test]
async fn a_stop_lets_the_request_under_way_finish_and_closes_resting_connections() {
    let (started, release) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let endpoint = {
        let (started, release) = (started.clone(), release.clone());
        make(move |_| {
            let (started, release) = (started.clone(), release.clone());
            async move {
                started.notify_one();
                release.notified().await;
                Ok::<_, poem::Error>(Response::builder().body("done"))
            }
        })
    };
    let server = start(Duration::from_secs(30), endpoint).await;
    let mut resting = TcpStream::connect(server.addr).await.unwrap();
    let mut busy = TcpStream::connect(server.addr).await.unwrap();
    busy.write_all(GET).await.unwrap();
    started.notified().await;

    server.stop.cancel();
    assert_eq!(read_until(&mut resting, "never").await, "", "a resting connection is closed at once");
    release.notify_one();
    let answer = read_until(&mut busy, "never").await;
    assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("done"), "{answer}");
    server.ended.await.unwrap().unwrap().unwrap();
    assert!(TcpStream::connect(server.addr).await.is_err());
}

#[tokio::test]
async fn a_request_without_end_is_cut_off_after_the_grace() {
    let started = Arc::new(Notify::new());
    let seen = started.clone();
    let endpoint = make(move |_| {
        seen.notify_one();
        std::future::pending::<poem::Result<Response>>()
    });
    let server = start(Duration::from_millis(100), endpoint).await;
    let mut socket = TcpStream::connect(server.addr).await.unwrap();
    socket.write_all(GET).await.unwrap();
    started.notified().await;
    server.stop.cancel();
    let ended = tokio::time::timeout(Duration::from_secs(10), server.ended).await;
    ended.expect("the server ends").unwrap().unwrap().unwrap();
}

fn quick() -> ServerSettings {
    // What is tried is short, everything else longer than the test.
    let long = Duration::from_secs(600);
    ServerSettings { head: long, idle: long, write: long, ..ServerSettings::default() }
}

#[tokio::test]
async fn a_head_that_comes_drop_by_drop_is_given_up_and_a_rest_is_not() {
    let server = start_with(ServerSettings { head: Duration::from_millis(300), ..quick() }, hello()).await;
    let mut resting = TcpStream::connect(server.addr).await.unwrap();
    resting.write_all(GET).await.unwrap();
    assert!(read_until(&mut resting, "hello").await.starts_with("HTTP/1.1 200 OK\r\n"));

    let mut slow = TcpStream::connect(server.addr).await.unwrap();
    let drops = async {
        for _ in 0.. {
            if slow.write_all(b"x").await.is_err() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let closed = tokio::time::timeout(Duration::from_secs(20), drops).await;
    closed.expect("the slow one is cut off, however steadily its bytes come");
    resting.write_all(GET).await.unwrap();
    assert!(read_until(&mut resting, "hello").await.starts_with("HTTP/1.1 200 OK\r\n"), "it said nothing meanwhile");
    resting.write_all(b"GET / HTTP/1.1\r\n").await.unwrap();
    assert_eq!(read_until(&mut resting, "never").await, "", "a second head has no longer than the first");
}

#[tokio::test]
async fn a_handler_may_take_longer_than_a_head() {
    let head = Duration::from_millis(50);
    let endpoint = make(move |_| async move {
        tokio::time::sleep(head * 4).await;
        Ok::<_, poem::Error>(Response::builder().body("done"))
    });
    let server = start_with(ServerSettings { head, ..quick() }, endpoint).await;
    let mut socket = TcpStream::connect(server.addr).await.unwrap();
    socket.write_all(GET).await.unwrap();
    assert!(read_until(&mut socket, "done").await.ends_with("done"));
}

#[tokio::test]
async fn a_connection_that_rests_for_too_long_is_closed() {
    let server = start_with(ServerSettings { idle: Duration::from_millis(100), ..quick() }, hello()).await;
    let mut silent = TcpStream::connect(server.addr).await.unwrap();
    let mut served = TcpStream::connect(server.addr).await.unwrap();
    served.write_all(GET).await.unwrap();
    assert!(read_until(&mut served, "never").await.ends_with("hello"), "answered, then closed");
    assert_eq!(read_until(&mut silent, "never").await, "");
}

#[tokio::test]
async fn a_client_that_does_not_read_its_answer_is_cut_off() {
    let sent = Arc::new(Notify::new());
    let seen = sent.clone();
    let endless = make(move |_| {
        let guard = NotifyAtDrop(seen.clone());
        let chunks = futures::stream::repeat_with(move || {
            let _ = &guard;
            Ok::<_, std::io::Error>(bytes::Bytes::from_static(&[b'x'; 64 * 1_024]))
        });
        async move { Ok::<_, poem::Error>(Response::builder().body(poem::Body::from_bytes_stream(chunks))) }
    });
    let server = start_with(ServerSettings { write: Duration::from_millis(100), ..quick() }, endless).await;
    let mut socket = TcpStream::connect(server.addr).await.unwrap();
    socket.write_all(GET).await.unwrap();
    let cut_off = tokio::time::timeout(Duration::from_secs(20), sent.notified()).await;
    cut_off.expect("the answer is dropped");
}

struct NotifyAtDrop(Arc<Notify>);

impl Drop for NotifyAtDrop {
    fn drop(&mut self) {
        self.0.notify_one();
    }
}

#[tokio::test]
async fn there_are_so_many_connections_and_one_more_is_told_so() {
    for (settings, status, code) in [
        (ServerSettings { connections: 2, ..quick() }, "503 Service Unavailable", "unavailable"),
        (ServerSettings { connections_per_address: 2, ..quick() }, "429 Too Many Requests", "too_many_connections"),
    ] {
        let server = start_with(settings, hello()).await;
        let mut held = Vec::new();
        for _ in 0..2 {
            let mut socket = TcpStream::connect(server.addr).await.unwrap();
            socket.write_all(GET).await.unwrap();
            read_until(&mut socket, "hello").await;
            held.push(socket);
        }
        let mut refused = TcpStream::connect(server.addr).await.unwrap();
        refused.write_all(GET).await.unwrap();
        let answer = read_until(&mut refused, "never").await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}\r\n")), "{answer}");
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        for line in ["content-type: application/problem+json", "connection: close", "retry-after: 1"] {
            assert!(head.lines().any(|known| known == line), "{line} in {head}");
        }
        let problem: serde_json::Value = serde_json::from_str(body).unwrap();
        assert_eq!(problem["code"], code, "{problem}");
        assert!(head.contains(&format!("x-request-id: {}", problem["request_id"].as_str().unwrap())), "{head}");

        held.pop();
        loop {
            let mut socket = TcpStream::connect(server.addr).await.unwrap();
            socket.write_all(GET).await.unwrap();
            if read_until(&mut socket, "hello").await.starts_with("HTTP/1.1 200") {
                break; // once the server has noticed that a place is free
            }
        }
    }
}

#[tokio::test]
async fn a_trusted_proxy_may_have_as_many_connections_as_there_are() {
    let proxies = "127.0.0.0/8".parse().unwrap();
    let settings = ServerSettings { connections: 3, connections_per_address: 1, proxies, ..quick() };
    let server = start_with(settings, hello()).await;
    let mut held = Vec::new();
    for expected in ["200", "200", "200", "503"] {
        let mut socket = TcpStream::connect(server.addr).await.unwrap();
        socket.write_all(GET).await.unwrap();
        let answer = read_until(&mut socket, "\r\n").await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {expected}")), "{answer}");
        held.push(socket);
    }
}

#[tokio::test]
async fn addresses_and_heads_have_a_size() {
    let app = crate::support::TestApp::start().await;
    let client = app.anonymous();
    client.get(&format!("//health/live?{}", "x".repeat(8_100))).await.expect(200);
    client.get(&format!("//health/live?{}", "x".repeat(8_200))).await.problem(414, "uri_too_long");
    let with = |count: usize, size: usize| {
        let mut request = client.request(reqwest::Method::GET, "//health/live");
        for n in 0..count {
            request = request.header(format!("x-{n}"), "x".repeat(size));
        }
        crate::support::Reply::of(request)
    };
    with(50, 300).await.expect(200);
    with(64, 1).await.problem(431, "headers_too_large");
    with(1, 17_000).await.problem(431, "headers_too_large");

    // Beyond that the server does not even look.
    let mut socket = TcpStream::connect(app.url.strip_prefix("http://").unwrap()).await.unwrap();
    socket.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n").await.unwrap();
    for n in 0..200 {
        let _ = socket.write_all(format!("x-{n}: {}\r\n", "x".repeat(1_000)).as_bytes()).await;
    }
    let mut head = [0; 12];
    if socket.read_exact(&mut head).await.is_ok() {
        assert_eq!(&head, b"HTTP/1.1 431");
    } // or it was reset before its answer could be read
}
