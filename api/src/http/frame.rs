//! The outermost layer: request id, span, deadline, panics, problem documents. One layer, because each costs.

use std::panic::AssertUnwindSafe;

use futures::FutureExt;
use millwork_shared::audit::{self, Origin};
use millwork_shared::infra::panics;
use millwork_shared::infra::telemetry::traces;
use poem::http::{Method, StatusCode, header};
use poem::{Endpoint, Request, Response, Result};
use tracing::Instrument;

use super::browsers;
use super::deadline::{DEADLINE, Deadline};
use super::error::ApiError;
use super::guard::METHODS;
use super::problem;
use super::request::{RequestInfo, X_REQUEST_ID};
use crate::App;
use crate::limits::Slot;
use crate::metrics::{METRICS, Seen};

/// Longest address, with its query.
const ADDRESS_MAX_BYTES: usize = 8 * 1024;
/// Most headers, and all of them together. The server itself breaks off at 100 and at 64 KiB, without a document.
const HEADERS_MAX: usize = 64;
const HEADERS_MAX_BYTES: usize = 16 * 1024;

pub struct Frame<E> {
    pub app: App,
    pub inner: E,
}

impl<E: Endpoint<Output = Response>> Endpoint for Frame<E> {
    type Output = Response;

    async fn call(&self, mut request: Request) -> Result<Response> {
        let settings = &self.app.settings;
        let mut info = RequestInfo::of(&request, &settings.proxies);
        let allowed = settings.cors.allowed(request.headers());
        let seen = Seen::default();
        let in_flight = METRICS.begin(&seen);
        let span = tracing::info_span!(
            "request",
            request.id = info.id(),
            http.method = request.method().as_str(),
            http.path = logged_path(request.uri().path()),
        );
        // Health checks and scrapes are in no trace.
        let is_traced = traces::are_on() && request.uri().path().starts_with("/api/");
        let trace = if is_traced { info.trace() } else { None };
        let origin = Origin::of_request(
            info.address(),
            request.headers().get(header::USER_AGENT).and_then(|name| name.to_str().ok()),
            info.id(),
        );
        request.set_data(info.clone());
        request.set_data(self.app.clone());
        let standing = Slot::default();
        request.set_data(seen);
        request.set_data(standing.clone());
        let answer = async {
            let response = self.answer(request).await;
            problem::finish(response, &info)
        };
        let mut response = audit::within(origin, answer.instrument(span)).await;
        if let Some(span) = trace {
            note_answer(span, in_flight.route(), response.status());
        }
        in_flight.end(response.status());
        let headers = response.headers_mut();
        headers.insert(X_REQUEST_ID, info.id_header());
        if let Some(standing) = standing.get() {
            standing.write(headers);
        }
        browsers::write(headers, settings.is_secure(), &settings.cors, allowed);
        Ok(response)
    }
}

impl<E: Endpoint<Output = Response>> Frame<E> {
    async fn answer(&self, mut request: Request) -> Response {
        if let Err(error) = check_size(&request) {
            return failed(error);
        }
        if browsers::is_preflight(&request) && self.app.settings.cors.allowed(request.headers()).is_some() {
            return browsers::preflight();
        }
        if !METHODS.contains(request.method()) {
            request.set_method(Method::TRACE); // which no route has either: 405 with what there is, or 404
        }
        if request.uri().path_and_query().is_some_and(|address| address.as_str().contains("%00")) {
            let detail = "the address carries a NUL character (%00)"; // which PostgreSQL's text cannot hold
            return failed(ApiError::malformed("malformed", detail));
        }
        if !self.app.is_ready() && request.uri().path().starts_with("/api/") {
            let detail = "the service is starting: the database does not answer yet";
            return failed(ApiError::unavailable(detail, 2).by_dependency());
        }
        let deadline = Deadline::default();
        request.set_data(deadline.clone());
        let work = AssertUnwindSafe(self.inner.call(request)).catch_unwind();
        tokio::select! {
            biased;
            answer = work => match answer {
                Ok(Ok(response)) => response,
                Ok(Err(error)) => error.into_response(),
                Err(panic) => failed(ApiError::internal(panics::caught(&*panic))),
            },
            () = deadline.pass() => {
                let detail = format!("the request took longer than {} s and was given up", DEADLINE.as_secs());
                failed(ApiError::unavailable(detail, 5))
            }
        }
    }
}

/// 414 and 431: what no client of ours sends, and what would be dear to keep.
fn check_size(request: &Request) -> Result<(), ApiError> {
    let address = request.uri().path_and_query().map_or(0, |address| address.as_str().len());
    if address > ADDRESS_MAX_BYTES {
        let detail = format!("the address has {address} bytes; at most {ADDRESS_MAX_BYTES} are allowed");
        return Err(ApiError::new(StatusCode::URI_TOO_LONG, "uri_too_long", detail));
    }
    let headers = request.headers();
    let bytes: usize = headers.iter().map(|(name, value)| name.as_str().len() + value.len()).sum();
    if headers.len() > HEADERS_MAX || bytes > HEADERS_MAX_BYTES {
        let detail = format!(
            "there are {} headers of {bytes} bytes; at most {HEADERS_MAX} of {HEADERS_MAX_BYTES} bytes are allowed",
            headers.len()
        );
        return Err(ApiError::new(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, "headers_too_large", detail));
    }
    Ok(())
}

/// A path as it may be logged: a link to an object is as good as the object.
fn logged_path(path: &str) -> &str {
    const LINKS: &str = "/api/v1/objects/";
    if path.starts_with(LINKS) { LINKS } else { path }
}

/// Says in the trace what the request was and what became of it.
fn note_answer(mut span: traces::Span, route: Option<(&str, &str)>, status: StatusCode) {
    if let Some((method, pattern)) = route {
        span.rename(format!("{method} {pattern}"));
        span.note("http.request.method", method.to_owned());
        span.note("http.route", pattern.to_owned());
    }
    span.note("http.response.status_code", i64::from(status.as_u16()));
    if status.is_server_error() {
        span.fail(status.as_str());
    }
}

fn failed(error: ApiError) -> Response {
    poem::Error::from(error).into_response()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;
    use millwork_shared::infra::clock::Clock;
    use millwork_shared::infra::crypto::KeyRing;
    use millwork_shared::infra::{db::Db, redis};
    use millwork_shared::jobs::dispatch::Dispatcher;
    use poem::endpoint::make;
    use serde_json::Value;

    use super::*;
    use crate::Parts;
    use crate::config::{Registration, Settings};

    /// An application whose stores are not there.
    fn app() -> App {
        let redis = redis::connect_lazy(&redis::Client::open("redis://127.0.0.1:1/").unwrap()).unwrap();
        let app = App::new(Parts {
            db: Db::connect_lazy("postgres://127.0.0.1:1/none".parse().unwrap(), 1),
            dispatcher: Dispatcher::new(redis.clone()),
            redis,
            keys: Arc::new(KeyRing::parse(&format!("a:{}", STANDARD.encode([1; 32]))).unwrap()),
            storage: millwork_shared::testing::storage(),
            clock: Clock::default(),
            settings: Settings {
                public_url: "http://x.example".into(),
                registration: Registration::Open,
                nets: Default::default(),
                proxies: Default::default(),
                cors: Default::default(),
                limits: Default::default(),
                quotas: Default::default(),
                oauth: Default::default(),
                files: Default::default(),
            },
        });
        app.set_ready();
        app
    }

    async fn problem(response: Response) -> Value {
        assert_eq!(response.headers()[header::CONTENT_TYPE], "application/problem+json");
        assert!(response.headers().contains_key(X_REQUEST_ID));
        serde_json::from_str(&response.into_body().into_string().await.unwrap()).unwrap()
    }

    #[tokio::test]
    async fn a_panic_is_a_problem_that_does_not_tell_why() {
        #[expect(clippy::panic, reason = "that is what is tried")]
        let inner = make(|_| async {
            if true { panic!("the secret is 7") } else { Ok::<_, poem::Error>(Response::default()) }
        });
        let response = Frame { app: app(), inner }.get_response(Request::default()).await;
        assert_eq!(response.status(), 500);
        let problem = problem(response).await;
        assert_eq!(problem["code"], "internal");
        assert!(!problem.to_string().contains("secret"), "{problem}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_without_end_is_given_up() {
        let inner = make(|_| async { std::future::pending::<poem::Result<Response>>().await });
        let response = Frame { app: app(), inner }.get_response(Request::default()).await;
        assert_eq!(
            (response.status().as_u16(), &response.headers()[header::RETRY_AFTER]),
            (503, &"5".parse().unwrap())
        );
        assert_eq!(problem(response).await["code"], "unavailable");
    }

    #[tokio::test]
    async fn a_bare_status_of_anything_below_is_a_problem() {
        for (status, code) in [(400, "malformed"), (413, "body_too_large"), (418, "refused"), (502, "internal")] {
            let inner = make(move |_| async move {
                let status = StatusCode::from_u16(status).unwrap_or_default();
                Ok::<_, poem::Error>(Response::builder().status(status).body("a bare text"))
            });
            let response = Frame { app: app(), inner }.get_response(Request::default()).await;
            assert_eq!(problem(response).await["code"], code);
        }
    }
}
