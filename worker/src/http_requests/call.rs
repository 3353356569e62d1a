//! The kind `http.request`.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, header};
use millwork_shared::Result;
use millwork_shared::http_requests::jobs::HttpRequest;
use millwork_shared::infra::ids::WebhookId;
use millwork_shared::jobs::{JobError, Outcome};
use millwork_shared::webhooks::queries;
use serde::Serialize;
use serde_json::value::{RawValue, to_raw_value};

use crate::context::Context;
use crate::egress::{Answer, BODY_MAX_BYTES, Call, Exchange, Failure, FailureClass, retry_after};
use crate::runtime::Run;
use crate::webhooks::signature;
use crate::webhooks::signing_keys;

/// What the job shows of a successful call.
#[derive(Debug, Serialize)]
struct CallResult {
    status: u16,
    headers: BTreeMap<String, String>,
    /// As text, up to 64 KiB.
    body: String,
    body_truncated: bool,
}

/// What an attempt shows.
#[derive(Debug, Serialize)]
struct CallDetail {
    status: Option<u16>,
    latency_ms: u64,
    error_class: Option<&'static str>,
}

/// Calls once.
///
/// May call twice when a worker dies in between: `X-Request-Id` and a signed call's `webhook-id`, the job's id, stay the
/// same.
pub async fn call(job: HttpRequest, run: Arc<Run>, ctx: Arc<Context>) -> Result<Outcome> {
    let (body, content_type) = match body(job.body.as_deref()) {
        Ok(body) => body,
        Err(error) => return Ok(Outcome::Fail(JobError::new("payload_invalid", error.to_string()))),
    };
    let mut headers = match headers(&job, &run, content_type) {
        Ok(headers) => headers,
        Err(error) => return Ok(Outcome::Fail(JobError::new("payload_invalid", error.to_string()))),
    };
    if let Some(webhook) = job.sign {
        let Some(signed) = sign(&run, &ctx, webhook, &body).await? else {
            return Ok(Outcome::Fail(JobError::new(
                "webhook_unknown",
                format!("there is no webhook {webhook} to sign for"),
            )));
        };
        headers.extend(signed);
    }
    let method = Method::from_bytes(job.method.as_str().as_bytes()).unwrap_or_default();
    let (traceparent, deadline) = (run.cause.traceparent.clone(), run.network_deadline());
    let exchange = ctx.egress.call(Call { method, url: job.url, headers, body, traceparent, deadline }).await;
    run.attempt_detail(&detail(&exchange));
    if let Some(line) = failure(&exchange) {
        run.log(line);
    }
    Ok(outcome(&exchange.outcome, &ctx))
}

/// A string is sent as it is, anything else as JSON, nothing without a body.
fn body(body: Option<&RawValue>) -> serde_json::Result<(Bytes, Option<&'static str>)> {
    Ok(match body {
        None => (Bytes::new(), None),
        Some(raw) if raw.get().starts_with('"') => {
            (Bytes::from(serde_json::from_str::<String>(raw.get())?), Some("text/plain; charset=utf-8"))
        }
        Some(raw) => (Bytes::from(raw.get().to_owned()), Some("application/json")),
    })
}

/// The client's headers, and what it left to us.
fn headers(job: &HttpRequest, run: &Run, content_type: Option<&'static str>) -> Result<HeaderMap, http::Error> {
    let mut headers = HeaderMap::new();
    if let Some(content_type) = content_type {
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    }
    if let Some(id) = &run.cause.request_id {
        headers.insert("x-request-id", HeaderValue::try_from(id)?);
    }
    for (name, value) in &job.headers {
        headers.insert(HeaderName::try_from(name)?, HeaderValue::try_from(value)?);
    }
    Ok(headers)
}

/// Signs by the secret of a webhook; None when the tenant has no such webhook.
async fn sign(run: &Run, ctx: &Context, webhook: WebhookId, body: &[u8]) -> Result<Option<HeaderMap>> {
    let mut tx = ctx.db.tenant(run.tenant).await?;
    let secret = match queries::get_secret(&mut tx, webhook).await {
        Err(millwork_shared::Error::NotFound(_)) => return Ok(None),
        other => other?,
    };
    tx.commit().await?;
    let keys = signing_keys(&ctx.keys, webhook, &secret.sealed_secret, secret.sealed_old_secret.as_deref())?;
    let mut headers = HeaderMap::new();
    for (name, value) in signature::headers(&keys, &run.job.to_string(), ctx.clock.now().timestamp(), body) {
        let value = HeaderValue::try_from(value).map_err(|e| anyhow::anyhow!("a signature is no header: {e}"))?;
        headers.insert(name, value);
    }
    Ok(Some(headers))
}

fn outcome(outcome: &Result<Answer, Failure>, ctx: &Context) -> Outcome {
    match outcome {
        Ok(answer) => {
            let error = JobError::new("http_status", format!("answered {}", answer.status));
            match answer.status {
                200..=299 => Outcome::Done(result(answer)),
                408 | 425 | 429 | 500..=599 => Outcome::Retry { error, after: retry_after(answer, ctx.clock.now()) },
                _ => Outcome::Fail(error),
            }
        }
        Err(failure) => {
            let error = JobError::new(failure.class.as_str(), failure.message.as_str());
            match failure.class {
                FailureClass::InvalidUrl | FailureClass::RefusedAddress => Outcome::Fail(error),
                _ => Outcome::Retry { error, after: None },
            }
        }
    }
}

fn result(answer: &Answer) -> Option<Box<RawValue>> {
    let result = CallResult {
        status: answer.status,
        headers: answer.header_map(),
        body: answer.text(BODY_MAX_BYTES),
        body_truncated: answer.truncated,
    };
    to_raw_value(&result).ok()
}

/// What the job's log says of a call that did not succeed; a good one has its result.
fn failure(exchange: &Exchange) -> Option<String> {
    let latency_ms = exchange.latency.as_millis();
    match &exchange.outcome {
        Ok(answer) if (200..300).contains(&answer.status) => None,
        Ok(answer) => Some(format!("answered {} after {latency_ms} ms", answer.status)),
        Err(failure) => {
            Some(format!("no answer after {latency_ms} ms: {}: {}", failure.class.as_str(), failure.message))
        }
    }
}

fn detail(exchange: &Exchange) -> CallDetail {
    let latency_ms = u64::try_from(exchange.latency.as_millis()).unwrap_or(u64::MAX);
    match &exchange.outcome {
        Ok(answer) => CallDetail { status: Some(answer.status), latency_ms, error_class: None },
        Err(failure) => CallDetail { status: None, latency_ms, error_class: Some(failure.class.as_str()) },
    }
}
