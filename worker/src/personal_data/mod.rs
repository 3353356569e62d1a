//! Erases people.

/// The kind `users.erase`.
pub mod erase;
