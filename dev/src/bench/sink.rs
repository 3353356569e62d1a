//! A receiver of webhooks that keeps up with thousands a second: it reads of a request what it must, answers 200, and
//! counts.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};

const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
/// The deliveries' payload says with this when its event was sent; 0 is not measured.
const SENT_AT: &[u8] = b"\"sent_ns\":";

/// Takes requests on a free loopback port. Its threads last as long as the process.
#[derive(Debug)]
pub struct Sink {
    address: SocketAddr,
    counts: Arc<Counts>,
}

#[derive(Debug, Default)]
struct Counts {
    requests: AtomicU64,
    /// From `sent_ns` to the receipt.
    delays_ms: Mutex<Vec<f64>>,
}

impl Sink {
    pub fn start() -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("cannot listen on 127.0.0.1")?;
        let sink = Self { address: listener.local_addr()?, counts: Arc::default() };
        let counts = sink.counts.clone();
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let counts = counts.clone();
                let serving = thread::Builder::new().stack_size(128 * 1024).spawn(move || serve(stream, &counts));
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

    /// The delays seen so far, which are forgotten here.
    pub fn take_delays_ms(&self) -> Vec<f64> {
        std::mem::take(&mut self.counts.delays_ms.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Nanoseconds since 1970.
pub fn now_ns() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos() as u64)
}

/// Request after request, until the sender leaves.
fn serve(mut stream: TcpStream, counts: &Counts) -> Result<()> {
    stream.set_nodelay(true)?;
    let mut buffer = Vec::with_capacity(8 * 1024);
    let mut chunk = [0; 8 * 1024];
    loop {
        let read = stream.read(&mut chunk)?;
        if read == 0 {
            return Ok(());
        }
        let received_ns = now_ns();
        buffer.extend_from_slice(&chunk[..read]);
        while let Some(length) = message_length(&buffer) {
            if buffer.len() < length {
                break;
            }
            stream.write_all(ANSWER)?;
            counts.requests.fetch_add(1, Ordering::Relaxed);
            if let Some(sent_ns) = sent_ns(&buffer[..length]).filter(|sent_ns| *sent_ns > 0) {
                let delay_ms = received_ns.saturating_sub(sent_ns) as f64 / 1e6;
                counts.delays_ms.lock().unwrap_or_else(PoisonError::into_inner).push(delay_ms);
            }
            buffer.drain(..length);
        }
    }
}

/// Of head and body; `None` while the head is not complete.
fn message_length(bytes: &[u8]) -> Option<usize> {
    let head = position(bytes, b"\r\n\r\n")? + 4;
    let headers = String::from_utf8_lossy(&bytes[..head]);
    let length = headers.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>().ok())?
    });
    Some(head + length.unwrap_or(0))
}

fn sent_ns(message: &[u8]) -> Option<u64> {
    let after = &message[position(message, SENT_AT)? + SENT_AT.len()..];
    let digits = after.iter().take_while(|byte| byte.is_ascii_digit()).count();
    std::str::from_utf8(&after[..digits]).ok()?.parse().ok()
}

fn position(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes.windows(wanted.len()).position(|window| window == wanted)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn requests_on_a_kept_connection_are_counted_and_timed() {
        let sink = Sink::start().unwrap();
        let mut stream = TcpStream::connect(sink.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        for (sent_ns, parts) in [(now_ns(), 1), (0, 2)] {
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
        let delays = sink.take_delays_ms();
        assert!(delays.len() == 1 && delays[0] < 5_000.0, "{delays:?}");
    }
}
