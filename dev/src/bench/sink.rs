//! A receiver of webhooks that keeps up with thousands a second: it reads of a request what it must, answers 200, and
//! counts.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};

const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
/// The deliveries' payload says with this when its event was sent.
const SENT_AT: &str = "\"sent_ns\":";

/// Takes requests on a free loopback port. Its threads last as long as the process.
#[derive(Debug)]
pub struct Sink {
    address: SocketAddr,
    counts: Arc<Counts>,
}

#[derive(Debug, Default)]
struct Counts {
    requests: AtomicU64,
    /// Whether delays are taken.
    timed: AtomicBool,
    /// Requests that wait for their answer.
    waiting: AtomicU64,
    /// From `sent_ns` to the receipt.
    delays_ms: Mutex<Vec<f64>>,
}

impl Sink {
    pub fn start() -> Result<Self> {
        Self::start_slow(Duration::ZERO)
    }

    /// One that answers every request `delay` after it came.
    pub fn start_slow(delay: Duration) -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("cannot listen on 127.0.0.1")?;
        let sink = Self { address: listener.local_addr()?, counts: Arc::default() };
        let counts = sink.counts.clone();
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let counts = counts.clone();
                let serving =
                    thread::Builder::new().stack_size(128 * 1024).spawn(move || serve(stream, &counts, delay));
                drop(serving); // none free: the sender sees the connection close
            }
        });
        Ok(sink)
    }

    pub fn url(&self) -> String {
        format!("http://{}/hooks", self.address)
    }

    pub fn requests(&self) -> u64 {
        self.counts.requests.load(Ordering::Relaxed)
    }

    /// Requests that wait for their answer just now.
    pub fn waiting(&self) -> u64 {
        self.counts.waiting.load(Ordering::Relaxed)
    }

    /// From now on requests are timed: what they carry is searched for the time of sending.
    pub fn begin_delays(&self) {
        self.counts.timed.store(true, Ordering::Relaxed);
    }

    /// The delays seen since [`begin_delays`](Self::begin_delays), in milliseconds.
    pub fn end_delays(&self) -> Vec<f64> {
        self.counts.timed.store(false, Ordering::Relaxed);
        std::mem::take(&mut self.counts.delays_ms.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Nanoseconds since 1970.
pub fn now_ns() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos() as u64)
}

/// Request after request, until the sender leaves.
fn serve(stream: TcpStream, counts: &Counts, delay: Duration) -> Result<()> {
    stream.set_nodelay(true)?;
    let mut stream = BufReader::new(stream);
    let (mut line, mut body) = (Vec::with_capacity(256), Vec::with_capacity(1024));
    while let Some(length) = body_length(&mut stream, &mut line)? {
        body.resize(length, 0);
        stream.read_exact(&mut body)?;
        let received_ns = now_ns();
        counts.requests.fetch_add(1, Ordering::Relaxed);
        if let Some(sent_ns) = counts.timed.load(Ordering::Relaxed).then(|| sent_ns(&body)).flatten() {
            let delay_ms = received_ns.saturating_sub(sent_ns) as f64 / 1e6;
            counts.delays_ms.lock().unwrap_or_else(PoisonError::into_inner).push(delay_ms);
        }
        if delay > Duration::ZERO {
            counts.waiting.fetch_add(1, Ordering::Relaxed);
            thread::sleep(delay);
            counts.waiting.fetch_sub(1, Ordering::Relaxed);
        }
        stream.get_mut().write_all(ANSWER)?;
    }
    Ok(())
}

/// Reads a head. `None` at the end of the connection.
fn body_length(stream: &mut impl BufRead, line: &mut Vec<u8>) -> Result<Option<usize>> {
    const NAME: &[u8] = b"content-length:";
    let mut length = 0;
    loop {
        line.clear();
        if stream.read_until(b'\n', line)? == 0 {
            return Ok(None);
        }
        if line == b"\r\n" {
            return Ok(Some(length));
        }
        if line.get(..NAME.len()).is_some_and(|name| name.eq_ignore_ascii_case(NAME)) {
            length = std::str::from_utf8(&line[NAME.len()..])?.trim().parse()?;
        }
    }
}

fn sent_ns(body: &[u8]) -> Option<u64> {
    let (_, after) = std::str::from_utf8(body).ok()?.split_once(SENT_AT)?;
    after.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_on_a_kept_connection_are_counted_and_timed() {
        let sink = Sink::start().unwrap();
        let mut stream = TcpStream::connect(sink.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        for (timed, parts) in [(true, 1), (false, 2)] {
            if timed {
                sink.begin_delays();
            } else {
                let delays = sink.end_delays();
                assert!(delays.len() == 1 && delays[0] < 5_000.0, "{delays:?}");
            }
            let sent_ns = now_ns();
            let body = format!("{{\"data\":{{\"sent_ns\":{sent_ns}}}}}");
            let request = format!("POST /hooks HTTP/1.1\r\nContent-Length: {}\r\n\r\n{body}", body.len());
            for part in request.as_bytes().chunks(request.len() / parts + 1) {
                stream.write_all(part).unwrap();
            }
            let mut answer = vec![0; ANSWER.len()];
            stream.read_exact(&mut answer).unwrap();
            assert_eq!(answer, ANSWER);
        }
        assert_eq!(sink.requests(), 2);
        assert!(sink.end_delays().is_empty());
    }

    #[test]
    fn a_slow_one_counts_what_waits_and_answers_late() {
        let delay = Duration::from_millis(300);
        let sink = Sink::start_slow(delay).unwrap();
        let mut stream = TcpStream::connect(sink.address).unwrap();
        let sent = std::time::Instant::now();
        stream.write_all(b"POST / HTTP/1.1\r\ncontent-length: 0\r\n\r\n").unwrap();
        crate::wait::until("the request", Duration::from_secs(5), || Ok((sink.waiting() == 1).then_some(()))).unwrap();
        stream.read_exact(&mut [0; ANSWER.len()]).unwrap();
        assert!(sent.elapsed() >= delay && sink.waiting() == 0);
    }
}
