//! Paging by cursor, newest first.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use uuid::Uuid;

use super::error::{ApiError, Result};
use super::marked::marked;

const DEFAULT_LIMIT: usize = 50;
const MAX_LIMIT: usize = 100;
/// Leads every cursor, so that a cursor of another form can follow one day.
const CURSOR_V1: u8 = 1;
/// Names the extractor in the raw document; [`super::document`] puts `limit` and `cursor` in its place.
pub(super) const MARKER: &str = "x-millwork-page";

/// `?limit=` and `?cursor=`. Take it as an argument named `page`.
#[derive(Debug, Clone, Copy)]
pub struct Page {
    limit: usize,
    after: Option<Uuid>,
}

impl Page {
    pub fn limit(&self) -> usize {
        self.limit
    }

    /// Rows to ask the database for: one more than will be shown, which tells whether there is a next page.
    pub fn fetch(&self) -> i64 {
        self.limit as i64 + 1
    }

    /// Only rows with a smaller id than this belong to the page.
    pub fn before(&self) -> Option<Uuid> {
        self.after
    }

    /// The cursor that goes on after the row `id`. Opaque to clients: its form may change.
    pub fn cursor(id: Uuid) -> String {
        let mut bytes = [CURSOR_V1; 17];
        bytes[1..].copy_from_slice(id.as_bytes());
        URL_SAFE_NO_PAD.encode(bytes)
    }

    /// Reads a query string.
    ///
    /// # Errors
    /// 400 for a limit or a cursor that is none.
    pub fn parse(query: &str) -> Result<Self> {
        let (mut limit, mut after) = (None, None);
        for (name, value) in url::form_urlencoded::parse(query.as_bytes()) {
            match &*name {
                "limit" => limit = Some(value),
                "cursor" => after = Some(value),
                _ => {}
            }
        }
        let limit = match limit {
            None => DEFAULT_LIMIT,
            Some(text) => text.parse().ok().filter(|n| (1..=MAX_LIMIT).contains(n)).ok_or_else(|| {
                ApiError::malformed(
                    "parameter_invalid",
                    format!("parameter `limit`: not a number from 1 to {MAX_LIMIT}"),
                )
            })?,
        };
        Ok(Self { limit, after: after.map(|text| decode(&text)).transpose()? })
    }
}

fn decode(text: &str) -> Result<Uuid> {
    let fault =
        || ApiError::malformed("invalid_cursor", "the cursor is not one that this list gave out; start without it");
    let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| fault())?;
    match bytes.split_first() {
        Some((&CURSOR_V1, id)) => Uuid::from_slice(id).map_err(|_| fault()),
        _ => Err(fault()),
    }
}

marked!(Page, Query, MARKER, |request| Page::parse(request.uri().query().unwrap_or_default()));

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_comes_back_as_the_id_it_was_made_of() {
        let id = Uuid::from_u128(7);
        let page = Page::parse(&format!("cursor={}&limit=3", Page::cursor(id))).unwrap();
        assert_eq!((page.before(), page.limit(), page.fetch()), (Some(id), 3, 4));
    }

    #[test]
    fn what_is_no_cursor_or_no_limit_is_refused() {
        let other_version = URL_SAFE_NO_PAD.encode([2; 17]);
        for query in ["cursor=x", "cursor=", "cursor=AQ", &format!("cursor={other_version}"), "cursor=%00"] {
            assert_eq!(Page::parse(query).unwrap_err().code(), "invalid_cursor", "{query}");
        }
        for query in ["limit=0", "limit=101", "limit=-1", "limit=", "limit=1e2", "limit=1&limit=x"] {
            assert_eq!(Page::parse(query).unwrap_err().code(), "parameter_invalid", "{query}");
        }
    }
}
