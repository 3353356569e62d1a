//! Who is calling, and the proofs that people hold.

/// Payloads of the jobs that this feature asks for.
pub mod jobs;
/// Single-use tokens that are sent by mail.
pub mod one_time_tokens;
/// Every statement on credentials.
pub mod queries;
/// News of what was revoked.
pub mod revocation;
/// Making the keys that sign access tokens.
pub mod signing_keys;

/// Where a session is used from, as far as the client tells. For people to recognise their sessions by.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Client {
    pub address: Option<String>,
    /// Bounded in length.
    pub user_agent: Option<String>,
}
