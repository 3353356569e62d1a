//! The one HTTP client for calls that third parties asked for.
//!
//! It connects only to addresses that were checked, follows nothing, remembers nothing, and ends at its deadline.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Context as _;
use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, Method};
use millwork_shared::egress::{AllowedNets, Target};
use millwork_shared::infra::telemetry::traces::{self, SpanKind};
use tokio::time::{Instant, timeout_at};

mod failure;
mod resolver;
mod retry_after;

pub use failure::{Failure, FailureClass};
pub use resolver::{Lookup, system_lookup};
pub use retry_after::retry_after;

/// Bytes of an answer's body that are read; the rest is left with the sender.
pub const BODY_MAX_BYTES: usize = 64 * 1024;
/// Bytes of an answer's headers that are kept, names and values together.
const HEADERS_MAX_BYTES: usize = 8 * 1024;
/// What we call ourselves.
pub const USER_AGENT: &str = concat!("Millwork/", env!("CARGO_PKG_VERSION"));

/// Connections kept open to one host between calls.
const IDLE_PER_HOST: usize = 32;
/// Shorter than the five seconds after which common servers close an idle connection, perhaps under our next request.
const IDLE_TIMEOUT: Duration = Duration::from_secs(4);
/// Ends attempts to connect whose call has given up already.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Calls third parties.
#[derive(Debug, Clone)]
pub struct Egress {
    client: reqwest::Client,
    nets: AllowedNets,
}

/// One request.
#[derive(Debug)]
pub struct Call {
    pub method: Method,
    pub url: String,
    pub headers: HeaderMap,
    pub body: Bytes,
    /// What the call follows from, for the header `traceparent`; where traces are on, that names the call's own span. A
    /// header that is there already stays.
    pub traceparent: Option<String>,
    /// Bounds everything: the name's resolution, the connection, the answer and its body.
    pub deadline: Instant,
}

impl Call {
    /// Begins its span, if traces are on.
    fn trace(&mut self) -> Option<traces::Span> {
        if !traces::are_on() {
            return None;
        }
        let method = self.method.to_string();
        let mut span = traces::begin(SpanKind::Client, method.clone(), self.traceparent.as_deref())?;
        span.note("http.request.method", method);
        if let Ok(url) = url::Url::parse(&self.url) {
            span.note("server.address", url.host_str().unwrap_or_default().to_owned());
            span.note("server.port", i64::from(url.port_or_known_default().unwrap_or_default()));
        }
        self.traceparent = Some(span.traceparent());
        Some(span)
    }
}

/// What came of a call.
#[derive(Debug)]
pub struct Exchange {
    pub latency: Duration,
    pub outcome: Result<Answer, Failure>,
}

impl Exchange {
    /// Says in the trace what came of it.
    fn note(&self, mut span: traces::Span) {
        match &self.outcome {
            Ok(answer) => {
                span.note("http.response.status_code", i64::from(answer.status));
                if answer.status >= 400 {
                    span.fail(&answer.status.to_string());
                }
            }
            Err(failure) => span.fail(failure.class.as_str()),
        }
    }
}

/// An answer, whatever its status.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    /// In the order received, as far as they fit the bounds; a value's bytes that are not UTF-8 are replaced.
    pub headers: Vec<(String, String)>,
    /// The first [`BODY_MAX_BYTES`] of the body.
    pub body: Bytes,
    /// Whether more than that was sent.
    pub truncated: bool,
}

impl Answer {
    /// The first value of the header `name`, given in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// The headers by name; several values of one name are joined as HTTP allows.
    pub fn header_map(&self) -> BTreeMap<String, String> {
        let mut map = BTreeMap::<String, String>::new();
        for (name, value) in &self.headers {
            map.entry(name.clone()).and_modify(|known| *known = format!("{known}, {value}")).or_insert(value.clone());
        }
        map
    }

    /// The first `max` bytes of the body as text, cut at a character; bytes that are not UTF-8 are replaced.
    pub fn text(&self, max: usize) -> String {
        let text = String::from_utf8_lossy(&self.body[..self.body.len().min(max)]);
        let cut = (0..=max.min(text.len())).rev().find(|&i| text.is_char_boundary(i)).unwrap_or(0);
        text[..cut].to_owned()
    }
}

impl Egress {
    /// The private networks that it may reach.
    pub fn nets(&self) -> &AllowedNets {
        &self.nets
    }

    /// A client that may reach public addresses and `nets`.
    ///
    /// # Errors
    /// Fails when the system's certificates cannot be read.
    pub fn new(nets: AllowedNets) -> anyhow::Result<Self> {
        Self::with_lookup(nets, system_lookup())
    }

    /// A client that resolves names by `lookup` and checks what it says.
    pub fn with_lookup(nets: AllowedNets, lookup: Lookup) -> anyhow::Result<Self> {
        #[expect(clippy::disallowed_methods, reason = "the place the ban points at")]
        let client = reqwest::Client::builder()
            .dns_resolver(resolver::Checked::new(nets.clone(), lookup))
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .referer(false)
            .user_agent(USER_AGENT)
            .connect_timeout(CONNECT_TIMEOUT)
            .pool_max_idle_per_host(IDLE_PER_HOST)
            .pool_idle_timeout(IDLE_TIMEOUT)
            .build()
            .context("the HTTP client cannot be made")?;
        Ok(Self { client, nets })
    }

    /// Calls once. Every failure is a value: what it means is the caller's to say.
    pub async fn call(&self, mut call: Call) -> Exchange {
        let trace = call.trace();
        if let Some(Ok(name)) = call.traceparent.take().map(HeaderValue::try_from) {
            call.headers.entry("traceparent").or_insert(name);
        }
        let exchange = self.call_once(call).await;
        if let Some(span) = trace {
            exchange.note(span);
        }
        exchange
    }

    async fn call_once(&self, call: Call) -> Exchange {
        let (started, deadline) = (Instant::now(), call.deadline);
        let outcome = match timeout_at(deadline, self.exchange(call)).await {
            Ok(outcome) => outcome,
            Err(_) => Err(Failure::new(FailureClass::Timeout, "no complete answer before the deadline")),
        };
        Exchange { latency: started.elapsed(), outcome }
    }

    async fn exchange(&self, call: Call) -> Result<Answer, Failure> {
        // A literal address never meets the resolver, so it is checked here.
        let target = Target::parse(&call.url, &self.nets)?;
        let request = self.client.request(call.method, target.url().clone()).headers(call.headers).body(call.body);
        let mut response = request.send().await.map_err(Failure::of)?;
        let status = response.status().as_u16();
        let headers = bounded(response.headers());
        let mut body = BytesMut::new();
        let mut truncated = false;
        while let Some(chunk) = response.chunk().await.map_err(Failure::of)? {
            let room = BODY_MAX_BYTES - body.len();
            body.extend_from_slice(&chunk[..chunk.len().min(room)]);
            if chunk.len() > room {
                truncated = true;
                break; // dropping the response closes its connection
            }
        }
        Ok(Answer { status, headers, body: body.freeze(), truncated })
    }
}

fn bounded(headers: &HeaderMap) -> Vec<(String, String)> {
    let mut room = HEADERS_MAX_BYTES;
    let mut kept = Vec::with_capacity(headers.len());
    for (name, value) in headers {
        let value = String::from_utf8_lossy(value.as_bytes());
        let Some(rest) = room.checked_sub(name.as_str().len() + value.len()) else { continue };
        room = rest;
        kept.push((name.as_str().to_owned(), value.into_owned()));
    }
    kept
}
