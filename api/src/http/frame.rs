//! The outermost layer: request id, span, deadline, panics, problem documents. One layer, because each costs.

use std::panic::AssertUnwindSafe;
use std::time::Duration;

use futures::FutureExt;
use poem::http::{HeaderValue, StatusCode, header};
use poem::{Endpoint, Request, Response, Result};
use tracing::Instrument;

use super::error::ApiError;
use super::guard::METHODS;
use super::problem;
use super::request::{RequestInfo, X_REQUEST_ID};
use crate::App;

/// Longest time a request may take until its answer begins.
const DEADLINE: Duration = Duration::from_secs(15);

pub struct Frame<E> {
    pub app: App,
    pub inner: E,
}

impl<E: Endpoint<Output = Response>> Endpoint for Frame<E> {
    type Output = Response;

    async fn call(&self, mut request: Request) -> Result<Response> {
        let info = RequestInfo::of(request.headers());
        let span = tracing::info_span!(
            "request",
            request.id = info.id(),
            http.method = request.method().as_str(),
            http.path = request.uri().path(),
        );
        request.set_data(info.clone());
        request.set_data(self.app.clone());
        let answer = async {
            let response = self.answer(request).await;
            problem::finish(response, &info)
        };
        let mut response = answer.instrument(span).await;
        let headers = response.headers_mut();
        headers.insert(X_REQUEST_ID, info.id_header());
        headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        Ok(response)
    }
}

impl<E: Endpoint<Output = Response>> Frame<E> {
    async fn answer(&self, request: Request) -> Response {
        if !METHODS.contains(request.method()) {
            let detail = "the server knows no such method";
            return failed(ApiError::new(StatusCode::NOT_IMPLEMENTED, "method_unknown", detail));
        }
        if !self.app.is_ready() && request.uri().path().starts_with("/api/") {
            return failed(ApiError::unavailable("the service is starting: the database does not answer yet", 2));
        }
        let work = AssertUnwindSafe(self.inner.call(request)).catch_unwind();
        match tokio::time::timeout(DEADLINE, work).await {
            Ok(Ok(Ok(response))) => response,
            Ok(Ok(Err(error))) => error.into_response(),
            Ok(Err(panic)) => failed(ApiError::internal(anyhow::anyhow!("a handler panicked: {}", message(&*panic)))),
            Err(_) => failed(ApiError::unavailable("the request took longer than 15 s and was given up", 5)),
        }
    }
}

fn failed(error: ApiError) -> Response {
    poem::Error::from(error).into_response()
}

fn message(panic: &(dyn std::any::Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("without a message")
}
