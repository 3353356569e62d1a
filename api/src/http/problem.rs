//! RFC 9457 problem documents: the one form of every failure, the framework's own included.

use std::borrow::Cow;
use std::sync::Arc;

use millwork_shared::infra::ids::RequestId;
use millwork_shared::infra::panics::Panicked;
use poem::Response;
use poem::error::{MethodNotAllowedError, NotFoundError, ReadBodyError};
use poem::http::{HeaderValue, StatusCode, header};
use poem_openapi::error::{
    AuthorizationError, ContentTypeError, ParseParamError, ParsePathError, ParseRequestPayloadError,
};
use serde::Serialize;
use serde_json::{Map, Value};

use super::Fault;
use super::error::ApiError;
use super::request::RequestInfo;
use crate::metrics::METRICS;

const CONTENT_TYPE: HeaderValue = HeaderValue::from_static("application/problem+json");

/// An [`ApiError`] on its way to the edge, carried in the response's extensions.
#[derive(Debug, Clone)]
pub(super) struct Problem(Arc<ApiError>);

impl From<ApiError> for Problem {
    fn from(error: ApiError) -> Self {
        Self(Arc::new(error))
    }
}

/// Marks an answer whose failing status is what was asked for: a health report.
#[derive(Debug, Clone, Copy)]
pub struct Report;

#[derive(Serialize)]
struct Document<'a> {
    r#type: String,
    title: &'a str,
    status: u16,
    code: &'a str,
    detail: &'a str,
    request_id: &'a str,
    #[serde(skip_serializing_if = "<[Fault]>::is_empty")]
    errors: &'a [Fault],
    #[serde(flatten)]
    members: &'a Map<String, Value>,
}

/// Gives a failed response its document, and logs what is our fault.
///
/// Whatever failed below, no other body than a problem leaves: a response that is not one yet is given the document of its status.
pub(super) fn finish(response: Response, info: &RequestInfo) -> Response {
    let status = response.status();
    let failed = status.is_client_error() || status.is_server_error();
    if !failed || response.data::<Report>().is_some() {
        return response;
    }
    let problem = match response.data::<Problem>() {
        Some(problem) => problem.clone(),
        None => Problem::from(of_status(status)),
    };
    METRICS.refused(problem.0.code());
    log(&problem.0, info);
    render(&problem.0, info)
}

/// A whole answer for a connection whose requests are not read.
pub(super) fn over_the_wire(error: &ApiError) -> Vec<u8> {
    let parts = &error.0;
    let id = RequestId::generate().0.to_string();
    let body = document(error, &id);
    let mut answer = format!("HTTP/1.1 {}\r\n", parts.status).into_bytes();
    let own = [("connection", "close"), ("cache-control", "no-store"), ("x-content-type-options", "nosniff")];
    let (length, content_type) = (body.len().to_string(), CONTENT_TYPE);
    let of_body = [("content-length", length.as_str()), ("x-request-id", &id)];
    let mut line = |name: &str, value: &[u8]| {
        answer.extend_from_slice(name.as_bytes());
        answer.extend_from_slice(b": ");
        answer.extend_from_slice(value);
        answer.extend_from_slice(b"\r\n");
    };
    line("content-type", content_type.as_bytes());
    own.into_iter().chain(of_body).for_each(|(name, value)| line(name, value.as_bytes()));
    parts.headers.iter().for_each(|(name, value)| line(name.as_str(), value.as_bytes()));
    answer.extend_from_slice(b"\r\n");
    answer.extend_from_slice(&body);
    answer
}

fn render(error: &ApiError, info: &RequestInfo) -> Response {
    let parts = &error.0;
    let mut response = Response::builder().status(parts.status).body(document(error, info.id()));
    response.headers_mut().insert(header::CONTENT_TYPE, CONTENT_TYPE);
    for (name, value) in &parts.headers {
        response.headers_mut().insert(name, value.clone());
    }
    response
}

fn document(error: &ApiError, request_id: &str) -> Vec<u8> {
    let parts = &error.0;
    let document = Document {
        r#type: format!("urn:problem-type:millwork:{}", parts.code),
        title: parts.status.canonical_reason().unwrap_or("Error"),
        status: parts.status.as_u16(),
        code: &parts.code,
        detail: &parts.detail,
        request_id,
        errors: &parts.faults,
        members: &parts.members,
    };
    serde_json::to_vec(&document).unwrap_or_default()
}

fn log(error: &ApiError, info: &RequestInfo) {
    let parts = &error.0;
    let category = parts.category.as_str();
    if !parts.status.is_server_error() {
        tracing::debug!(problem.code = %parts.code, error.category = category, "a request was refused");
        return;
    }
    if let Some(panic) = parts.cause.as_ref().and_then(|cause| cause.downcast_ref::<Panicked>()) {
        tracing::error!(
            request.id = info.id(),
            problem.code = %parts.code,
            error.category = category,
            panic = panic.message,
            panic.location = panic.location,
            "a request panicked"
        );
        return;
    }
    let cause = parts.cause.as_ref().map(|c| format!("{c:#}")).unwrap_or_default();
    if parts.status == StatusCode::SERVICE_UNAVAILABLE {
        tracing::warn!(
            request.id = info.id(), problem.code = %parts.code, error.category = category, cause,
            "a request was put off"
        );
    } else {
        tracing::error!(
            request.id = info.id(), problem.code = %parts.code, error.category = category, cause,
            "a request failed"
        );
    }
}

/// The problem of an error that an extractor, a route or the framework made.
pub(super) fn of_framework(error: &poem::Error) -> ApiError {
    if let Some(e) = error.downcast_ref::<ParseParamError>() {
        ApiError::malformed("parameter_invalid", format!("parameter `{}`: {}", e.name, plain(&e.reason)))
    } else if let Some(e) = error.downcast_ref::<ParsePathError>() {
        ApiError::malformed("parameter_invalid", format!("the path is not right: {}", plain(&e.reason)))
    } else if let Some(e) = error.downcast_ref::<ParseRequestPayloadError>() {
        ApiError::malformed("body_malformed", e.reason.clone())
    } else if error.is::<ContentTypeError>() {
        of_status(StatusCode::UNSUPPORTED_MEDIA_TYPE)
    } else if error.is::<AuthorizationError>() {
        of_status(StatusCode::UNAUTHORIZED)
    } else if error.is::<NotFoundError>() {
        of_status(StatusCode::NOT_FOUND)
    } else if error.is::<MethodNotAllowedError>() {
        of_status(StatusCode::METHOD_NOT_ALLOWED)
    } else if let Some(ReadBodyError::PayloadTooLarge) = error.downcast_ref() {
        of_status(StatusCode::PAYLOAD_TOO_LARGE)
    } else if error.status().is_server_error() {
        ApiError::internal(anyhow::anyhow!("{error}"))
    } else {
        of_status(error.status())
    }
}

/// poem-openapi words a parameter's fault as `failed to parse "type": reason`, `failed to parse` being said already.
fn plain(reason: &str) -> Cow<'_, str> {
    match reason.strip_prefix("failed to parse \"").and_then(|rest| rest.split_once("\": ")) {
        Some((_, reason)) => Cow::Borrowed(reason),
        None => Cow::Borrowed(reason),
    }
}

/// The problem of a bare status.
fn of_status(status: StatusCode) -> ApiError {
    let (code, detail) = match status {
        StatusCode::BAD_REQUEST => ("malformed", "the request was not understood"),
        StatusCode::UNAUTHORIZED => {
            return ApiError::unauthenticated(
                "unauthenticated",
                "send `Authorization: Bearer` with an access token or an API key",
            );
        }
        StatusCode::NOT_FOUND => ("route_not_found", "nothing is at this address; /docs lists what there is"),
        StatusCode::METHOD_NOT_ALLOWED => ("method_not_allowed", "the address exists, but not for this method"),
        StatusCode::PAYLOAD_TOO_LARGE => ("body_too_large", "the body is larger than is allowed here"),
        StatusCode::UNSUPPORTED_MEDIA_TYPE => ("media_type_unsupported", "send the body as `application/json`"),
        StatusCode::URI_TOO_LONG => ("uri_too_long", "the address is too long"),
        status if status.is_server_error() => return ApiError::internal(anyhow::anyhow!("bare status {status}")),
        _ => ("refused", "the request was refused"),
    };
    ApiError::new(status, code, detail)
}
