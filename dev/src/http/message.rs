//! Reading HTTP/1.1 messages, requests and responses alike.

use std::io::{self, BufRead, BufReader, Read};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

/// Larger bodies are not what this is for.
const MOST_BODY: usize = 64 << 20;
const MOST_LINE: u64 = 64 << 10;

/// The parts of a message. Header names are in lower case.
#[derive(Debug)]
pub struct Message {
    pub first_line: String,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

/// A stream whose reads together end by one deadline.
pub struct Timed {
    stream: TcpStream,
    deadline: Instant,
}

impl Timed {
    pub fn new(stream: TcpStream, limit: Duration) -> Self {
        Self { stream, deadline: Instant::now() + limit }
    }
}

impl Read for Timed {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = self.deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        self.stream.set_read_timeout(Some(left))?;
        self.stream.read(buffer)
    }
}

/// Without a length a response's body goes on to the end of the connection, and a request has none.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Request,
    Response,
}

pub fn read(stream: Timed, kind: Kind) -> Result<Message> {
    let mut reader = BufReader::new(stream);
    let first_line = line(&mut reader)?;
    ensure!(!first_line.is_empty(), "the connection was closed without a message");
    let mut headers = Vec::new();
    loop {
        let header = line(&mut reader)?;
        if header.is_empty() {
            break;
        }
        let (name, value) = header.split_once(':').with_context(|| format!("{header:?} is no header"))?;
        headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
    let body = body(&mut reader, &headers, &first_line, kind)?;
    Ok(Message { first_line, headers, body })
}

fn body(reader: &mut impl BufRead, headers: &[(String, String)], first_line: &str, kind: Kind) -> Result<Vec<u8>> {
    let status = if kind == Kind::Response { first_line.split(' ').nth(1).unwrap_or_default() } else { "" };
    if ["204", "304"].contains(&status) {
        return Ok(Vec::new());
    }
    if header(headers, "transfer-encoding").is_some_and(|value| value.eq_ignore_ascii_case("chunked")) {
        return chunks(reader);
    }
    if let Some(length) = header(headers, "content-length") {
        return exactly(reader, length.parse().with_context(|| format!("content-length {length:?} is no number"))?);
    }
    let mut body = Vec::new();
    if kind == Kind::Response {
        reader.take(MOST_BODY as u64).read_to_end(&mut body)?;
    }
    Ok(body)
}

fn chunks(reader: &mut impl BufRead) -> Result<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let size = line(reader)?;
        let digits = size.split(';').next().unwrap_or_default().trim();
        let size = usize::from_str_radix(digits, 16).with_context(|| format!("{size:?} is no chunk size"))?;
        if size == 0 {
            while !line(reader)?.is_empty() {} // trailers
            return Ok(body);
        }
        body.extend(exactly(reader, size)?);
        ensure!(body.len() <= MOST_BODY, "the body is longer than {MOST_BODY} bytes");
        line(reader)?;
    }
}

fn exactly(reader: &mut impl BufRead, size: usize) -> Result<Vec<u8>> {
    ensure!(size <= MOST_BODY, "the body is longer than {MOST_BODY} bytes");
    let mut bytes = vec![0; size];
    reader.read_exact(&mut bytes).context("the body ends early")?;
    Ok(bytes)
}

/// Without its line end. Empty at the end of the stream too.
fn line(reader: &mut impl BufRead) -> Result<String> {
    let mut bytes = Vec::new();
    reader.take(MOST_LINE).read_until(b'\n', &mut bytes)?;
    if bytes.len() as u64 == MOST_LINE {
        bail!("a line is longer than {MOST_LINE} bytes");
    }
    Ok(String::from_utf8(bytes)?.trim_end_matches(['\r', '\n']).to_owned())
}

pub fn header<'a>(headers: &'a [(String, String)], name: &str) -> Option<&'a str> {
    headers.iter().find(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
}
