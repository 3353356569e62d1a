//! `If-Match`: a change is made only to the version that the client has seen.

use poem::http::{StatusCode, header};

use super::error::{ApiError, Result};
use super::marked::marked;

/// Names the extractor in the raw document; [`super::document`] puts the header in its place.
pub(super) const MARKER: &str = "x-millwork-if-match";

/// The versions that the client accepts; without the header, any.
#[derive(Debug, Clone)]
pub struct IfMatch(Option<Vec<i32>>);

impl IfMatch {
    /// # Errors
    /// 412 when the thing has another version by now.
    pub fn check(&self, version: i32) -> Result<()> {
        match &self.0 {
            Some(accepted) if !accepted.contains(&version) => Err(ApiError::new(
                StatusCode::PRECONDITION_FAILED,
                "version_stale",
                format!("it was changed meanwhile and is at version {version}; read it again"),
            )
            .with("version", version)),
            _ => Ok(()),
        }
    }

    fn parse(header: Option<&str>) -> Result<Self> {
        let Some(text) = header.map(str::trim).filter(|text| *text != "*") else { return Ok(Self(None)) };
        let version = |tag: &str| tag.trim().strip_prefix('"')?.strip_suffix('"')?.parse().ok();
        let versions: Option<Vec<i32>> = text.split(',').map(version).collect();
        let fault = || ApiError::malformed("if_match_invalid", "If-Match takes a version in quotes, such as \"3\"");
        Ok(Self(Some(versions.ok_or_else(fault)?)))
    }
}

marked!(IfMatch, Header, MARKER, |request| {
    IfMatch::parse(request.headers().get(header::IF_MATCH).map(|v| v.to_str().unwrap_or("\u{fffd}")))
});

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_versions_named_are_accepted() {
        for (header, version, ok) in [
            (None, 3, true),
            (Some("*"), 3, true),
            (Some("\"3\""), 3, true),
            (Some("\"2\", \"3\""), 3, true),
            (Some("\"2\""), 3, false),
        ] {
            assert_eq!(IfMatch::parse(header).unwrap().check(version).is_ok(), ok, "{header:?}");
        }
        for bad in ["3", "W/\"3\"", "", "\"x\"", "\u{fffd}"] {
            assert_eq!(IfMatch::parse(Some(bad)).unwrap_err().code(), "if_match_invalid", "{bad}");
        }
    }
}
