//! Uploads: a form with one file, or a bare body, read as it comes.

use bytes::Bytes;
use futures::StreamExt;
use multer::{Field, Multipart};
use poem::http::{HeaderMap, StatusCode, header};
use poem::{Request, RequestBody};
use poem_openapi::registry::{MetaMediaType, MetaRequest, MetaSchema, MetaSchemaRef, Registry};
use poem_openapi::{ApiExtractor, ApiExtractorType, ExtractParamOptions};

use super::deadline::Deadline;
use super::error::{ApiError, Result};
use super::streamed::{Budget, DRAIN, FORM_BYTES, Fault, Streamed};

/// `multipart/form-data` with one part, `file` (RFC 7578).
pub struct FileForm {
    form: Multipart<'static>,
    budget: Budget,
    /// Of the whole body, as the client announced it.
    announced: Option<u64>,
}

/// The part `file` of a form.
pub struct FilePart {
    field: Field<'static>,
}

/// A body that is the content itself.
pub struct RawContent {
    body: Streamed,
    announced: Option<u64>,
}

impl FileForm {
    /// An upper bound of the file's size, if the client said how much it sends.
    pub fn at_most(&self) -> Option<u64> {
        self.announced
    }

    /// The file of the form. What comes before it is no form of ours.
    ///
    /// # Errors
    /// 400 when it is not such a form.
    pub async fn file(&mut self) -> Result<FilePart> {
        self.budget.set(FORM_BYTES);
        let field = self.form.next_field().await.map_err(refused)?;
        let field = field.ok_or_else(|| malformed("the form is empty; send the content as its part `file`"))?;
        if field.name() != Some("file") {
            let name = field.name().unwrap_or_default().to_owned();
            return Err(malformed(format!("the form has a part `{name}`; it has one part, `file`, and nothing else")));
        }
        self.budget.set(u64::MAX);
        Ok(FilePart { field })
    }

    /// Reads on for a while after a refusal, so that the client gets to see it.
    pub async fn drain(mut self) {
        self.budget.set(DRAIN.0);
        let _ = tokio::time::timeout(DRAIN.1, async { while let Ok(Some(_)) = self.form.next_field().await {} }).await;
    }

    /// That nothing follows the file; its part must have been read and dropped.
    ///
    /// # Errors
    /// 400 when something does.
    pub async fn end(mut self) -> Result<()> {
        self.budget.set(FORM_BYTES);
        match self.form.next_field().await.map_err(refused)? {
            None => Ok(()),
            Some(_) => Err(malformed("the form has more than one part; it has one, `file`, and nothing else")),
        }
    }
}

impl FilePart {
    /// What the client calls it.
    pub fn name(&self) -> Option<&str> {
        self.field.file_name()
    }

    /// What the client says that it is.
    pub fn media_type(&self) -> Option<String> {
        self.field.content_type().map(|media_type| media_type.essence_str().to_owned())
    }

    /// The next piece of the content; None at its end.
    ///
    /// # Errors
    /// 400 when it breaks off, 408 when it comes too slowly.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>> {
        self.field.chunk().await.map_err(refused)
    }
}

impl RawContent {
    /// How much the client says that it sends.
    pub fn announced(&self) -> Option<u64> {
        self.announced
    }

    /// See [`FilePart::chunk`].
    pub async fn chunk(&mut self) -> Result<Option<Bytes>> {
        self.body.next().await.transpose().map_err(|fault| ApiError::from(&fault))
    }

    /// Reads on for a while after a refusal, so that the client gets to see it.
    pub async fn drain(self) {
        self.body.drain().await;
    }
}

/// How much the client says that it sends.
fn announced(headers: &HeaderMap) -> Option<u64> {
    headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

fn malformed(detail: impl Into<String>) -> ApiError {
    ApiError::malformed("form_malformed", detail.into())
}

/// What the parser, or the body under it, found.
fn refused(error: multer::Error) -> ApiError {
    match &error {
        multer::Error::StreamReadFailed(cause) => match cause.downcast_ref::<Fault>() {
            Some(fault) => fault.into(),
            None => malformed(format!("the form could not be read: {cause}")),
        },
        _ => malformed(format!("the body is no whole form of multipart/form-data: {error}")),
    }
}

fn unsupported(detail: &'static str) -> ApiError {
    ApiError::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "media_type_unsupported", detail)
}

fn check_encoding(headers: &HeaderMap) -> Result<()> {
    match headers.get(header::CONTENT_ENCODING) {
        Some(encoding) if !encoding.as_bytes().eq_ignore_ascii_case(b"identity") => {
            Err(unsupported("send the body without a `Content-Encoding`"))
        }
        _ => Ok(()),
    }
}

fn binary() -> MetaSchemaRef {
    MetaSchemaRef::Inline(Box::new(MetaSchema::new_with_format("string", "binary")))
}

impl<'a> ApiExtractor<'a> for FileForm {
    const TYPES: &'static [ApiExtractorType] = &[ApiExtractorType::RequestObject];
    type ParamType = ();
    type ParamRawType = ();

    fn register(_registry: &mut Registry) {}

    fn request_meta() -> Option<MetaRequest> {
        let form =
            MetaSchema { properties: vec![("file", binary())], required: vec!["file"], ..MetaSchema::new("object") };
        let schema = MetaSchemaRef::Inline(Box::new(form));
        let content = vec![MetaMediaType { content_type: "multipart/form-data", schema }];
        Some(MetaRequest { description: None, content, required: true })
    }

    async fn from_request(
        request: &'a Request,
        body: &mut RequestBody,
        _options: ExtractParamOptions<()>,
    ) -> poem::Result<Self> {
        check_encoding(request.headers())?;
        let media_type = request.headers().get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or_default();
        let boundary = multer::parse_boundary(media_type).map_err(|_| {
            unsupported(
                "send the content as the part `file` of a form, `Content-Type: multipart/form-data; boundary=…`",
            )
        })?;
        // RFC 2046: 1 to 70 characters. The parser puts it together anew for every piece.
        if boundary.is_empty() || boundary.len() > 70 {
            return Err(unsupported("the boundary of a form has 1 to 70 characters").into());
        }
        Deadline::lift(request);
        let body = Streamed::new(body.take().map_err(ApiError::internal)?);
        let budget = body.budget();
        let form = Multipart::new(body, boundary);
        Ok(Self { form, budget, announced: announced(request.headers()) })
    }
}

impl<'a> ApiExtractor<'a> for RawContent {
    const TYPES: &'static [ApiExtractorType] = &[ApiExtractorType::RequestObject];
    type ParamType = ();
    type ParamRawType = ();

    fn register(_registry: &mut Registry) {}

    fn request_meta() -> Option<MetaRequest> {
        let content = vec![MetaMediaType { content_type: "application/octet-stream", schema: binary() }];
        Some(MetaRequest { description: None, content, required: true })
    }

    async fn from_request(
        request: &'a Request,
        body: &mut RequestBody,
        _options: ExtractParamOptions<()>,
    ) -> poem::Result<Self> {
        check_encoding(request.headers())?;
        Deadline::lift(request);
        let body = Streamed::new(body.take().map_err(ApiError::internal)?);
        Ok(Self { body, announced: announced(request.headers()) })
    }
}
