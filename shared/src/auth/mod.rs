//! Who is calling, and the proofs that people hold.

/// Payloads of the jobs that this feature asks for.
pub mod jobs;
/// Single-use tokens that are sent by mail.
pub mod one_time_tokens;
/// Every statement on credentials.
pub mod queries;
