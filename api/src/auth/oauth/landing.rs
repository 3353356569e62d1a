//! How the routes that a browser walks through answer.

use poem::http::{HeaderName, HeaderValue, StatusCode, header};
use poem::{IntoResponse, Response};
use poem_openapi::ApiResponse;
use poem_openapi::registry::{MetaHeader, MetaResponse, MetaResponses, MetaSchema, MetaSchemaRef, Registry};

use crate::auth::types::Session;
use crate::http::Answer;

/// Sends the browser on.
pub struct Found {
    pub location: String,
    pub cookie: HeaderValue,
}

/// Where a sign-in ends.
pub enum Landing {
    /// Here: with tokens.
    Here(Answer<Session>, HeaderValue),
    /// With the front end.
    Back(Found),
}

/// An answer with tokens or codes is nobody's to keep, and its address nobody's to hear of.
pub fn private(headers: &mut poem::http::HeaderMap, cookie: HeaderValue) {
    headers.insert(header::SET_COOKIE, cookie);
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(HeaderName::from_static("referrer-policy"), HeaderValue::from_static("no-referrer"));
}

impl IntoResponse for Found {
    fn into_response(self) -> Response {
        let mut response = Response::builder().status(StatusCode::FOUND).finish();
        if let Ok(location) = HeaderValue::try_from(self.location) {
            response.headers_mut().insert(header::LOCATION, location);
        }
        private(response.headers_mut(), self.cookie);
        response
    }
}

impl IntoResponse for Landing {
    fn into_response(self) -> Response {
        match self {
            Self::Here(answer, cookie) => {
                let mut response = answer.into_response();
                private(response.headers_mut(), cookie);
                response
            }
            Self::Back(found) => found.into_response(),
        }
    }
}

impl ApiResponse for Found {
    fn meta() -> MetaResponses {
        MetaResponses { responses: vec![found("On to the provider")] }
    }

    fn register(_registry: &mut Registry) {}
}

impl ApiResponse for Landing {
    fn meta() -> MetaResponses {
        let mut responses = <Answer<Session> as ApiResponse>::meta().responses;
        responses.push(found("Back to the front end, with `code`, or with `error` and `request_id`"));
        MetaResponses { responses }
    }

    fn register(registry: &mut Registry) {
        <Answer<Session> as ApiResponse>::register(registry);
    }
}

fn found(description: &'static str) -> MetaResponse {
    let location = MetaHeader {
        name: "Location".to_owned(),
        description: Some("Where the browser goes".to_owned()),
        required: true,
        deprecated: false,
        schema: MetaSchemaRef::Inline(Box::new(MetaSchema::new("string"))),
    };
    MetaResponse { description, status: Some(302), status_range: None, content: vec![], headers: vec![location] }
}
