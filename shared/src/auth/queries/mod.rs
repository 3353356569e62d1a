//! Every statement on credentials.

/// Keys of programs.
pub mod api_keys;
/// People as other providers know them.
pub mod identities;
/// Passwords, and the tokens that replace them.
pub mod passwords;
/// Sessions and their refresh tokens.
pub mod sessions;
/// Keys that sign access tokens.
pub mod signing_keys;
/// Second factors.
pub mod totp;
/// Single-use tokens that came by mail.
pub mod verification;
