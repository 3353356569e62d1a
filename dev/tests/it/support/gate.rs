use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// How often a held call looks whether it is to be answered. That its caller went away it learns at once.
const LOOK: Duration = Duration::from_millis(50);

/// A third party that is called by jobs, and answers when it is told to.
pub struct Gate {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
}

struct State {
    /// What new calls are answered; none: they are held.
    answer: Option<(u16, &'static str)>,
    calls: Vec<Call>,
}

/// One request that a job made.
#[derive(Debug, Clone)]
pub struct Call {
    pub path: String,
    answer: Option<(u16, &'static str)>,
    pub ended: Option<(Ending, Instant)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    Answered,
    /// The caller closed the connection.
    Gone,
}

impl Gate {
    /// Holds every call.
    pub fn closed() -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(Mutex::new(State { answer: None, calls: Vec::new() }));
        let shared = state.clone();
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let state = shared.clone();
                thread::spawn(move || serve(stream, &state));
            }
        });
        Self { address, state }
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}/{path}", self.address)
    }

    /// Answers the calls that are held and every one to come with 200 and `body`.
    pub fn open(&self, body: &'static str) {
        self.answer_new(200, body);
        self.answer_held(200, body);
    }

    /// Answers calls that come from now on; the ones that are held stay so.
    pub fn answer_new(&self, status: u16, body: &'static str) {
        self.lock().answer = Some((status, body));
    }

    /// Answers the calls that are held now.
    pub fn answer_held(&self, status: u16, body: &'static str) {
        let mut state = self.lock();
        let held = state.calls.iter_mut().filter(|call| call.answer.is_none());
        held.for_each(|call| call.answer = Some((status, body)));
    }

    /// Answers the first `count` calls of all, if they are held.
    pub fn answer_first(&self, count: usize, status: u16, body: &'static str) {
        self.lock().calls.iter_mut().take(count).for_each(|call| {
            call.answer.get_or_insert((status, body));
        });
    }

    /// All calls of `path` so far, in order of arrival.
    pub fn calls(&self, path: &str) -> Vec<Call> {
        let path = format!("/{path}");
        self.lock().calls.iter().filter(|call| call.path == path).cloned().collect()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

fn serve(stream: TcpStream, state: &Mutex<State>) -> std::io::Result<()> {
    let path = read_request(&stream)?;
    let number = {
        let mut state = lock(state);
        let answer = state.answer;
        state.calls.push(Call { path, answer, ended: None });
        state.calls.len() - 1
    };
    let ending = hold(stream, || lock(state).calls[number].answer);
    lock(state).calls[number].ended = Some((ending, Instant::now()));
    Ok(())
}

fn read_request(stream: &TcpStream) -> std::io::Result<String> {
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    let mut reader = BufReader::new(stream);
    let mut first = String::new();
    reader.read_line(&mut first)?;
    let mut length = 0;
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        match line.trim().to_ascii_lowercase().split_once(':') {
            Some(("content-length", value)) => length = value.trim().parse().unwrap_or(0),
            Some(_) => {}
            None => break,
        }
    }
    std::io::copy(&mut reader.take(length), &mut std::io::sink())?;
    Ok(first.split(' ').nth(1).unwrap_or_default().to_owned())
}

/// Until `answer` says one, or the caller is gone.
fn hold(mut stream: TcpStream, answer: impl Fn() -> Option<(u16, &'static str)>) -> Ending {
    let _ = stream.set_read_timeout(Some(LOOK));
    loop {
        if let Some((status, body)) = answer() {
            let length = body.len();
            let text = format!("HTTP/1.1 {status} -\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{body}");
            return if stream.write_all(text.as_bytes()).is_ok() { Ending::Answered } else { Ending::Gone };
        }
        match stream.read(&mut [0; 64]) {
            Err(error) if [std::io::ErrorKind::WouldBlock, std::io::ErrorKind::TimedOut].contains(&error.kind()) => {}
            Ok(more) if more > 0 => {}
            _ => return Ending::Gone,
        }
    }
}
