//! Request bodies: strict JSON, checked against the very schema that is documented.

use std::marker::PhantomData;
use std::ops::Deref;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures::{StreamExt, TryStreamExt};
use poem::http::{HeaderMap, StatusCode, header};
use poem::{Request, RequestBody};
use poem_openapi::registry::{MetaMediaType, MetaRequest, MetaSchemaRef, Registry};
use poem_openapi::types::Type;
use poem_openapi::{ApiExtractor, ApiExtractorType, ExtractParamOptions};
use serde::de::DeserializeOwned;
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::Fault;
use super::error::{ApiError, Result};
use super::{schema, text};

/// Largest body of a route that does not say otherwise.
pub const LIMIT_BYTES: usize = 256 * 1024;
/// Longest time a client may take to send its body.
const READ_TIMEOUT: Duration = Duration::from_secs(10);
/// An oversized body is read on for a while, so that the client gets to see the answer and not a reset.
const DRAIN: (usize, Duration) = (4 * 1024 * 1024, Duration::from_secs(2));

/// A JSON body of at most `LIMIT` bytes that fits the schema of `T`.
///
/// `T` derives `Object` (the schema: every constraint written there is enforced, unknown fields are refused, `null`
/// stands for absent) and serde's `Deserialize` (the value, read from the client's own text, so that a
/// [`RawJson`](super::types::RawJson) inside keeps every digit and the order of keys).
#[derive(Debug)]
pub struct Body<T, const LIMIT: usize = LIMIT_BYTES> {
    value: T,
    raw: Bytes,
}

impl<T, const LIMIT: usize> Body<T, LIMIT> {
    pub fn into_inner(self) -> T {
        self.value
    }

    /// What an idempotency key is bound to.
    pub fn hash(&self) -> [u8; 32] {
        hash(&self.raw)
    }
}

impl<T, const LIMIT: usize> Deref for Body<T, LIMIT> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

impl<'a, T: Type + DeserializeOwned + 'static, const LIMIT: usize> ApiExtractor<'a> for Body<T, LIMIT> {
    const TYPES: &'static [ApiExtractorType] = &[ApiExtractorType::RequestObject];
    type ParamType = ();
    type ParamRawType = ();

    fn register(registry: &mut Registry) {
        T::register(registry);
    }

    fn request_meta() -> Option<MetaRequest> {
        let schema: MetaSchemaRef = T::schema_ref();
        let content = vec![MetaMediaType { content_type: "application/json", schema }];
        Some(MetaRequest { description: None, content, required: true })
    }

    async fn from_request(
        request: &'a Request,
        body: &mut RequestBody,
        _options: ExtractParamOptions<()>,
    ) -> poem::Result<Self> {
        let raw = read(request.headers(), body, LIMIT).await?;
        let value = parse(&raw)?;
        Ok(Self { value, raw })
    }
}

/// A JSON body for the hottest route: read once, by serde alone.
///
/// The schema is consulted only for a body that serde refuses, to tell every fault at once. So constraints that serde
/// does not know (ranges, lengths) are the endpoint's to check; [`faults`] then lists all of them.
#[derive(Debug)]
pub struct QuickBody<T, const LIMIT: usize = LIMIT_BYTES>(Body<T, LIMIT>);

impl<T, const LIMIT: usize> QuickBody<T, LIMIT> {
    pub fn into_parts(self) -> (T, Bytes) {
        (self.0.value, self.0.raw)
    }
}

/// Everything about a body that does not fit the documented schema of `T`.
pub fn faults<T: Type + 'static>(raw: &[u8]) -> Result<Vec<Fault>> {
    schema::faults::<T>(&value(raw)?)
}

/// Everything about a value that does not fit the documented schema of `T`.
pub fn faults_of<T: Type + 'static>(value: &Value) -> Result<Vec<Fault>> {
    schema::faults::<T>(value)
}

/// A body as JSON.
pub fn value(raw: &[u8]) -> Result<Value> {
    serde_json::from_slice(raw).map_err(not_json)
}

/// A JSON body that is documented as `T` and was not parsed: for endpoints that look for faults by other means as well,
/// and tell those of all of them at once.
#[derive(Debug)]
pub struct RawBody<T, const LIMIT: usize = LIMIT_BYTES> {
    raw: Bytes,
    of: PhantomData<fn() -> T>,
}

impl<T, const LIMIT: usize> RawBody<T, LIMIT> {
    pub fn into_bytes(self) -> Bytes {
        self.raw
    }
}

impl<'a, T: Type + DeserializeOwned + 'static, const LIMIT: usize> ApiExtractor<'a> for RawBody<T, LIMIT> {
    const TYPES: &'static [ApiExtractorType] = &[ApiExtractorType::RequestObject];
    type ParamType = ();
    type ParamRawType = ();

    fn register(registry: &mut Registry) {
        T::register(registry);
    }

    fn request_meta() -> Option<MetaRequest> {
        <Body<T, LIMIT> as ApiExtractor>::request_meta()
    }

    async fn from_request(
        request: &'a Request,
        body: &mut RequestBody,
        _options: ExtractParamOptions<()>,
    ) -> poem::Result<Self> {
        Ok(Self { raw: read(request.headers(), body, LIMIT).await?, of: PhantomData })
    }
}

impl<'a, T: Type + DeserializeOwned + 'static, const LIMIT: usize> ApiExtractor<'a> for QuickBody<T, LIMIT> {
    const TYPES: &'static [ApiExtractorType] = &[ApiExtractorType::RequestObject];
    type ParamType = ();
    type ParamRawType = ();

    fn register(registry: &mut Registry) {
        T::register(registry);
    }

    fn request_meta() -> Option<MetaRequest> {
        <Body<T, LIMIT> as ApiExtractor>::request_meta()
    }

    async fn from_request(
        request: &'a Request,
        body: &mut RequestBody,
        _options: ExtractParamOptions<()>,
    ) -> poem::Result<Self> {
        let raw = read(request.headers(), body, LIMIT).await?;
        let value = match serde_json::from_slice(&raw) {
            Ok(value) => value,
            Err(_) => parse(&raw)?,
        };
        Ok(Self(Body { value, raw }))
    }
}

/// Reads a JSON body: media type, size and time are checked, and that it is UTF-8 text without NUL and not too deep.
pub async fn read(headers: &HeaderMap, body: &mut RequestBody, limit: usize) -> Result<Bytes> {
    check_media_type(headers)?;
    let body = body.take().map_err(ApiError::internal)?;
    let announced = headers.get(header::CONTENT_LENGTH).and_then(|v| v.to_str().ok()?.parse::<usize>().ok());
    let read = tokio::time::timeout(READ_TIMEOUT, collect(body, announced.unwrap_or(0), limit));
    let raw = read.await.map_err(|_| {
        ApiError::new(StatusCode::REQUEST_TIMEOUT, "body_too_slow", "the body did not arrive within 10 s")
    })??;
    text::check(&raw)?;
    Ok(raw)
}

/// Parses what [`read`] returned.
///
/// # Errors
/// 400 when it is not JSON, 422 with every fault at once when it does not fit.
pub fn parse<T: Type + DeserializeOwned + 'static>(raw: &[u8]) -> Result<T> {
    let value = value(raw)?;
    let faults = schema::faults::<T>(&value)?;
    if !faults.is_empty() {
        return Err(ApiError::invalid(faults));
    }
    // What no schema can say, such as a key that is given twice.
    serde_json::from_slice(raw).map_err(|e| ApiError::invalid(vec![Fault::new("", "invalid", e.to_string())]))
}

/// What an idempotency key is bound to.
pub fn hash(raw: &[u8]) -> [u8; 32] {
    Sha256::digest(raw).into()
}

fn not_json(error: serde_json::Error) -> ApiError {
    ApiError::malformed("body_malformed", format!("the body is not JSON: {error}"))
}

fn check_media_type(headers: &HeaderMap) -> Result<()> {
    let unsupported = |detail| ApiError::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "media_type_unsupported", detail);
    let media_type = headers.get(header::CONTENT_TYPE).map_or(&b""[..], |v| v.as_bytes());
    let essence = media_type.split(|&b| b == b';').next().unwrap_or_default().trim_ascii();
    if !essence.eq_ignore_ascii_case(b"application/json") {
        return Err(unsupported("send the body as `Content-Type: application/json`"));
    }
    match headers.get(header::CONTENT_ENCODING) {
        Some(encoding) if !encoding.as_bytes().eq_ignore_ascii_case(b"identity") => {
            Err(unsupported("send the body without a `Content-Encoding`"))
        }
        _ => Ok(()),
    }
}

async fn collect(body: poem::Body, announced: usize, limit: usize) -> Result<Bytes> {
    let mut chunks = body.into_bytes_stream();
    let mut whole: Option<BytesMut> = None;
    let mut first = Bytes::new();
    while let Some(chunk) = chunks.next().await {
        let chunk = chunk.map_err(|e| ApiError::malformed("body_cut_off", format!("the body broke off: {e}")))?;
        let before = whole.as_ref().map_or(first.len(), BytesMut::len);
        if before + chunk.len() > limit || announced > limit {
            let _ = tokio::time::timeout(DRAIN.1, drain(chunks)).await;
            return Err(ApiError::new(
                StatusCode::PAYLOAD_TOO_LARGE,
                "body_too_large",
                format!("the body is larger than the {limit} bytes that are allowed here"),
            ));
        }
        match &mut whole {
            Some(whole) => whole.extend_from_slice(&chunk),
            None if first.is_empty() => first = chunk, // nearly always the only one: no copy
            None => {
                let mut joined = BytesMut::with_capacity(announced.max(first.len() + chunk.len()));
                joined.extend_from_slice(&first);
                joined.extend_from_slice(&chunk);
                whole = Some(joined);
            }
        }
    }
    Ok(whole.map_or(first, BytesMut::freeze))
}

async fn drain(chunks: impl futures::Stream<Item = std::io::Result<Bytes>>) {
    let mut seen = 0;
    let enough = chunks.try_take_while(|chunk| {
        seen += chunk.len();
        std::future::ready(Ok(seen < DRAIN.0))
    });
    let _ = enough.try_for_each(|_| std::future::ready(Ok(()))).await;
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use futures::stream;

    use super::*;

    fn headers() -> HeaderMap {
        HeaderMap::from_iter([(header::CONTENT_TYPE, poem::http::HeaderValue::from_static("application/json"))])
    }

    fn chunks(chunks: &[&'static str]) -> RequestBody {
        let chunks: Vec<_> = chunks.iter().map(|c| Ok::<_, std::io::Error>(Bytes::from_static(c.as_bytes()))).collect();
        RequestBody::new(poem::Body::from_bytes_stream(stream::iter(chunks)))
    }

    #[tokio::test]
    async fn a_body_that_comes_in_pieces_is_put_together() {
        let raw = read(&headers(), &mut chunks(&["{\"a\"", "", ":1", "}"]), 10).await.unwrap();
        assert_eq!(raw, "{\"a\":1}");
    }

    #[tokio::test]
    async fn the_limit_is_exact_however_the_body_comes() {
        read(&headers(), &mut chunks(&["[1,", "2]"]), 5).await.unwrap();
        let too_large = [&["[1,", "22]"][..], &["[1,22]"], &["[1,2]", " "]];
        for pieces in too_large {
            let error = read(&headers(), &mut chunks(pieces), 5).await.unwrap_err();
            assert_eq!(error.code(), "body_too_large", "{pieces:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_does_not_arrive_is_given_up() {
        let never = stream::pending::<Result<Bytes, Infallible>>();
        let never = never.map(|_| Ok::<_, std::io::Error>(Bytes::new()));
        let mut body = RequestBody::new(poem::Body::from_bytes_stream(never));
        let error = read(&headers(), &mut body, 5).await.unwrap_err();
        assert_eq!((error.status().as_u16(), error.code()), (408, "body_too_slow"));
    }

    #[tokio::test(start_paused = true)]
    async fn an_oversized_body_without_an_end_is_given_up() {
        let endless = stream::repeat_with(|| Ok::<_, std::io::Error>(Bytes::from_static(&[b' '; 4_096])));
        let mut body = RequestBody::new(poem::Body::from_bytes_stream(endless));
        assert_eq!(read(&headers(), &mut body, 5).await.unwrap_err().code(), "body_too_large");
    }
}
