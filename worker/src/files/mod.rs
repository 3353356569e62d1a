//! Files that clients sent straight to storage.

/// The kind `file.verify`.
pub mod verify;
