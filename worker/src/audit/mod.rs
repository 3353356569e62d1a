//! Looks after audit entries.

/// Lets go of what is past its retention.
pub mod expire;
/// Gives entries their places.
pub mod seal;
