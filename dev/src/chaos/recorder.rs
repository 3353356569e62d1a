//! A third party that jobs call. What it notes is the effect that a handler has in the world outside.

use std::collections::HashMap;
use std::io::Write;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};

use super::record::Record;
use crate::http;

/// Longest time for which a call is held before it is answered.
const LONGEST_HOLD_MS: u64 = 10_000;

/// Takes calls of `/key/hold_ms/fails`: answers after so many milliseconds, the first `fails` calls with 500. Its threads
/// last as long as the process.
pub struct Recorder {
    pub port: u16,
}

struct Book {
    record: Record,
    calls: Mutex<Calls>,
}

#[derive(Default)]
struct Calls {
    all: u64,
    by_key: HashMap<String, u64>,
}

impl Recorder {
    /// Notes every call in the file at `path`: `start key call` when it arrives, `end key call status` before it is answered.
    pub fn start(path: &Path) -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("cannot listen on 127.0.0.1")?;
        let port = listener.local_addr()?.port();
        let book = Arc::new(Book { record: Record::plain(path)?, calls: Mutex::default() });
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let book = book.clone();
                thread::spawn(move || book.take(stream));
            }
        });
        Ok(Self { port })
    }
}

/// The path of a call.
pub fn path(key: &str, hold: Duration, fails: u64) -> String {
    format!("/{key}/{}/{fails}", hold.as_millis())
}

impl Book {
    fn take(&self, mut stream: TcpStream) -> Result<()> {
        let request = http::read_request(&stream)?;
        let mut words = request.path.trim_start_matches('/').split('/');
        let key = words.next().unwrap_or_default();
        let mut number = || words.next().and_then(|word| word.parse().ok()).unwrap_or(0_u64);
        let (hold_ms, fails) = (number().min(LONGEST_HOLD_MS), number());
        let (call, of_key) = self.number(key);
        self.record.add(&format!("start {key} {call}"))?;
        thread::sleep(Duration::from_millis(hold_ms));
        let status = if of_key <= fails { 500 } else { 200 };
        self.record.add(&format!("end {key} {call} {status}"))?;
        let body = call.to_string();
        let head = format!("HTTP/1.1 {status} -\r\nconnection: close\r\ncontent-length: {}\r\n\r\n", body.len());
        Ok(stream.write_all(format!("{head}{body}").as_bytes())?)
    }

    /// The number of this call among all, and among those of its key.
    fn number(&self, key: &str) -> (u64, u64) {
        let mut calls = self.calls.lock().unwrap_or_else(PoisonError::into_inner);
        calls.all += 1;
        let of_key = calls.by_key.entry(key.to_owned()).or_default();
        *of_key += 1;
        let of_key = *of_key;
        (calls.all, of_key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chaos::record;
    use crate::scratch::Scratch;

    #[test]
    fn a_call_is_noted_when_it_comes_and_before_it_is_answered() {
        let scratch = Scratch::new("recorder").unwrap();
        let file = scratch.path().join("recorder");
        let recorder = Recorder::start(&file).unwrap();
        let url = format!("http://127.0.0.1:{}{}", recorder.port, path("k-1", Duration::from_millis(1), 1));
        let answers: Vec<(u16, String)> = (0..2)
            .map(|_| {
                let answer = http::post(&url).send().unwrap();
                (answer.status, answer.text())
            })
            .collect();
        assert_eq!(answers, [(500, "1".to_owned()), (200, "2".to_owned())]);
        let noted: Vec<String> = record::read(&file).unwrap().into_iter().map(|(_, words)| words.join(" ")).collect();
        assert_eq!(noted, ["start k-1 1", "end k-1 1 500", "start k-1 2", "end k-1 2 200"]);
    }
}
