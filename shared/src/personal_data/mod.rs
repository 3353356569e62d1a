//! Erasing a person (GDPR article 17). What is kept of people, and what becomes of it, is said by
//! [`exports::source::personal`](crate::exports::source::personal), which the copy of their data is made of too.

/// Payloads of the jobs that this feature asks for.
pub mod jobs;
/// What goes.
pub mod queries;

/// What its webhooks are told, so that whoever got the person's data can follow (article 19).
pub const ERASED_EVENT: &str = "user.erased";
