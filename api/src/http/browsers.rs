//! What answers tell browsers: what a page of ours may do, who may read an answer (CORS), and how to reach us.
//!
//! Every value is made once at start; a request only copies handles.

use std::str::FromStr;

use poem::http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_METHOD, CACHE_CONTROL,
    CONTENT_SECURITY_POLICY, ORIGIN, REFERRER_POLICY, STRICT_TRANSPORT_SECURITY, VARY, X_CONTENT_TYPE_OPTIONS,
    X_FRAME_OPTIONS,
};
use poem::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use poem::{Request, Response};
use url::Url;

const CROSS_ORIGIN_RESOURCE_POLICY: HeaderName = HeaderName::from_static("cross-origin-resource-policy");

/// What every answer says. Those of [`DEFAULTS`] give way to what an endpoint says itself.
const ALWAYS: [(HeaderName, HeaderValue); 3] = [
    (X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
    (X_FRAME_OPTIONS, HeaderValue::from_static("DENY")), // for browsers that do not know frame-ancestors
    (REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
];
const DEFAULTS: [(HeaderName, HeaderValue); 3] = [
    (CACHE_CONTROL, HeaderValue::from_static("no-store")),
    (CONTENT_SECURITY_POLICY, HeaderValue::from_static("default-src 'none'; frame-ancestors 'none'")),
    (CROSS_ORIGIN_RESOURCE_POLICY, HeaderValue::from_static("same-origin")),
];
const HSTS: HeaderValue = HeaderValue::from_static("max-age=31536000");

/// What a page of another origin may send beyond what browsers allow by themselves, and may read.
const METHODS: HeaderValue = HeaderValue::from_static("GET, HEAD, POST, PUT, PATCH, DELETE");
const SENT: HeaderValue = HeaderValue::from_static(
    "accept-language, authorization, content-type, idempotency-key, if-match, if-none-match, last-event-id, range, \
     traceparent, x-request-id",
);
const READ: HeaderValue = HeaderValue::from_static(
    "content-disposition, content-range, deprecation, etag, idempotent-replayed, link, location, ratelimit, \
     ratelimit-policy, retry-after, sunset, www-authenticate, x-ratelimit-limit, x-ratelimit-remaining, \
     x-ratelimit-reset, x-request-id",
);
/// How long a browser need not ask again: what Chromium allows at most.
const MAX_AGE: HeaderValue = HeaderValue::from_static("7200");
/// Origins of `CORS_ORIGINS`.
const MOST_ORIGINS: usize = 64;

/// `CORS_ORIGINS`: whose pages may call the API from a browser.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum CorsOrigins {
    /// Only pages of our own.
    #[default]
    None,
    /// Those of these origins.
    Some(Vec<HeaderValue>),
    /// All. That is safe as far as no credentials come by themselves: tokens are sent by whoever has them, there are no
    /// cookies.
    Any,
}

impl CorsOrigins {
    /// What an answer to a request names as the origin that may read it.
    pub fn allowed(&self, request: &HeaderMap) -> Option<HeaderValue> {
        let origin = request.get(ORIGIN)?;
        match self {
            Self::None => None,
            Self::Some(origins) => origins.iter().find(|known| *known == origin).cloned(),
            Self::Any => Some(HeaderValue::from_static("*")),
        }
    }
}

impl FromStr for CorsOrigins {
    type Err = String;

    /// Comma separated `https://app.example.com`, or `*` alone.
    fn from_str(text: &str) -> Result<Self, String> {
        if text == "*" {
            return Ok(Self::Any);
        }
        let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
        let origins: Vec<HeaderValue> = parts.map(origin).collect::<Result<_, _>>()?;
        match origins.len() {
            0 => Ok(Self::None),
            1..=MOST_ORIGINS => Ok(Self::Some(origins)),
            many => Err(format!("{many} origins; at most {MOST_ORIGINS} are allowed")),
        }
    }
}

/// An origin exactly as browsers send it.
fn origin(text: &str) -> Result<HeaderValue, String> {
    let fault = || format!("`{text}` is not an origin such as https://app.example.com, or * alone for all");
    let url = Url::parse(text).map_err(|_| fault())?;
    let is_bare = matches!(url.scheme(), "http" | "https")
        && url.path() == "/"
        && url.username().is_empty()
        && url.password().is_none()
        && url.query().is_none()
        && url.fragment().is_none();
    let sent = is_bare.then(|| url.origin().ascii_serialization()).ok_or_else(fault)?;
    HeaderValue::try_from(sent).map_err(|_| fault())
}

/// Whether a request asks what a page of another origin may send.
pub fn is_preflight(request: &Request) -> bool {
    request.method() == Method::OPTIONS && request.headers().contains_key(ACCESS_CONTROL_REQUEST_METHOD)
}

/// The answer to that, without what `write` adds.
pub fn preflight() -> Response {
    let mut response = Response::builder().status(StatusCode::NO_CONTENT).finish();
    let headers = response.headers_mut();
    headers.insert(ACCESS_CONTROL_ALLOW_METHODS, METHODS);
    headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, SENT);
    headers.insert(ACCESS_CONTROL_MAX_AGE, MAX_AGE);
    response
}

/// Adds what every answer says. `allowed` is what [`CorsOrigins::allowed`] said of the request.
pub fn write(headers: &mut HeaderMap, secure: bool, origins: &CorsOrigins, allowed: Option<HeaderValue>) {
    headers.reserve(ALWAYS.len() + DEFAULTS.len() + 4);
    for (name, value) in ALWAYS {
        headers.insert(name, value);
    }
    for (name, value) in DEFAULTS {
        headers.entry(name).or_insert(value);
    }
    if secure {
        headers.insert(STRICT_TRANSPORT_SECURITY, HSTS);
    }
    if let CorsOrigins::Some(_) = origins {
        headers.append(VARY, HeaderValue::from_static("origin"));
    }
    if let Some(allowed) = allowed {
        headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, allowed);
        headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, READ);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_is_compared_as_browsers_send_it() {
        let origins: CorsOrigins =
            "https://App.example.com/, http://localhost:5173,https://x.example:443".parse().unwrap();
        for (sent, expected) in [
            ("https://app.example.com", true),
            ("http://localhost:5173", true),
            ("https://x.example", true), // 443 is what https means
            ("https://app.example.com.evil.example", false),
            ("https://evil.example", false),
            ("http://app.example.com", false),
            ("https://app.example.com:8443", false),
            ("null", false),
        ] {
            let request = HeaderMap::from_iter([(ORIGIN, HeaderValue::from_static(sent))]);
            let allowed = origins.allowed(&request);
            assert_eq!(allowed.is_some_and(|value| value == sent), expected, "{sent}");
        }
        assert_eq!(origins.allowed(&HeaderMap::new()), None);
    }

    #[test]
    fn what_is_no_origin_is_refused() {
        let many = (0..65).map(|n| format!("https://a{n}.example")).collect::<Vec<_>>().join(",");
        for bad in [
            "x",
            "null",
            "https://",
            "https://a.example/path",
            "https://u:p@a.example",
            "ftp://a.example",
            "*,x",
            &many,
        ] {
            assert!(bad.parse::<CorsOrigins>().is_err(), "{bad}");
        }
        assert_eq!(" , ".parse(), Ok(CorsOrigins::None));
    }
}
