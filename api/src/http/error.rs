//! What a request can fail with, as clients see it.

use std::borrow::Cow;

use millwork_shared::tenants::Permission;
use millwork_shared::{Category, Error, Fault};
use poem::http::{HeaderName, HeaderValue, StatusCode, header};
use poem_openapi::registry::{MetaResponses, Registry};
use serde_json::{Map, Value};

use super::problem::Problem;

pub type Result<T, E = ApiError> = std::result::Result<T, E>;

/// A refusal or failure. It becomes an RFC 9457 problem document at the edge, where the request id is known.
#[derive(Debug)]
pub struct ApiError(pub(super) Box<Parts>);

#[derive(Debug)]
pub(super) struct Parts {
    pub status: StatusCode,
    pub code: Cow<'static, str>,
    pub detail: Cow<'static, str>,
    /// For the log.
    pub category: Category,
    pub faults: Vec<Fault>,
    /// Further members of the document, such as the id of the job that holds a unique key.
    pub members: Map<String, Value>,
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// What went wrong inside; logged, never sent.
    pub cause: Option<anyhow::Error>,
}

impl ApiError {
    /// `code` is stable and for programs, `detail` says to people what was wrong and what to do.
    pub fn new(status: StatusCode, code: impl Into<Cow<'static, str>>, detail: impl Into<Cow<'static, str>>) -> Self {
        Self(Box::new(Parts {
            status,
            code: code.into(),
            detail: detail.into(),
            category: if status.is_server_error() { Category::Server } else { Category::Client },
            faults: Vec::new(),
            members: Map::new(),
            headers: Vec::new(),
            cause: None,
        }))
    }

    /// 400: not understood at all.
    pub fn malformed(code: &'static str, detail: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, code, detail)
    }

    /// 401. `detail` must not tell a wrong name from a wrong secret.
    pub fn unauthenticated(code: &'static str, detail: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, code, detail)
            .with_header(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"))
    }

    /// 403, naming what is missing.
    pub fn forbidden(permission: Permission) -> Self {
        Self::new(StatusCode::FORBIDDEN, "permission_missing", format!("this needs the permission `{permission}`"))
            .with("permission", permission.as_str())
    }

    /// 409.
    pub fn conflict(code: &'static str, detail: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::CONFLICT, code, detail)
    }

    /// 422 with every fault of the body.
    pub fn invalid(faults: Vec<Fault>) -> Self {
        let detail = match faults.as_slice() {
            [only] if only.pointer.is_empty() => only.detail.clone(),
            [only] => format!("{}: {}", only.pointer, only.detail),
            many => format!("the body has {} faults, listed in `errors`", many.len()),
        };
        let mut error = Self::new(StatusCode::UNPROCESSABLE_ENTITY, "body_invalid", detail);
        error.0.faults = faults;
        error
    }

    /// 503: the same request may succeed in a moment.
    pub fn unavailable(detail: impl Into<Cow<'static, str>>, retry_after_s: u32) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", detail)
            .with_header(header::RETRY_AFTER, HeaderValue::from(retry_after_s))
    }

    /// 500. The cause goes to the log alone.
    pub fn internal(cause: impl Into<anyhow::Error>) -> Self {
        let mut error = Self::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "internal",
            "something went wrong on our side; it is logged under this request_id",
        );
        error.0.cause = Some(cause.into());
        error
    }

    /// Adds a member to the problem document.
    pub fn with(mut self, member: &str, value: impl Into<Value>) -> Self {
        self.0.members.insert(member.to_owned(), value.into());
        self
    }

    pub fn with_header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.0.headers.push((name, value));
        self
    }

    /// Says that not we failed, but something that we need.
    pub fn by_dependency(mut self) -> Self {
        self.0.category = Category::Dependency;
        self
    }

    pub fn status(&self) -> StatusCode {
        self.0.status
    }

    pub fn code(&self) -> &str {
        &self.0.code
    }

    pub fn detail(&self) -> &str {
        &self.0.detail
    }
}

impl From<Error> for ApiError {
    fn from(error: Error) -> Self {
        let category = error.category();
        let mut mapped = match error {
            Error::NotFound(what) => Self::new(StatusCode::NOT_FOUND, "not_found", format!("{what} not found")),
            Error::Conflict { code, detail } => Self::conflict(code, detail),
            Error::Invalid { field, reason } => {
                let pointer = if field.is_empty() { String::new() } else { format!("/{}", field.replace('.', "/")) };
                Self::invalid(vec![Fault::new(pointer, "invalid", reason)])
            }
            Error::Unavailable { dependency, cause } => {
                let mut error = Self::unavailable(format!("{dependency} does not answer; try again in a moment"), 2);
                error.0.cause = Some(anyhow::anyhow!(cause).context(dependency));
                error
            }
            Error::Internal(cause) => Self::internal(cause),
        };
        mapped.0.category = category;
        mapped
    }
}

impl From<ApiError> for poem::Error {
    fn from(error: ApiError) -> Self {
        let mut outer = Self::from_status(error.status());
        outer.set_data(Problem::from(error));
        outer
    }
}

/// Documented for all operations at once, see [`super::document`].
impl poem_openapi::ApiResponse for ApiError {
    fn meta() -> MetaResponses {
        MetaResponses { responses: Vec::new() }
    }

    fn register(_registry: &mut Registry) {}
}
