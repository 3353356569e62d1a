use std::io::Write;
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use super::message::{self, Kind, Message, Timed};

const DEFAULT_TIMEOUT: Duration = Duration::from_secs(10);

pub fn get(url: &str) -> Request {
    Request::new("GET", url)
}

pub fn post(url: &str) -> Request {
    Request::new("POST", url)
}

pub fn put(url: &str) -> Request {
    Request::new("PUT", url)
}

pub fn patch(url: &str) -> Request {
    Request::new("PATCH", url)
}

pub fn delete(url: &str) -> Request {
    Request::new("DELETE", url)
}

/// One request, sent by [`send`](Self::send).
#[derive(Debug, Clone)]
pub struct Request {
    method: &'static str,
    url: String,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
    timeout: Duration,
}

impl Request {
    pub fn new(method: &'static str, url: &str) -> Self {
        Self { method, url: url.to_owned(), headers: Vec::new(), body: Vec::new(), timeout: DEFAULT_TIMEOUT }
    }

    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    pub fn bearer(self, token: &str) -> Self {
        self.header("authorization", &format!("Bearer {token}"))
    }

    pub fn json(mut self, body: &Value) -> Self {
        self.body = body.to_string().into_bytes();
        self.header("content-type", "application/json")
    }

    pub fn body(mut self, content_type: &str, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self.header("content-type", content_type)
    }

    /// Of the whole exchange; 10 s unless told.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Any status is an answer; a connection refused, broken or too slow is an error.
    pub fn send(self) -> Result<Response> {
        let what = format!("{} {}", self.method, self.url);
        let answer = self.exchange().with_context(|| format!("no answer to {what}"))?;
        let status = answer.first_line.split(' ').nth(1).and_then(|status| status.parse().ok());
        let Some(status) = status else { bail!("{what}: {:?} is no status line", answer.first_line) };
        Ok(Response { what, status, headers: answer.headers, body: answer.body })
    }

    fn exchange(&self) -> Result<Message> {
        let (host, path) = split(&self.url)?;
        let mut stream = TcpStream::connect_timeout(&address(host)?, self.timeout)?;
        stream.set_nodelay(true)?;
        stream.set_write_timeout(Some(self.timeout))?;
        let mut head = format!("{} {path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n", self.method);
        for (name, value) in &self.headers {
            head += &format!("{name}: {value}\r\n");
        }
        if !self.body.is_empty() || self.method != "GET" {
            head += &format!("content-length: {}\r\n", self.body.len());
        }
        let request = [head.as_bytes(), b"\r\n", &self.body].concat();
        // A server may answer and close before it has read everything: its answer says more than the failed write.
        let written = stream.write_all(&request);
        message::read(Timed::new(stream, self.timeout), Kind::Response).map_err(|error| match written {
            Ok(()) => error,
            Err(unsent) => anyhow::Error::new(unsent).context("the request could not be sent"),
        })
    }
}

/// `http://host:port/path` as host with port, and path.
fn split(url: &str) -> Result<(&str, &str)> {
    let rest = url.strip_prefix("http://").with_context(|| format!("{url:?} does not begin with http://"))?;
    Ok(match rest.find('/') {
        Some(slash) => rest.split_at(slash),
        None => (rest, "/"),
    })
}

fn address(host: &str) -> Result<SocketAddr> {
    let with_port = if host.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok()) {
        host.to_owned()
    } else {
        format!("{host}:80")
    };
    with_port.to_socket_addrs()?.next().with_context(|| format!("{host} has no address"))
}

/// An answer with its body read. Header names are in lower case.
#[derive(Debug, Clone)]
pub struct Response {
    what: String,
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Response {
    pub fn header(&self, name: &str) -> Option<&str> {
        message::header(&self.headers, name)
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub fn json(&self) -> Result<Value> {
        serde_json::from_slice(&self.body)
            .with_context(|| format!("{}: the answer is no JSON: {}", self.what, self.text()))
    }

    /// The JSON body if the status is `status`, else an error that shows the whole answer. Null for an empty body.
    pub fn expect(&self, status: u16) -> Result<Value> {
        if self.status != status {
            bail!("{}: answered {} where {status} was expected: {}", self.what, self.status, self.text());
        }
        if self.body.is_empty() { Ok(Value::Null) } else { self.json() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_split_into_host_and_path() {
        assert_eq!(split("http://127.0.0.1:8080/a/b?c=d").unwrap(), ("127.0.0.1:8080", "/a/b?c=d"));
        assert_eq!(split("http://localhost").unwrap(), ("localhost", "/"));
        assert!(split("https://localhost/").is_err());
    }
}
