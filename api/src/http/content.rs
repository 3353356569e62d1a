//! Answers that are content, not JSON: ranges, `ETag`, and what a browser may do with it (RFC 9110, 6266, 9530).

use std::ops::Range;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use futures::Stream;
use millwork_shared::files::media;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use poem::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use poem::{Body, IntoResponse, Response};
use poem_openapi::ApiResponse;
use poem_openapi::registry::{MetaMediaType, MetaResponse, MetaResponses, MetaSchema, MetaSchemaRef, Registry};

use super::error::{ApiError, Result};

/// RFC 8187's attr-char.
const NAME_CHARACTERS: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'!')
    .remove(b'#')
    .remove(b'$')
    .remove(b'&')
    .remove(b'+')
    .remove(b'-')
    .remove(b'.')
    .remove(b'^')
    .remove(b'_')
    .remove(b'`')
    .remove(b'|')
    .remove(b'~');

const REPR_DIGEST: HeaderName = HeaderName::from_static("repr-digest");
/// Whatever it is, it runs nothing and loads nothing where a browser shows it.
const SANDBOX: HeaderValue = HeaderValue::from_static("default-src 'none'; img-src 'self'; sandbox");
const CACHE: HeaderValue = HeaderValue::from_static("private, no-cache");

/// What is known of the content before a byte of it is read.
#[derive(Debug, Clone)]
pub struct Facts {
    pub size: u64,
    pub sha256: Vec<u8>,
    pub media_type: String,
    /// What it is saved as.
    pub name: String,
    /// Whether a browser is to show it. Only what cannot run scripts is shown; the rest is saved.
    pub inline: bool,
}

/// What the client wants of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wanted {
    Whole,
    Part(Range<u64>),
    /// Nothing: it has it.
    NotModified,
}

/// 200, 206 or 304.
#[derive(Debug)]
pub struct Content(Response);

impl Facts {
    /// A strong validator: the same bytes, the same tag.
    fn etag(&self) -> String {
        let hex: String = self.sha256.iter().map(|byte| format!("{byte:02x}")).collect();
        format!("\"{hex}\"")
    }

    /// Reads `If-None-Match`, `Range` and `If-Range`.
    ///
    /// # Errors
    /// 416 when the range lies beyond the end.
    pub fn wanted(&self, headers: &HeaderMap) -> Result<Wanted> {
        let text = |name: HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
        let etag = self.etag();
        let weakly = |tag: &str| tag.trim().strip_prefix("W/").unwrap_or(tag.trim()) == etag;
        if text(header::IF_NONE_MATCH).is_some_and(|tags| tags.trim() == "*" || tags.split(',').any(weakly)) {
            return Ok(Wanted::NotModified);
        }
        let Some(range) = text(header::RANGE) else { return Ok(Wanted::Whole) };
        // A date says less than the tag that we gave.
        if text(header::IF_RANGE).is_some_and(|tag| tag.trim() != etag) {
            return Ok(Wanted::Whole);
        }
        match parse_range(range, self.size) {
            None => Ok(Wanted::Whole),
            Some(range) if range.is_empty() => {
                let detail = format!("the range `{range:?}` lies beyond the {} bytes of the content", self.size);
                let whole = HeaderValue::try_from(format!("bytes */{}", self.size)).map_err(ApiError::internal)?;
                Err(ApiError::new(StatusCode::RANGE_NOT_SATISFIABLE, "range_not_satisfiable", detail)
                    .with_header(header::CONTENT_RANGE, whole))
            }
            Some(range) => Ok(Wanted::Part(range)),
        }
    }

    /// The bytes that answer it.
    pub fn range(&self, wanted: &Wanted) -> Range<u64> {
        match wanted {
            Wanted::Whole => 0..self.size,
            Wanted::Part(range) => range.clone(),
            Wanted::NotModified => 0..0,
        }
    }

    /// The answer; `bytes` are those of [`range`](Self::range). A stream that fails breaks the connection off, so that the
    /// client knows.
    pub fn answer<E>(
        &self,
        wanted: &Wanted,
        bytes: impl Stream<Item = Result<Bytes, E>> + Send + 'static,
    ) -> Result<Content>
    where
        E: Into<Box<dyn std::error::Error + Send + Sync>> + 'static,
    {
        let range = self.range(wanted);
        let value = |text: String| HeaderValue::try_from(text).map_err(ApiError::internal);
        let mut response = match wanted {
            Wanted::NotModified => Response::builder().status(StatusCode::NOT_MODIFIED).finish(),
            _ => Response::builder()
                .body(Body::from_bytes_stream(futures::TryStreamExt::map_err(bytes, std::io::Error::other))),
        };
        let headers = response.headers_mut();
        headers.insert(header::ETAG, value(self.etag())?);
        headers.insert(header::CACHE_CONTROL, CACHE);
        if *wanted == Wanted::NotModified {
            return Ok(Content(response));
        }
        headers.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from(range.end - range.start));
        headers.insert(header::CONTENT_TYPE, value(with_charset(&self.media_type))?);
        headers.insert(header::CONTENT_DISPOSITION, value(self.disposition())?);
        headers.insert(header::CONTENT_SECURITY_POLICY, SANDBOX);
        headers.insert(REPR_DIGEST, value(format!("sha-256=:{}:", STANDARD.encode(&self.sha256)))?);
        if let Wanted::Part(range) = wanted {
            let part = format!("bytes {}-{}/{}", range.start, range.end - 1, self.size);
            headers.insert(header::CONTENT_RANGE, value(part)?);
            response.set_status(StatusCode::PARTIAL_CONTENT);
        }
        Ok(Content(response))
    }

    /// `Content-Disposition`.
    pub fn disposition(&self) -> String {
        disposition(&self.name, self.inline && media::may_be_shown(&self.media_type))
    }
}

/// `Content-Disposition` (RFC 6266): the name in ASCII for old clients, and as it is for all others.
fn disposition(name: &str, inline: bool) -> String {
    let plain: String =
        name.chars().map(|c| if c.is_ascii_graphic() && !"\"\\%;".contains(c) || c == ' ' { c } else { '_' }).collect();
    let form = if inline { "inline" } else { "attachment" };
    format!("{form}; filename=\"{plain}\"; filename*=UTF-8''{}", utf8_percent_encode(name, NAME_CHARACTERS))
}

fn with_charset(media_type: &str) -> String {
    if media_type.starts_with("text/") { format!("{media_type}; charset=utf-8") } else { media_type.to_owned() }
}

/// One range of bytes; an empty one lies beyond the end. None for what is no such range, or several, which the whole
/// answers as well.
fn parse_range(text: &str, size: u64) -> Option<Range<u64>> {
    let (unit, spec) = text.trim().split_once('=')?;
    let (first, last) = spec.trim().split_once('-')?;
    if !unit.eq_ignore_ascii_case("bytes") || !(first.to_owned() + last).bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let number = |digits: &str| if digits.is_empty() { None } else { Some(digits.parse().unwrap_or(u64::MAX)) };
    match (number(first), number(last)) {
        (Some(first), Some(last)) if first > last => None,
        (Some(first), last) if first < size => Some(first..last.unwrap_or(u64::MAX).saturating_add(1).min(size)),
        (Some(_), _) => Some(size..size),
        (None, Some(suffix)) => Some(size.saturating_sub(suffix)..size),
        (None, None) => None,
    }
}

impl IntoResponse for Content {
    fn into_response(self) -> Response {
        self.0
    }
}

impl ApiResponse for Content {
    fn meta() -> MetaResponses {
        let binary = MetaSchemaRef::Inline(Box::new(MetaSchema::new_with_format("string", "binary")));
        let content = || vec![MetaMediaType { content_type: "*/*", schema: binary.clone() }];
        let of = |status, description, content| MetaResponse {
            description,
            status: Some(status),
            status_range: None,
            content,
            headers: vec![],
        };
        MetaResponses {
            responses: vec![
                of(200, "The content", content()),
                of(206, "The part of it that `Range` asked for", content()),
                of(304, "`If-None-Match` names what it is", vec![]),
            ],
        }
    }

    fn register(_registry: &mut Registry) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(name: &str, media_type: &str, inline: bool) -> Facts {
        Facts { size: 10, sha256: vec![0xab; 32], media_type: media_type.into(), name: name.into(), inline }
    }

    fn wanted(pairs: &[(HeaderName, &str)]) -> Result<Wanted, u16> {
        let headers =
            pairs.iter().map(|(name, value)| (name.clone(), HeaderValue::try_from(*value).unwrap())).collect();
        facts("x", "text/plain", false).wanted(&headers).map_err(|error| error.status().as_u16())
    }

    #[test]
    fn a_range_is_read_as_rfc_9110_says() {
        for (range, expected) in [
            ("bytes=0-", Ok(Wanted::Part(0..10))),
            ("bytes=2-4", Ok(Wanted::Part(2..5))),
            ("Bytes=9-99999999999999999999", Ok(Wanted::Part(9..10))),
            ("bytes=-3", Ok(Wanted::Part(7..10))),
            ("bytes=-30", Ok(Wanted::Part(0..10))),
            ("bytes=10-", Err(416)),
            ("bytes=-0", Err(416)),
            ("bytes=5-4", Ok(Wanted::Whole)),
            ("bytes=0-1,3-4", Ok(Wanted::Whole)),
            ("bytes=-", Ok(Wanted::Whole)),
            ("bytes=a-", Ok(Wanted::Whole)),
            ("pages=0-1", Ok(Wanted::Whole)),
        ] {
            assert_eq!(wanted(&[(header::RANGE, range)]), expected, "{range}");
        }
    }

    #[test]
    fn a_part_is_of_the_same_content_or_it_is_the_whole() {
        let tag = format!("\"{}\"", "ab".repeat(32));
        let range = (header::RANGE, "bytes=0-0");
        assert_eq!(wanted(&[range.clone(), (header::IF_RANGE, &tag)]), Ok(Wanted::Part(0..1)));
        assert_eq!(wanted(&[range.clone(), (header::IF_RANGE, "\"x\"")]), Ok(Wanted::Whole));
        assert_eq!(wanted(&[range.clone(), (header::IF_RANGE, &format!("W/{tag}"))]), Ok(Wanted::Whole));
        assert_eq!(wanted(&[range, (header::IF_NONE_MATCH, &format!("\"x\", W/{tag}"))]), Ok(Wanted::NotModified));
        assert_eq!(wanted(&[(header::IF_NONE_MATCH, "\"x\"")]), Ok(Wanted::Whole));
    }

    #[test]
    fn nothing_in_a_name_ends_the_header_or_the_quotes() {
        let header = facts("a\"; filename=evil.exe\r\nÜ%.txt", "text/plain", false).disposition();
        assert_eq!(
            header,
            "attachment; filename=\"a__ filename=evil.exe____.txt\"; \
             filename*=UTF-8''a%22%3B%20filename%3Devil.exe%0D%0A%C3%9C%25.txt"
        );
    }

    #[test]
    fn what_may_run_scripts_is_never_shown() {
        for (media_type, shown) in [("image/png", true), ("image/svg+xml", false), ("text/html", false)] {
            let header = facts("x", media_type, true).disposition();
            assert_eq!(header.starts_with("inline"), shown, "{media_type}");
        }
        assert!(facts("x", "image/png", false).disposition().starts_with("attachment"));
    }
}
