//! Calls of a URL that a client wants made later, with retries.

/// Payloads.
pub mod jobs;
