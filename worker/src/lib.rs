//! Does the jobs of Millwork.

/// What handlers may use.
pub mod context;
/// Contents page: every feature's handlers.
pub mod registry;
/// Claim, run and complete: everything that handlers need not know.
pub mod runtime;
