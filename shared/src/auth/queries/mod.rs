//! Every statement on credentials.

/// Keys of programs.
pub mod api_keys;
/// Refresh tokens, by families: a family is a session.
pub mod sessions;
/// Keys that sign access tokens.
pub mod signing_keys;
/// Single-use tokens that came by mail.
pub mod verification;
