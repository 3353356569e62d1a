use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

/// How often a connection looks whether it has gone silent.
const LOOK: Duration = Duration::from_millis(20);

/// A way to a server that may lose connections as networks do when a machine vanishes: nothing arrives any more, and
/// nobody is told.
pub struct Wire {
    pub port: u16,
    /// Connections made before this many silences are silent.
    silences: Arc<AtomicUsize>,
}

impl Wire {
    /// To `port` on this machine.
    pub fn to(port: u16) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let wire = Self { port: listener.local_addr().unwrap().port(), silences: Arc::default() };
        let silences = wire.silences.clone();
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let Ok(server) = TcpStream::connect((Ipv4Addr::LOCALHOST, port)) else { continue };
                let line = Line { made_after: silences.load(Ordering::SeqCst), silences: silences.clone() };
                for (from, to) in [(&client, &server), (&server, &client)] {
                    let (from, to, line) = (from.try_clone().unwrap(), to.try_clone().unwrap(), line.clone());
                    thread::spawn(move || line.carry(from, to));
                }
            }
        });
        wire
    }

    /// Every connection there is falls silent, and stays open. New ones work.
    pub fn silence(&self) {
        self.silences.fetch_add(1, Ordering::SeqCst);
    }
}

#[derive(Clone)]
struct Line {
    made_after: usize,
    silences: Arc<AtomicUsize>,
}

impl Line {
    fn carry(&self, mut from: TcpStream, mut to: TcpStream) {
        let _ = from.set_read_timeout(Some(LOOK));
        let _ = to.set_nodelay(true);
        let mut buffer = vec![0; 64 * 1024];
        loop {
            let read = from.read(&mut buffer);
            let silent = self.silences.load(Ordering::SeqCst) > self.made_after;
            match read {
                Err(error) if [ErrorKind::WouldBlock, ErrorKind::TimedOut].contains(&error.kind()) => {}
                // The far end does not learn of an end either.
                Ok(0) | Err(_) if silent => return thread::sleep(Duration::from_secs(3_600)),
                Ok(0) | Err(_) => {
                    let _ = to.shutdown(Shutdown::Both);
                    return;
                }
                Ok(_) if silent => {}
                Ok(count) => {
                    let _ = to.write_all(&buffer[..count]);
                }
            }
        }
    }
}
