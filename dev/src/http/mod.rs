//! A small blocking HTTP/1.1 client for talking to Millwork's own processes on loopback, and a receiver for one's own
//! webhooks. No TLS, no redirects, one connection a request; every exchange has one deadline.
//!
//! ```no_run
//! # fn main() -> anyhow::Result<()> {
//! use millwork_dev::http;
//! let job = http::post("http://127.0.0.1:8080/api/v1/jobs")
//!     .bearer("mw_test_…")
//!     .json(&serde_json::json!({"kind": "echo", "payload": {}}))
//!     .send()?
//!     .expect(202)?;
//! let id = job["data"]["id"].as_str();
//! # Ok(())
//! # }
//! ```

pub use client::{Request, Response, delete, get, patch, post, put};
pub use receiver::{Received, Receiver, read_request};

mod client;
mod message;
mod receiver;
