//! The way to the collector. The exporter's own thread hands it batches; the process's runtime sends them.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Context;
use opentelemetry_http::{Bytes, HttpClient, HttpError, Request, Response};
use tokio::runtime::Handle;

/// Longest time one export may take. Its end or not, work goes on: what finds no room in the queue is dropped.
pub(super) const DEADLINE: Duration = Duration::from_secs(10);
/// Bytes of an answer that are read.
const ANSWER_MAX_BYTES: usize = 64 * 1024;
/// A collector that is down is spoken of once in this time.
const QUIET: Duration = Duration::from_secs(60);

#[derive(Debug)]
pub(super) struct Collector {
    client: reqwest::Client,
    runtime: Handle,
    /// When its failure was last spoken of, while it lasts.
    spoken: Mutex<Option<Instant>>,
}

impl Collector {
    pub(super) fn new() -> anyhow::Result<Self> {
        #[expect(clippy::disallowed_methods, reason = "its address is the operator's, and it has a deadline")]
        let client = reqwest::Client::builder()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(DEADLINE / 2)
            .timeout(DEADLINE)
            .build()
            .context("the HTTP client for traces cannot be made")?;
        Ok(Self { client, runtime: Handle::current(), spoken: Mutex::default() })
    }

    fn note(&self, result: &Result<Response<Bytes>, HttpError>) {
        let fault = match result {
            Ok(response) if response.status().is_success() => None,
            Ok(response) => Some(format!("answered {}", response.status().as_u16())),
            Err(error) => Some(error.to_string()),
        };
        let mut spoken = self.spoken.lock().unwrap_or_else(PoisonError::into_inner);
        match (fault, *spoken) {
            (Some(error), last) if last.is_none_or(|last| last.elapsed() >= QUIET) => {
                *spoken = Some(Instant::now());
                tracing::warn!(error, "traces cannot be exported; they are dropped");
            }
            (None, Some(_)) => {
                *spoken = None;
                tracing::info!("traces are exported again");
            }
            _ => {}
        }
    }
}

#[async_trait::async_trait]
impl HttpClient for Collector {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let request = reqwest::Request::try_from(request)?;
        // The caller's thread has no runtime.
        let sent = self.runtime.spawn(send(self.client.clone(), request)).await;
        let result = sent.map_err(Into::into).flatten();
        self.note(&result);
        result
    }
}

async fn send(client: reqwest::Client, request: reqwest::Request) -> Result<Response<Bytes>, HttpError> {
    let plain = |error: reqwest::Error| HttpError::from(format!("{:#}", anyhow::Error::from(error.without_url())));
    let mut response = client.execute(request).await.map_err(plain)?;
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(plain)? {
        if body.len() + chunk.len() > ANSWER_MAX_BYTES {
            break;
        }
        body.extend_from_slice(&chunk);
    }
    let mut answer = Response::new(Bytes::from(body));
    *answer.status_mut() = response.status();
    *answer.headers_mut() = std::mem::take(response.headers_mut());
    Ok(answer)
}
