//! Who asked, under which name, as part of which trace.

use std::net::IpAddr;

use millwork_shared::infra::ids::RequestId;
use millwork_shared::infra::telemetry::traces::{self, SpanKind};
use millwork_shared::jobs::Cause;
use poem::http::{HeaderName, HeaderValue};
use poem::{FromRequest, Request, RequestBody};

use super::proxies::TrustedProxies;

pub const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

/// How a request is known: in its answer, in every log line, and in every job it causes.
#[derive(Debug, Clone)]
pub struct RequestInfo {
    id: HeaderValue,
    /// The span that others follow from: the caller's, or ours where traces are on.
    traceparent: Option<HeaderValue>,
    address: Option<IpAddr>,
}

impl RequestInfo {
    /// Keeps the caller's names if they are well-formed, and makes an id otherwise.
    pub(super) fn of(request: &Request, proxies: &TrustedProxies) -> Self {
        let headers = request.headers();
        let id = headers.get(X_REQUEST_ID).filter(|v| is_request_id(v.as_bytes())).cloned();
        let traceparent = headers.get(TRACEPARENT).filter(|v| is_traceparent(v.as_bytes())).cloned();
        let peer = request.remote_addr().as_socket_addr();
        let address = peer.map(|peer| proxies.client(peer.ip(), headers));
        Self { id: id.unwrap_or_else(generate), traceparent, address }
    }

    /// Where the request came from: the client, or the last proxy that is not trusted.
    pub fn address(&self) -> Option<IpAddr> {
        self.address
    }

    /// Continues the caller's trace, if traces are on; what the request causes follows from the span.
    pub(super) fn trace(&mut self) -> Option<traces::Span> {
        let caller = self.traceparent.as_ref().and_then(|caller| caller.to_str().ok());
        let mut span = traces::begin(SpanKind::Server, "request", caller)?;
        span.note("request.id", self.id().to_owned());
        self.traceparent = HeaderValue::try_from(span.traceparent()).ok();
        Some(span)
    }

    pub fn id(&self) -> &str {
        self.id.to_str().unwrap_or_default()
    }

    pub(super) fn id_header(&self) -> HeaderValue {
        self.id.clone()
    }

    /// What a job, an event or an audit entry keeps of the request it follows from.
    pub fn cause(&self) -> Cause {
        let text = |v: &HeaderValue| v.to_str().ok().map(str::to_owned);
        Cause { request_id: text(&self.id), traceparent: self.traceparent.as_ref().and_then(text) }
    }
}

impl<'a> FromRequest<'a> for RequestInfo {
    async fn from_request(req: &'a Request, _body: &mut RequestBody) -> poem::Result<Self> {
        Ok(req.data::<Self>().cloned().unwrap_or_else(|| Self::of(req, &TrustedProxies::default())))
    }
}

fn generate() -> HeaderValue {
    let mut buffer = uuid::Uuid::encode_buffer();
    let text = RequestId::generate().0.as_hyphenated().encode_lower(&mut buffer);
    HeaderValue::from_str(text).unwrap_or(HeaderValue::from_static("unknown"))
}

/// 1 to 128 printable ASCII characters.
fn is_request_id(value: &[u8]) -> bool {
    (1..=128).contains(&value.len()) && value.iter().all(|b| (b' '..=b'~').contains(b))
}

/// W3C Trace Context, version 00, or a later one that begins the same way.
fn is_traceparent(value: &[u8]) -> bool {
    let hex = |part: &[u8]| part.iter().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    let zeros = |part: &[u8]| part.iter().all(|&b| b == b'0');
    if value.len() < 55 || value.len() > 256 {
        return false;
    }
    let (version, trace, span, flags) = (&value[..2], &value[3..35], &value[36..52], &value[53..55]);
    let longer = value.len() == 55 || (version != b"00" && value[55] == b'-' && value.is_ascii());
    let dashes = value[2] == b'-' && value[35] == b'-' && value[52] == b'-';
    dashes
        && longer
        && [version, trace, span, flags].into_iter().all(hex)
        && version != b"ff"
        && !zeros(trace)
        && !zeros(span)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_printable_ascii_of_a_sane_length_is_a_request_id() {
        for (value, ok) in [("a", true), ("order 7/é", false), ("", false), ("tab\t", false)] {
            assert_eq!(is_request_id(value.as_bytes()), ok, "{value:?}");
        }
        assert!(is_request_id(&[b'x'; 128]));
        assert!(!is_request_id(&[b'x'; 129]));
    }

    #[test]
    fn a_traceparent_follows_the_specification() {
        let good = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        assert!(is_traceparent(good.as_bytes()));
        assert!(is_traceparent(format!("01{}-future", &good[2..]).as_bytes()));
        for bad in [
            "".to_owned(),
            good.to_uppercase(),
            format!("{good}-more"),
            format!("ff{}", &good[2..]),
            good.replace("0af7651916cd43dd8448eb211c80319c", &"0".repeat(32)),
            good.replace("b7ad6b7169203331", &"0".repeat(16)),
            good.replacen('-', "_", 1),
            "é".repeat(30),
        ] {
            assert!(!is_traceparent(bad.as_bytes()), "{bad}");
        }
    }
}
