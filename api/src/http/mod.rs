//! The plumbing under every endpoint: who calls, what came in, what goes out.

/// Successful answers: `{"data": …}`.
pub mod answer;
/// JSON bodies, checked against their documented schema.
pub mod body;
/// What browsers are told.
pub mod browsers;
/// The caller of a request and its permissions.
pub mod caller;
/// Answers that are content: ranges, `ETag`, what a browser may do with it.
pub mod content;
/// How long a request may take.
pub mod deadline;
/// The reference as a page.
pub mod docs;
/// The OpenAPI document.
pub mod document;
/// Refusals and failures.
pub mod error;
/// The outermost layer of the server.
pub mod frame;
/// The framework's refusals, explained.
pub mod guard;
/// `Idempotency-Key`.
pub mod idempotency;
/// `If-Match`.
pub mod if_match;
/// Parameters that are read by hand.
mod marked;
/// `?limit=` and `?cursor=`.
pub mod page;
/// What a route needs, said in its signature.
pub mod permitted;
/// `Idempotency-Key` where no tenant asks.
pub mod personal;
/// Problem documents.
pub mod problem;
/// `X-Forwarded-For`.
pub mod proxies;
/// Request id and trace.
pub mod request;
mod schema;
/// Accepts connections.
pub mod server;
/// Bodies that are read as they come.
pub mod streamed;
mod text;
/// Times and raw JSON in bodies.
pub mod types;
/// Uploads.
pub mod upload;

pub use answer::{Accepted, Answer, Created, List, NoContent, Rendered};
pub use body::{Body, QuickBody, RawBody};
pub use caller::{Caller, Credential, Identity, bearer};
pub use error::{ApiError, Result};
pub use idempotency::{Begun, Idempotency, Work};
pub use if_match::IfMatch;
pub use millwork_shared::Fault;
pub use millwork_shared::idempotency::personal::Asker;
pub use millwork_shared::tenants::to;
pub use page::Page;
pub use permitted::{Permitted, PermittedOrOwner};
pub use personal::NotKept;
pub use request::RequestInfo;
pub use types::{RawJson, Time};
