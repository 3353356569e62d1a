//! Calls of a URL that a client wants made later.

/// The handler of `http.request`.
pub mod call;
