//! Connections: kept alive, cut off, let finish.

use std::sync::Arc;
use std::time::Duration;

use millwork_api::http::server;
use millwork_shared::infra::tasks;
use poem::endpoint::make;
use poem::{Endpoint, Response};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

const GET: &[u8] = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n";

struct Server {
    addr: std::net::SocketAddr,
    stop: CancellationToken,
    ended: JoinHandle<Option<std::io::Result<()>>>,
}

async fn start(grace: Duration, endpoint: impl Endpoint<Output = Response> + 'static) -> Server {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (addr, stop) = (listener.local_addr().unwrap(), CancellationToken::new());
    let ended = tasks::spawn("server", server::serve(listener, endpoint, stop.clone(), grace));
    Server { addr, stop, ended }
}

/// Reads until `end` has come, or the connection is closed.
async fn read_until(socket: &mut TcpStream, end: &str) -> String {
    let mut read = Vec::new();
    let mut chunk = [0; 1_024];
    while !String::from_utf8_lossy(&read).contains(end) {
        match socket.read(&mut chunk).await.unwrap() {
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
