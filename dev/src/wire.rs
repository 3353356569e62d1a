//! A way to a server, by which anything may happen to the connections that it carries.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::sys;

/// For how long the far end of a connection that fell silent does not learn of its end: longer than anybody waits here.
const GRAVE: Duration = Duration::from_secs(60);
const CONNECT_LIMIT: Duration = Duration::from_secs(5);

/// Listens on a loopback port and carries every connection on to another, until told otherwise. Its thread lasts as long
/// as the process.
#[derive(Debug)]
pub struct Wire {
    pub port: u16,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    target: u16,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// Nothing arrives while it is held; then everything does, as after lost packets are sent again.
    held: bool,
    /// What each piece of data takes on its way.
    delay: Duration,
    lines: Vec<Weak<Line>>,
}

/// One connection.
#[derive(Debug)]
struct Line {
    client: TcpStream,
    server: TcpStream,
    fate: AtomicU8,
}

const WHOLE: u8 = 0;
/// Nothing arrives any more, and nobody is told.
const SILENT: u8 = 1;
/// What the client says arrives; what the server answers does not.
const UNANSWERED: u8 = 2;
/// Both ends are told that there is no such connection.
const RESET: u8 = 3;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Direction {
    ToServer,
    ToClient,
}

impl Wire {
    /// To `target` on this machine, which need not listen yet.
    pub fn to(target: u16) -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("cannot listen on 127.0.0.1")?;
        let port = listener.local_addr()?.port();
        let shared = Arc::new(Shared { target, state: Mutex::default(), changed: Condvar::new() });
        let carrier = shared.clone();
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let carrier = carrier.clone();
                thread::spawn(move || carrier.connect(client));
            }
        });
        Ok(Self { port, shared })
    }

    /// Every connection there is falls silent, and stays open, as when the machine at the other end vanishes. New ones
    /// work.
    pub fn silence(&self) {
        self.doom(SILENT);
    }

    /// On every connection there is, answers do not arrive any more, though what is asked does. New ones work.
    pub fn half_open(&self) {
        self.doom(UNANSWERED);
    }

    /// Every connection there is breaks. New ones work.
    pub fn reset(&self) {
        for line in self.doom(RESET) {
            for stream in [&line.client, &line.server] {
                let _ = sys::reset_on_close(stream);
                let _ = stream.shutdown(Shutdown::Read); // wakes who reads; sends nothing
            }
        }
    }

    /// Nothing arrives, on new connections either, until [`release`](Self::release); then everything does.
    pub fn hold(&self) {
        self.shared.lock().held = true;
    }

    pub fn release(&self) {
        self.shared.lock().held = false;
        self.shared.changed.notify_all();
    }

    /// What each piece of data takes on its way from now on.
    pub fn delay(&self, delay: Duration) {
        self.shared.lock().delay = delay;
    }

    /// Whether one of its connections reaches the server from this local port.
    pub fn comes_from(&self, port: u16) -> bool {
        let lines = self.shared.lock().lines.clone();
        let mut live = lines.iter().filter_map(Weak::upgrade);
        live.any(|line| line.server.local_addr().is_ok_and(|address| address.port() == port))
    }

    fn doom(&self, fate: u8) -> Vec<Arc<Line>> {
        let lines: Vec<_> = self.shared.lock().lines.iter().filter_map(Weak::upgrade).collect();
        lines.iter().for_each(|line| line.fate.store(fate, Ordering::SeqCst));
        self.shared.changed.notify_all();
        lines
    }
}

impl Shared {
    fn connect(self: Arc<Self>, client: TcpStream) {
        // A refusal closes the client's connection at once.
        let Ok(server) = TcpStream::connect_timeout(&(Ipv4Addr::LOCALHOST, self.target).into(), CONNECT_LIMIT) else {
            return;
        };
        let line = Arc::new(Line { client, server, fate: AtomicU8::new(WHOLE) });
        {
            let mut state = self.lock();
            state.lines.retain(|line| line.strong_count() > 0);
            state.lines.push(Arc::downgrade(&line));
        }
        let back = (self.clone(), line.clone());
        thread::spawn(move || back.0.carry(&back.1, Direction::ToClient));
        self.carry(&line, Direction::ToServer);
    }

    fn carry(&self, line: &Line, direction: Direction) {
        let (mut from, mut to) = match direction {
            Direction::ToServer => (&line.client, &line.server),
            Direction::ToClient => (&line.server, &line.client),
        };
        let _ = to.set_nodelay(true);
        let mut buffer = vec![0; 64 * 1024];
        loop {
            let read = from.read(&mut buffer).unwrap_or(0);
            self.travel(line);
            match (line.fate.load(Ordering::SeqCst), read) {
                (RESET, _) => return, // the last to let go of the line resets it
                (SILENT, 0) => thread::sleep(GRAVE),
                (UNANSWERED, 0) if direction == Direction::ToClient => thread::sleep(GRAVE),
                (SILENT, _) => continue,
                (UNANSWERED, _) if direction == Direction::ToClient => continue,
                (_, count) => {
                    if count > 0 && to.write_all(&buffer[..count]).is_ok() {
                        continue;
                    }
                }
            }
            let _ = (line.client.shutdown(Shutdown::Both), line.server.shutdown(Shutdown::Both));
            return;
        }
    }

    /// Takes as long as data takes now.
    fn travel(&self, line: &Line) {
        let state = self.lock();
        let delay = state.delay;
        let whole = |state: &mut State| state.held && line.fate.load(Ordering::SeqCst) == WHOLE;
        drop(self.changed.wait_while(state, whole).unwrap_or_else(PoisonError::into_inner));
        if !delay.is_zero() {
            thread::sleep(delay);
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;

    /// A server that answers each byte with the next one.
    fn next_byte() -> u16 {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                thread::spawn(move || {
                    let mut byte = [0];
                    while stream.read_exact(&mut byte).is_ok() {
                        stream.write_all(&[byte[0] + 1]).unwrap();
                    }
                });
            }
        });
        port
    }

    fn dial(wire: &Wire) -> TcpStream {
        let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, wire.port)).unwrap();
        stream.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
        stream
    }

    fn ask(stream: &mut TcpStream, byte: u8) -> std::io::Result<u8> {
        let mut answer = [0];
        stream.write_all(&[byte])?;
        stream.read_exact(&mut answer).map(|()| answer[0])
    }

    #[test]
    fn a_silenced_connection_says_nothing_and_the_next_one_works() {
        for fall in [Wire::silence, Wire::half_open] {
            let wire = Wire::to(next_byte()).unwrap();
            let mut old = dial(&wire);
            assert_eq!(ask(&mut old, 1).unwrap(), 2);
            fall(&wire);
            assert_eq!(ask(&mut old, 1).unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
            assert_eq!(ask(&mut dial(&wire), 3).unwrap(), 4);
        }
    }

    #[test]
    fn a_reset_is_told_to_the_client_and_the_next_connection_works() {
        let wire = Wire::to(next_byte()).unwrap();
        let mut old = dial(&wire);
        assert_eq!(ask(&mut old, 1).unwrap(), 2);
        let port = wire.shared.lock().lines[0].upgrade().unwrap().server.local_addr().unwrap().port();
        assert!(wire.comes_from(port) && !wire.comes_from(wire.port));
        wire.reset();
        old.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        assert_eq!(old.read(&mut [0]).unwrap_err().kind(), std::io::ErrorKind::ConnectionReset);
        assert_eq!(ask(&mut dial(&wire), 3).unwrap(), 4);
    }

    #[test]
    fn what_is_held_arrives_when_it_is_released() {
        let wire = Wire::to(next_byte()).unwrap();
        let mut old = dial(&wire);
        assert_eq!(ask(&mut old, 1).unwrap(), 2);
        wire.hold();
        assert!(ask(&mut old, 5).is_err());
        wire.release();
        old.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let mut answer = [0];
        old.read_exact(&mut answer).unwrap();
        assert_eq!(answer, [6]);
    }

    #[test]
    fn delay_counts_in_both_directions() {
        let wire = Wire::to(next_byte()).unwrap();
        wire.delay(Duration::from_millis(40));
        let started = Instant::now();
        assert_eq!(ask(&mut dial(&wire), 1).unwrap(), 2);
        assert!(started.elapsed() >= Duration::from_millis(80));
    }
}
