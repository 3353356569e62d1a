//! The worker's handlers against a real database and real peers.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod auth;
mod bulk;
mod egress;
mod email;
mod exports;
mod http_requests;
mod imports;
mod invitations;
mod maintenance;
mod objects;
mod personal_data;
mod runtime;
mod support;
mod webhooks;
