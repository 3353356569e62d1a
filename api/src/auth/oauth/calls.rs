//! Calls to providers. Their addresses are the operator's, so that private ones are fine; what they answer is bounded.

use std::sync::OnceLock;
use std::time::Duration;

use oauth2::http::{HeaderMap, Method, Response, StatusCode, header};
use oauth2::{HttpRequest, HttpResponse};
use serde::de::DeserializeOwned;
use url::Url;

/// Longest time one call may take; a sign-in makes four at most, within the request's own deadline.
const DEADLINE: Duration = Duration::from_millis(3_500);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// Bytes of an answer's body; one that is larger is none.
const ANSWER_MAX_BYTES: usize = 256 * 1024;
/// GitHub asks for a name.
const USER_AGENT: &str = concat!("Millwork/", env!("CARGO_PKG_VERSION"));

/// Why a call has no answer, or none of use.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{0}")]
pub struct CallError(pub String);

/// Calls providers.
#[derive(Debug, Default)]
pub struct Calls {
    client: OnceLock<reqwest::Client>,
}

impl Calls {
    /// Calls once, follows nothing, and reads the whole answer within the deadline.
    pub async fn send(&self, request: HttpRequest) -> Result<HttpResponse, CallError> {
        let host = request.uri().host().unwrap_or_default().to_owned();
        let fault = |what: &str| CallError(format!("{host} {what}"));
        let request = reqwest::Request::try_from(request).map_err(|_| fault("cannot be called at this address"))?;
        let client = self.client()?;
        match tokio::time::timeout(DEADLINE, exchange(client, request)).await {
            Ok(Ok(Some(answer))) => Ok(answer),
            Ok(Ok(None)) => Err(fault("answered more than 256 KiB")),
            Ok(Err(error)) => Err(fault(&format!("does not answer: {:#}", anyhow::Error::from(error.without_url())))),
            Err(_) => Err(fault("does not answer in time")),
        }
    }

    /// A JSON document, with `headers` sent along.
    pub async fn get<T: DeserializeOwned>(&self, url: &Url, headers: HeaderMap) -> Result<T, CallError> {
        let mut request = HttpRequest::new(Vec::new());
        *request.method_mut() = Method::GET;
        *request.uri_mut() = url.as_str().parse().map_err(|_| CallError(format!("{url} is not an address")))?;
        *request.headers_mut() = headers;
        request.headers_mut().entry(header::ACCEPT).or_insert(header::HeaderValue::from_static("application/json"));
        let answer = self.send(request).await?;
        let place = format!("{}{}", url.host_str().unwrap_or_default(), url.path());
        if answer.status() != StatusCode::OK {
            return Err(CallError(format!("{place} answered {}", answer.status().as_u16())));
        }
        serde_json::from_slice(answer.body())
            .map_err(|error| CallError(format!("{place} answered no good JSON: {error}")))
    }

    fn client(&self) -> Result<&reqwest::Client, CallError> {
        if let Some(client) = self.client.get() {
            return Ok(client);
        }
        #[expect(clippy::disallowed_methods, reason = "its addresses are the operator's, and it has a deadline")]
        let client = reqwest::Client::builder()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .referer(false)
            .user_agent(USER_AGENT)
            .connect_timeout(CONNECT_TIMEOUT)
            .pool_max_idle_per_host(4)
            .build()
            .map_err(|error| CallError(format!("the HTTP client cannot be made: {error}")))?;
        Ok(self.client.get_or_init(|| client))
    }
}

/// None when the answer is too large.
async fn exchange(client: &reqwest::Client, request: reqwest::Request) -> reqwest::Result<Option<HttpResponse>> {
    let mut response = client.execute(request).await?;
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await? {
        if body.len() + chunk.len() > ANSWER_MAX_BYTES {
            return Ok(None);
        }
        body.extend_from_slice(&chunk);
    }
    let mut answer = Response::new(body);
    *answer.status_mut() = response.status();
    *answer.headers_mut() = std::mem::take(response.headers_mut());
    Ok(Some(answer))
}
