use std::collections::BTreeMap;
use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use millwork_dev::http::read_request;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value};
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
use prost::Message;

use super::{SOON, wait_for};

/// A collector of traces: takes OTLP over HTTP, as protobuf.
pub struct Collector {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    spans: Vec<Span>,
    exports: usize,
    /// The header `authorization` of the last export.
    authorization: Option<String>,
}

/// One span as it was exported.
#[derive(Debug, Clone)]
pub struct Span {
    pub service: String,
    pub name: String,
    /// As in the protocol: 1 internal, 2 server, 3 client, 4 producer, 5 consumer.
    pub kind: i32,
    pub trace: String,
    pub id: String,
    /// Empty for the first of a trace.
    pub parent: String,
    pub attributes: BTreeMap<String, String>,
    pub failed: bool,
    pub events: usize,
}

impl Span {
    pub fn attribute(&self, name: &str) -> &str {
        self.attributes.get(name).map_or("", String::as_str)
    }

    /// What a `traceparent` says that names this span.
    pub fn traceparent(&self) -> String {
        format!("00-{}-{}-01", self.trace, self.id)
    }
}

impl Collector {
    pub fn start() -> Self {
        Self::answering(|stream| stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"))
    }

    /// Takes every export and never answers.
    pub fn that_hangs() -> Self {
        Self::answering(|_| {
            thread::sleep(Duration::from_secs(600));
            Ok(())
        })
    }

    fn answering(answer: fn(&mut TcpStream) -> std::io::Result<()>) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let collector = Self { address: listener.local_addr().unwrap(), state: Arc::default() };
        let state = collector.state.clone();
        thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                let state = state.clone();
                thread::spawn(move || {
                    take(&stream, &state);
                    answer(&mut stream)
                });
            }
        });
        collector
    }

    /// What makes a process export to it, soon after each span's end.
    pub fn variables(&self) -> [(String, String); 2] {
        let endpoint = format!("http://{}", self.address);
        [("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint), ("OTEL_BSP_SCHEDULE_DELAY", "50".to_owned())]
            .map(|(name, value)| (name.to_owned(), value))
    }

    pub fn spans(&self) -> Vec<Span> {
        lock(&self.state).spans.clone()
    }

    pub fn exports(&self) -> usize {
        lock(&self.state).exports
    }

    pub fn authorization(&self) -> Option<String> {
        lock(&self.state).authorization.clone()
    }

    /// The spans that are like this, once there are `count`.
    pub fn wait_for(&self, count: usize, what: &str, is_like: impl Fn(&Span) -> bool) -> Vec<Span> {
        let mut found = Vec::new();
        wait_for(&format!("{count} spans: {what}"), SOON, || {
            found = self.spans();
            found.retain(|span| is_like(span));
            found.len() >= count
        });
        assert_eq!(found.len(), count, "{what}: {found:#?}");
        found
    }

    /// The only span that is like this.
    pub fn the(&self, what: &str, is_like: impl Fn(&Span) -> bool) -> Span {
        self.wait_for(1, what, is_like).remove(0)
    }
}

fn lock(state: &Mutex<State>) -> std::sync::MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

fn take(stream: &TcpStream, state: &Mutex<State>) {
    let request = read_request(stream).unwrap();
    assert_eq!((request.method.as_str(), request.path.as_str()), ("POST", "/v1/traces"));
    assert_eq!(request.header("content-type"), Some("application/x-protobuf"));
    let export = ExportTraceServiceRequest::decode(request.body.as_slice()).unwrap();
    let mut state = lock(state);
    state.exports += 1;
    state.authorization = request.header("authorization").map(str::to_owned);
    for of_process in export.resource_spans {
        let resource = attributes(&of_process.resource.unwrap_or_default().attributes);
        for span in of_process.scope_spans.into_iter().flat_map(|scope| scope.spans) {
            state.spans.push(Span {
                service: resource["service.name"].clone(),
                name: span.name,
                kind: span.kind,
                trace: hex(&span.trace_id),
                id: hex(&span.span_id),
                parent: hex(&span.parent_span_id),
                attributes: attributes(&span.attributes),
                failed: span.status.is_some_and(|status| status.code == StatusCode::Error as i32),
                events: span.events.len(),
            });
        }
    }
}

fn attributes(list: &[KeyValue]) -> BTreeMap<String, String> {
    list.iter().map(|attribute| (attribute.key.clone(), text(attribute.value.as_ref()))).collect()
}

fn text(value: Option<&AnyValue>) -> String {
    match value.and_then(|value| value.value.as_ref()) {
        Some(any_value::Value::StringValue(text)) => text.clone(),
        Some(any_value::Value::IntValue(number)) => number.to_string(),
        other => format!("{other:?}"),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
