//! An SMTP server that answers by a script.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};
use tokio_rustls::TlsAcceptor;

use super::mail::Mail;

/// Where in a conversation a scripted answer is given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    Greeting,
    Hello,
    Auth,
    From,
    To,
    Data,
    /// After the final dot.
    Body,
    Quit,
}

/// What the server does instead of accepting.
#[derive(Debug, Clone, Copy)]
pub enum Answer {
    /// Says this, such as `451 4.7.1 greylisted`.
    Say(&'static str),
    /// Takes the step as usual.
    Accept,
    /// Closes the connection.
    Drop,
    /// Never answers.
    Stall,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Security {
    None,
    StartTls,
    Implicit,
}

/// A mail as the server took it.
#[derive(Debug, Clone)]
pub struct Received {
    pub from: String,
    pub to: Vec<String>,
    /// The sender had logged in as this user.
    pub user: Option<String>,
    pub encrypted: bool,
    pub mail: Mail,
}

/// Listens on a port of its own until dropped, records mails, and accepts whatever its script does not speak of.
pub struct SmtpServer {
    pub addr: SocketAddr,
    state: Arc<State>,
    certificate: Option<PathBuf>,
    listener: JoinHandle<()>,
}

#[derive(Default)]
struct State {
    script: Mutex<VecDeque<(Step, Answer)>>,
    received: Mutex<Vec<Received>>,
    connections: AtomicUsize,
    open: watch::Sender<usize>,
    /// User and password that AUTH PLAIN must give; AUTH is offered when there are any.
    login: Mutex<Option<(String, String)>>,
    tls: Option<TlsAcceptor>,
    implicit: bool,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl SmtpServer {
    pub async fn start() -> Self {
        Self::start_with(Security::None).await
    }

    /// Encrypts with a certificate of its own for 127.0.0.1; [`url`](Self::url) names the file that it is in.
    pub async fn start_with(security: Security) -> Self {
        let (tls, certificate) = match security {
            Security::None => (None, None),
            _ => {
                let (acceptor, certificate) = certify();
                (Some(acceptor), Some(certificate))
            }
        };
        let state = Arc::new(State { tls, implicit: security == Security::Implicit, ..State::default() });
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
        let addr = listener.local_addr().expect("the port is known");
        let accepting = state.clone();
        #[expect(clippy::disallowed_methods, reason = "ends with the server, and has no span")]
        let listener = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                accepting.connections.fetch_add(1, Ordering::Relaxed);
                let state = accepting.clone();
                state.open.send_modify(|open| *open += 1);
                connections.spawn(async move {
                    serve(stream, state.clone()).await;
                    state.open.send_modify(|open| *open -= 1);
                });
            }
        });
        Self { addr, state, certificate, listener }
    }

    /// Asks for this login from now on.
    pub fn with_login(self, user: &str, password: &str) -> Self {
        *lock(&self.state.login) = Some((user.to_owned(), password.to_owned()));
        self
    }

    /// Adds to the script: each entry is used up by the first time its step is reached while it is at the front.
    pub fn answering(self, script: impl IntoIterator<Item = (Step, Answer)>) -> Self {
        lock(&self.state.script).extend(script);
        self
    }

    /// For MAIL_URL.
    pub fn url(&self) -> String {
        let (scheme, tls) = match (&self.state.tls, self.state.implicit) {
            (None, _) => ("smtp", "?tls=none"),
            (Some(_), false) => ("smtp", "?tls=required"),
            (Some(_), true) => ("smtps", "?"),
        };
        let ca = self.certificate.as_deref().map_or(String::new(), |path| format!("&ca={}", path.display()));
        let login = lock(&self.state.login).as_ref().map_or(String::new(), |(user, pw)| format!("{user}:{pw}@"));
        format!("{scheme}://{login}{}{tls}{ca}", self.addr)
    }

    /// What was taken, in order.
    pub fn received(&self) -> Vec<Received> {
        lock(&self.state.received).clone()
    }

    /// Waits until nobody is connected.
    pub async fn all_gone(&self) {
        let _ = self.state.open.subscribe().wait_for(|open| *open == 0).await;
    }

    /// How often anyone connected.
    pub fn connections(&self) -> usize {
        self.state.connections.load(Ordering::Relaxed)
    }
}

impl Drop for SmtpServer {
    fn drop(&mut self) {
        self.listener.abort();
        if let Some(path) = &self.certificate {
            let _ = std::fs::remove_file(path);
        }
    }
}

fn certify() -> (TlsAcceptor, PathBuf) {
    let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).expect("a certificate can be made");
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()));
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("the provider knows TLS 1.3")
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .expect("key and certificate fit");
    let path = std::env::temp_dir().join(format!("millwork-smtp-{}.pem", uuid::Uuid::new_v4().simple()));
    std::fs::write(&path, made.cert.pem()).expect("the certificate can be written");
    (TlsAcceptor::from(Arc::new(config)), path)
}

trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

async fn serve(stream: tokio::net::TcpStream, state: Arc<State>) {
    let mut stream: Box<dyn Stream> = Box::new(stream);
    let encrypted = state.implicit;
    if let Some(tls) = state.tls.clone().filter(|_| encrypted) {
        let Ok(wrapped) = tls.accept(stream).await else { return };
        stream = Box::new(wrapped);
    }
    let peer = Peer { stream: BufReader::new(stream), state, encrypted, user: None };
    let _ = peer.talk().await; // the peer went away, or the script said so
}

struct Peer {
    stream: BufReader<Box<dyn Stream>>,
    state: Arc<State>,
    encrypted: bool,
    user: Option<String>,
}

impl Peer {
    async fn talk(mut self) -> io::Result<()> {
        self.answer(Step::Greeting, "220 mail.test ESMTP").await?;
        let (mut from, mut to) = (None::<String>, Vec::new());
        loop {
            let line = self.line().await?;
            let (verb, rest) = line.split_once([' ', ':']).unwrap_or((&line, ""));
            match verb.to_ascii_uppercase().as_str() {
                "EHLO" => {
                    let hello = self.hello();
                    self.answer(Step::Hello, &hello).await?;
                }
                "STARTTLS" => {
                    let tls = self.state.tls.clone().ok_or(io::ErrorKind::Unsupported)?;
                    self.say("220 go on").await?;
                    let wrapped = tls.accept(self.stream.into_inner()).await?;
                    self.stream = BufReader::new(Box::new(wrapped));
                    self.encrypted = true;
                }
                "AUTH" => self.log_in(rest).await?,
                "MAIL" if from.is_some() => self.say("503 5.5.1 nested MAIL command").await?,
                "MAIL" => {
                    if self.answer(Step::From, "250 2.1.0 ok").await? {
                        from = Some(path(rest));
                    }
                }
                "RCPT" if from.is_none() => self.say("503 5.5.1 need MAIL first").await?,
                "RCPT" => {
                    if self.answer(Step::To, "250 2.1.5 ok").await? {
                        to.push(path(rest));
                    }
                }
                "DATA" if to.is_empty() => self.say("503 5.5.1 need RCPT first").await?,
                "DATA" => {
                    if self.answer(Step::Data, "354 go on").await? {
                        let raw = self.body().await?;
                        let (from, to) = (from.take().unwrap_or_default(), std::mem::take(&mut to));
                        self.take(from, to, raw).await?;
                    }
                }
                "RSET" => {
                    (from, to) = (None, Vec::new());
                    self.say("250 2.0.0 ok").await?;
                }
                "NOOP" => self.say("250 2.0.0 ok").await?,
                "QUIT" => {
                    self.answer(Step::Quit, "221 2.0.0 bye").await?;
                    return Ok(());
                }
                _ => self.say("500 5.5.2 what?").await?,
            }
        }
    }

    fn hello(&self) -> String {
        let mut lines = vec!["mail.test", "8BITMIME", "SMTPUTF8"];
        if self.state.tls.is_some() && !self.encrypted {
            lines.push("STARTTLS");
        }
        if lock(&self.state.login).is_some() {
            lines.push("AUTH PLAIN");
        }
        let last = lines.len() - 1;
        let reply: Vec<_> =
            lines.iter().enumerate().map(|(n, l)| format!("250{}{l}", [" ", "-"][usize::from(n < last)])).collect();
        reply.join("\r\n")
    }

    async fn log_in(&mut self, arguments: &str) -> io::Result<()> {
        let given = arguments.strip_prefix("PLAIN ").and_then(|b64| STANDARD.decode(b64.trim()).ok());
        let given = String::from_utf8(given.unwrap_or_default()).unwrap_or_default();
        let wanted = lock(&self.state.login).as_ref().map(|(user, password)| format!("\0{user}\0{password}"));
        if wanted != Some(given.clone()) {
            return self.say("535 5.7.8 wrong user or password").await;
        }
        if self.answer(Step::Auth, "235 2.7.0 welcome").await? {
            self.user = given.split('\0').nth(1).map(str::to_owned);
        }
        Ok(())
    }

    async fn take(&mut self, from: String, to: Vec<String>, raw: Vec<u8>) -> io::Result<()> {
        let received =
            Received { from, to, user: self.user.clone(), encrypted: self.encrypted, mail: Mail::parse(raw) };
        // Recorded before the answer, as a real server stores before it answers.
        match self.scripted(Step::Body) {
            Some(Answer::Say(reply)) if !reply.starts_with('2') => self.say(reply).await,
            other => {
                lock(&self.state.received).push(received);
                self.act(other, "250 2.0.0 queued").await.map(drop)
            }
        }
    }

    /// Answers as the script says at `step`, else with `usual`; whether that was consent.
    async fn answer(&mut self, step: Step, usual: &str) -> io::Result<bool> {
        let scripted = self.scripted(step);
        self.act(scripted, usual).await
    }

    fn scripted(&self, step: Step) -> Option<Answer> {
        let mut script = lock(&self.state.script);
        script.pop_front_if(|(next, _)| *next == step).map(|(_, answer)| answer)
    }

    async fn act(&mut self, answer: Option<Answer>, usual: &str) -> io::Result<bool> {
        match answer.unwrap_or(Answer::Accept) {
            Answer::Accept => self.say(usual).await.map(|()| true),
            Answer::Say(reply) => self.say(reply).await.map(|()| reply.starts_with(['2', '3'])),
            Answer::Drop => Err(io::ErrorKind::ConnectionAborted.into()),
            Answer::Stall => std::future::pending().await,
        }
    }

    async fn say(&mut self, reply: &str) -> io::Result<()> {
        let stream = self.stream.get_mut();
        stream.write_all(format!("{reply}\r\n").as_bytes()).await?;
        stream.flush().await
    }

    async fn line(&mut self) -> io::Result<String> {
        let mut line = String::new();
        if self.stream.read_line(&mut line).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(line.trim_end().to_owned())
    }

    /// Reads to the final dot and removes the dots that were doubled.
    async fn body(&mut self) -> io::Result<Vec<u8>> {
        let mut body = Vec::new();
        loop {
            let mut line = Vec::new();
            if self.stream.read_until(b'\n', &mut line).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            if line == b".\r\n" {
                return Ok(body);
            }
            assert!(line.len() <= 1000 && line.ends_with(b"\r\n") && line.is_ascii(), "a line no server need take");
            body.extend_from_slice(line.strip_prefix(b".").unwrap_or(&line));
        }
    }
}

/// The address in `FROM:<a@b.c> SIZE=1`.
fn path(argument: &str) -> String {
    let start = argument.find('<').map_or(0, |i| i + 1);
    let end = argument.find('>').unwrap_or(argument.len());
    argument[start..end.max(start)].to_owned()
}
