//! Work on jobs themselves.

/// Replaying and cancelling many.
pub mod bulk;
