//! Who is calling, and the proofs that people hold.

/// Payloads of the jobs that this feature asks for.
pub mod jobs;
/// Every statement on credentials.
pub mod queries;
