//! Passwords, tokens, API keys: what proves who is calling.

/// Every statement on users' credentials.
pub mod queries;
