//! A third party on loopback: answers by a script and remembers what it was asked.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use crate::infra::tasks;

/// What the receiver does with one request.
#[derive(Debug, Clone)]
pub enum Reply {
    /// An empty answer of that status.
    Status(u16),
    Full {
        status: u16,
        headers: Vec<(String, String)>,
        body: Vec<u8>,
    },
    /// Takes the request and never answers.
    Hang,
    /// Begins a head, and goes on for ever, a header at a time.
    SlowHead(Duration),
    /// Announces a body, and sends a byte of it at a time.
    Drip(Duration),
    /// A body of that many bytes, as fast as it is read.
    Huge(u64),
    /// Cuts the connection instead of answering.
    Cut,
    /// Answers something that is not HTTP.
    Garbage,
}

impl Reply {
    pub fn with_headers(status: u16, headers: &[(&str, &str)]) -> Self {
        let headers = headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Self::Full { status, headers, body: Vec::new() }
    }

    pub fn with_body(status: u16, body: impl Into<Vec<u8>>) -> Self {
        Self::Full { status, headers: Vec::new(), body: body.into() }
    }
}

impl From<u16> for Reply {
    fn from(status: u16) -> Self {
        Self::Status(status)
    }
}

/// A request as it came.
#[derive(Debug, Clone)]
pub struct Received {
    pub method: String,
    /// Path and query.
    pub path: String,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Received {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).expect("the body is JSON")
    }
}

#[derive(Default)]
struct State {
    script: VecDeque<Reply>,
    requests: Vec<Received>,
    connections: usize,
}

/// An HTTP/1.1 server that lives as long as its handle.
pub struct HttpReceiver {
    addr: SocketAddr,
    state: Arc<Mutex<State>>,
    server: JoinHandle<Option<()>>,
}

impl HttpReceiver {
    /// Answers 200 to everything.
    pub async fn start() -> Self {
        Self::answering([200]).await
    }

    /// Answers by the script; its last entry goes on for ever.
    pub async fn answering<R: Into<Reply>>(script: impl IntoIterator<Item = R>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let addr = listener.local_addr().expect("a bound socket has an address");
        let script = script.into_iter().map(Into::into).collect();
        let state = Arc::new(Mutex::new(State { script, ..State::default() }));
        let shared = state.clone();
        let server = tasks::spawn("receiver", async move {
            let mut connections = tokio::task::JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                shared.lock().expect("state").connections += 1;
                connections.spawn(serve(stream, shared.clone()));
            }
        });
        Self { addr, state, server }
    }

    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.addr)
    }

    /// Everything received so far, oldest first.
    pub fn requests(&self) -> Vec<Received> {
        self.state.lock().expect("state").requests.clone()
    }

    pub fn hits(&self) -> usize {
        self.state.lock().expect("state").requests.len()
    }

    /// Connections accepted so far.
    pub fn connections(&self) -> usize {
        self.state.lock().expect("state").connections
    }

    /// From now on, answers by this script.
    pub fn then<R: Into<Reply>>(&self, script: impl IntoIterator<Item = R>) {
        self.state.lock().expect("state").script = script.into_iter().map(Into::into).collect();
    }
}

impl Drop for HttpReceiver {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn serve(mut stream: TcpStream, state: Arc<Mutex<State>>) -> std::io::Result<()> {
    let mut buffer = Vec::new();
    while let Some(request) = read_request(&mut stream, &mut buffer).await? {
        let reply = {
            let mut state = state.lock().expect("state");
            state.requests.push(request);
            match state.script.len() {
                0 => Reply::Status(200),
                1 => state.script[0].clone(),
                _ => state.script.pop_front().expect("more than one"),
            }
        };
        if !answer(&mut stream, reply).await? {
            break;
        }
    }
    Ok(())
}

/// The next request of a connection; what lies behind it stays in `buffer`.
async fn read_request(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> std::io::Result<Option<Received>> {
    let head_end = loop {
        if let Some(at) = buffer.windows(4).position(|w| w == b"\r\n\r\n") {
            break at;
        }
        if stream.read_buf(buffer).await? == 0 {
            return Ok(None);
        }
        if !buffer[0].is_ascii_uppercase() {
            stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await?; // what web servers tell a TLS client
            return Ok(None);
        }
    };
    let head = String::from_utf8_lossy(&buffer[..head_end]).into_owned();
    let mut lines = head.split("\r\n");
    let mut start = lines.next().unwrap_or_default().split(' ').map(str::to_owned);
    let (method, path) = (start.next().unwrap_or_default(), start.next().unwrap_or_default());
    let headers: Vec<_> = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
        .collect();
    let length = headers
        .iter()
        .find(|(name, _)| name == "content-length")
        .map_or(0, |(_, value)| value.parse::<usize>().expect("a content length is a number"));
    let end = head_end + 4 + length;
    while buffer.len() < end {
        if stream.read_buf(buffer).await? == 0 {
            return Ok(None);
        }
    }
    let body = buffer[head_end + 4..end].to_vec();
    buffer.drain(..end);
    Ok(Some(Received { method, path, headers, body }))
}

/// Whether the connection is good for another request.
async fn answer(stream: &mut TcpStream, reply: Reply) -> std::io::Result<bool> {
    match reply {
        Reply::Status(status) => {
            let length = if matches!(status, 204 | 304) { "" } else { "content-length: 0\r\n" };
            stream.write_all(format!("HTTP/1.1 {status} Scripted\r\n{length}\r\n").as_bytes()).await?;
        }
        Reply::Full { status, headers, body } => {
            let mut head = format!("HTTP/1.1 {status} Scripted\r\ncontent-length: {}\r\n", body.len());
            headers.iter().for_each(|(name, value)| head.push_str(&format!("{name}: {value}\r\n")));
            head.push_str("\r\n");
            stream.write_all(&[head.as_bytes(), &body].concat()).await?;
        }
        Reply::Hang => std::future::pending().await,
        Reply::SlowHead(every) => {
            stream.write_all(b"HTTP/1.1 200 Scripted\r\n").await?;
            for n in 0_u64.. {
                tokio::time::sleep(every).await;
                stream.write_all(format!("x-{n}: slow\r\n").as_bytes()).await?;
            }
        }
        Reply::Drip(every) => {
            stream.write_all(b"HTTP/1.1 200 Scripted\r\ncontent-length: 1000000\r\n\r\n").await?;
            loop {
                tokio::time::sleep(every).await;
                stream.write_all(b"x").await?;
            }
        }
        Reply::Huge(bytes) => {
            stream.write_all(format!("HTTP/1.1 200 Scripted\r\ncontent-length: {bytes}\r\n\r\n").as_bytes()).await?;
            let block = [b'x'; 64 * 1024];
            let mut left = bytes;
            while left > 0 {
                let n = left.min(block.len() as u64);
                stream.write_all(&block[..n as usize]).await?;
                left -= n;
            }
        }
        Reply::Cut => return Ok(false),
        Reply::Garbage => {
            stream.write_all(b"220 mail.example.com ESMTP\r\n\r\n").await?;
            return Ok(false);
        }
    }
    Ok(true)
}
