//! What storage has that the database does not know of, and the other way round.

/// The kind `files.sweep`.
pub mod sweep;

/// What storage and the database have, side by side.
mod compare;
