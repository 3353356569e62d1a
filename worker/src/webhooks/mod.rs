//! Events on their way to the endpoints that want them.

/// Standard Webhooks signatures.
pub mod signature;
/// What a receiver does with them.
#[cfg(any(test, feature = "testing"))]
pub mod verify;
