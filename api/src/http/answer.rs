//! Successful answers.

use std::marker::PhantomData;

use bytes::Bytes;
use poem::http::{HeaderValue, StatusCode, header};
use poem::{IntoResponse, Response};
use poem_openapi::ApiResponse;
use poem_openapi::registry::{
    MetaHeader, MetaMediaType, MetaResponse, MetaResponses, MetaSchema, MetaSchemaRef, Registry,
};
use poem_openapi::types::Type;
use serde::Serialize;

use super::error::Result;
use super::page::Page;

/// `{"data": …}` with a status, already rendered, so that it can be stored for replay before it is sent.
///
/// `T` derives `Object` (for the document) and serde's `Serialize` (for the bytes).
#[derive(Debug, Clone)]
pub struct Answer<T, const STATUS: u16 = 200> {
    rendered: Rendered,
    of: PhantomData<fn() -> T>,
}

/// 201.
pub type Created<T> = Answer<T, 201>;
/// 202: committed, and done later.
pub type Accepted<T> = Answer<T, 202>;
/// 204.
pub type NoContent = Answer<Nothing, 204>;

/// The body of an answer that has none; never rendered, never documented.
#[derive(Debug, poem_openapi::Object)]
pub struct Nothing {}

/// What goes out, and what an idempotency record keeps.
#[derive(Debug, Clone)]
pub struct Rendered {
    pub status: u16,
    pub location: Option<String>,
    pub body: Bytes,
    /// Given by an earlier request with the same `Idempotency-Key`.
    pub replayed: bool,
}

impl<T, const STATUS: u16> Answer<T, STATUS> {
    /// What goes out.
    pub fn rendered(&self) -> &Rendered {
        &self.rendered
    }

    /// An answer as it is sent: rendered now, or stored by an earlier request.
    pub fn from_rendered(rendered: Rendered) -> Self {
        Self { rendered, of: PhantomData }
    }

    pub fn into_rendered(self) -> Rendered {
        self.rendered
    }
}

impl<T: Serialize, const STATUS: u16> Answer<T, STATUS> {
    pub fn new(data: &T) -> Result<Self> {
        #[derive(Serialize)]
        struct Envelope<'a, T> {
            data: &'a T,
        }
        let body = serde_json::to_vec(&Envelope { data }).map_err(super::ApiError::internal)?.into();
        Ok(Self::from_rendered(Rendered { status: STATUS, location: None, body, replayed: false }))
    }

    /// Also says where the thing is, see [`App::url`](crate::App::url).
    pub fn at(data: &T, location: impl Into<String>) -> Result<Self> {
        let mut answer = Self::new(data)?;
        answer.rendered.location = Some(location.into());
        Ok(answer)
    }
}

impl NoContent {
    pub fn done() -> Self {
        Self::from_rendered(Rendered { status: 204, location: None, body: Bytes::new(), replayed: false })
    }
}

impl IntoResponse for Rendered {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::OK);
        let empty = self.body.is_empty();
        let mut response = Response::builder().status(status).body(self.body);
        let headers = response.headers_mut();
        if !empty {
            headers.insert(header::CONTENT_TYPE, JSON);
        }
        if let Some(location) = self.location.and_then(|l| HeaderValue::from_str(&l).ok()) {
            headers.insert(header::LOCATION, location);
        }
        if self.replayed {
            headers.insert("idempotent-replayed", HeaderValue::from_static("true"));
        }
        response
    }
}

const JSON: HeaderValue = HeaderValue::from_static("application/json");

impl<T: Send, const STATUS: u16> IntoResponse for Answer<T, STATUS> {
    fn into_response(self) -> Response {
        self.rendered.into_response()
    }
}

impl<T: Type, const STATUS: u16> ApiResponse for Answer<T, STATUS> {
    fn meta() -> MetaResponses {
        if STATUS == 204 {
            return MetaResponses { responses: vec![response(STATUS, vec![], vec![])] };
        }
        let schema = object(vec![("data", T::schema_ref())]);
        let located = matches!(STATUS, 201 | 202);
        let headers = if located { vec![header_meta("Location", "where the result is")] } else { vec![] };
        MetaResponses { responses: vec![response(STATUS, content(schema), headers)] }
    }

    fn register(registry: &mut Registry) {
        if STATUS != 204 {
            T::register(registry);
        }
    }
}

/// `{"data": […], "meta": {"next_cursor", "limit"}}`.
#[derive(Debug)]
pub struct List<T>(Rendered, PhantomData<fn() -> T>);

impl<T: Serialize> List<T> {
    /// `rows` were fetched with [`Page::fetch`], one more than asked for; `cursor` names the row to go on after.
    pub fn new(page: &Page, mut rows: Vec<T>, cursor: impl FnOnce(&T) -> uuid::Uuid) -> Result<Self> {
        #[derive(Serialize)]
        struct Envelope<T> {
            data: Vec<T>,
            meta: Meta,
        }
        #[derive(Serialize)]
        struct Meta {
            next_cursor: Option<String>,
            limit: usize,
        }
        let more = rows.len() > page.limit();
        rows.truncate(page.limit());
        let next_cursor = if more { rows.last().map(|row| Page::cursor(cursor(row))) } else { None };
        let envelope = Envelope { data: rows, meta: Meta { next_cursor, limit: page.limit() } };
        let body = serde_json::to_vec(&envelope).map_err(super::ApiError::internal)?.into();
        Ok(Self(Rendered { status: 200, location: None, body, replayed: false }, PhantomData))
    }
}

impl<T: Send> IntoResponse for List<T> {
    fn into_response(self) -> Response {
        self.0.into_response()
    }
}

impl<T: Type> ApiResponse for List<T> {
    fn meta() -> MetaResponses {
        let items = MetaSchema { items: Some(Box::new(T::schema_ref())), ..MetaSchema::new("array") };
        let next_cursor = MetaSchema { nullable: true, ..MetaSchema::new("string") };
        let meta = object(vec![("next_cursor", inline(next_cursor)), ("limit", inline(MetaSchema::new("integer")))]);
        let schema = object(vec![("data", inline(items)), ("meta", inline(meta))]);
        MetaResponses { responses: vec![response(200, content(schema), vec![])] }
    }

    fn register(registry: &mut Registry) {
        T::register(registry);
    }
}

fn inline(schema: MetaSchema) -> MetaSchemaRef {
    MetaSchemaRef::Inline(Box::new(schema))
}

fn object(properties: Vec<(&'static str, MetaSchemaRef)>) -> MetaSchema {
    let required = properties.iter().map(|(name, _)| *name).collect();
    MetaSchema { required, properties, ..MetaSchema::new("object") }
}

fn content(schema: MetaSchema) -> Vec<MetaMediaType> {
    vec![MetaMediaType { content_type: "application/json", schema: inline(schema) }]
}

fn header_meta(name: &str, description: &str) -> MetaHeader {
    MetaHeader {
        name: name.to_owned(),
        description: Some(description.to_owned()),
        required: false,
        deprecated: false,
        schema: inline(MetaSchema::new("string")),
    }
}

fn response(status: u16, content: Vec<MetaMediaType>, headers: Vec<MetaHeader>) -> MetaResponse {
    let description = match status {
        201 => "Created",
        202 => "Accepted: committed, and done later",
        204 => "Done; no content",
        _ => "OK",
    };
    MetaResponse { description, status: Some(status), status_range: None, content, headers }
}
