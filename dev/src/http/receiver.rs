use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};

use super::message::{self, Kind, Message, Timed};
use crate::interrupt;

const READ_LIMIT: Duration = Duration::from_secs(10);

/// Takes webhooks on a free loopback port and answers each with 200. Its thread lasts as long as the process.
#[derive(Debug)]
pub struct Receiver {
    address: SocketAddr,
    received: mpsc::Receiver<Received>,
}

/// One request as it came. Header names are in lower case.
#[derive(Debug, Clone)]
pub struct Received {
    pub method: String,
    pub path: String,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Received {
    pub fn header(&self, name: &str) -> Option<&str> {
        message::header(&self.headers, name)
    }
}

impl Receiver {
    pub fn start() -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("cannot listen on 127.0.0.1")?;
        let address = listener.local_addr()?;
        let (sender, received) = mpsc::channel();
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let sender = sender.clone();
                thread::spawn(move || take(stream, &sender));
            }
        });
        Ok(Self { address, received })
    }

    pub fn url(&self) -> String {
        format!("http://{}/hooks", self.address)
    }

    /// The next request, in order of arrival; `None` if none comes within `limit`.
    pub fn next(&self, limit: Duration) -> Result<Option<Received>> {
        let mut left = limit;
        loop {
            interrupt::check()?;
            let slice = left.min(Duration::from_millis(200));
            match self.received.recv_timeout(slice) {
                Ok(request) => return Ok(Some(request)),
                Err(_) if left <= slice => return Ok(None),
                Err(_) => left -= slice,
            }
        }
    }
}

/// Reads one request from a connection that has just been made.
pub fn read_request(stream: &TcpStream) -> Result<Received> {
    stream.set_write_timeout(Some(READ_LIMIT))?;
    Ok(received(message::read(Timed::new(stream.try_clone()?, READ_LIMIT), Kind::Request)?))
}

/// The answer goes out before the request is handed on: whoever waits for it finds the delivery settled soon after.
fn take(mut stream: TcpStream, sender: &mpsc::Sender<Received>) -> Result<()> {
    let request = read_request(&stream)?;
    stream.write_all(
        b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: 3\r\nconnection: close\r\n\r\nok\n",
    )?;
    sender.send(request).context("nobody waits for requests any more")
}

fn received(message: Message) -> Received {
    let mut words = message.first_line.split(' ').map(str::to_owned);
    let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    Received { method, path, headers: message.headers, body: message.body }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http;

    #[test]
    fn what_the_client_sends_is_what_the_receiver_gets() {
        let receiver = Receiver::start().unwrap();
        let body = serde_json::json!({"type": "order.created", "note": "ünïcode"});
        let answer = http::post(&receiver.url()).bearer("secret").json(&body).send().unwrap();
        assert_eq!((answer.status, answer.text().as_str()), (200, "ok\n"));

        let received = receiver.next(Duration::from_secs(5)).unwrap().unwrap();
        assert_eq!((received.method.as_str(), received.path.as_str()), ("POST", "/hooks"));
        assert_eq!(received.header("Authorization"), Some("Bearer secret"));
        assert_eq!(serde_json::from_slice::<serde_json::Value>(&received.body).unwrap(), body);
        assert!(receiver.next(Duration::from_millis(1)).unwrap().is_none());
    }

    #[test]
    fn chunked_bodies_and_bodies_without_a_length_are_read_whole() {
        for (answer, expected) in [
            (
                "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\n{\"a\"\r\n3;x=y\r\n:1}\r\n0\r\n\r\n",
                "{\"a\":1}",
            ),
            ("HTTP/1.0 200 OK\r\n\r\n[1]", "[1]"),
            ("HTTP/1.1 204 No Content\r\n\r\n", ""),
        ] {
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
            let url = format!("http://{}/", listener.local_addr().unwrap());
            let server = thread::spawn(move || {
                let (mut stream, _) = listener.accept().unwrap();
                let request = message::read(Timed::new(stream.try_clone().unwrap(), READ_LIMIT), Kind::Request);
                assert!(request.is_ok());
                stream.write_all(answer.as_bytes()).unwrap();
            });
            assert_eq!(http::get(&url).send().unwrap().text(), expected);
            server.join().unwrap();
        }
    }

    #[test]
    fn a_server_that_does_not_answer_costs_the_timeout_and_no_more() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        let started = std::time::Instant::now();
        assert!(http::get(&url).timeout(Duration::from_millis(100)).send().is_err());
        assert!(started.elapsed() < Duration::from_secs(5));
    }
}
