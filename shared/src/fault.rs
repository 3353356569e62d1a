//! What is wrong with something that somebody gave.

use std::borrow::Cow;

/// One thing wrong with a body, or with a row of a file.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Fault {
    /// RFC 6901, from the root of the body.
    pub pointer: String,
    /// Stable, for programs.
    pub code: Cow<'static, str>,
    pub detail: String,
}

impl Fault {
    pub fn new(pointer: impl Into<String>, code: &'static str, detail: impl Into<String>) -> Self {
        Self { pointer: pointer.into(), code: Cow::Borrowed(code), detail: detail.into() }
    }
}
