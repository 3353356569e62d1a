//! What content is, by what is in it.
//!
//! After WHATWG's MIME Sniffing, narrowed: magic numbers by the crate `infer`, and the three text formats that have none by
//! what the client says, as long as they are text and no page.

use std::fmt;
use std::str::FromStr;

/// How much of the beginning is looked at.
pub const HEAD_BYTES: usize = 8 * 1024;

/// Content that nothing is known of.
pub const UNKNOWN: &str = "application/octet-stream";

/// Text formats without a mark of their own: which of them it is, the client says, or the name.
const TEXTS: [(&str, &str); 5] = [
    ("text/csv", ".csv"),
    ("application/json", ".json"),
    ("application/x-ndjson", ".ndjson"),
    ("text/markdown", ".md"),
    ("text/plain", ".txt"),
];

/// What a browser may show in place of saving it: no scripts can be in these.
const SHOWN: [&str; 6] = ["image/png", "image/jpeg", "image/gif", "image/webp", "image/avif", "text/plain"];

/// Media types that may be stored: `ALLOWED_MEDIA_TYPES`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MediaTypes(Vec<String>);

impl Default for MediaTypes {
    /// Images, PDF, CSV, JSON, plain text, zip. No SVG: it runs scripts.
    fn default() -> Self {
        let types = "image/png,image/jpeg,image/gif,image/webp,image/avif,application/pdf,text/csv,application/json,\
                     application/x-ndjson,text/plain,application/zip";
        Self(types.split(',').map(str::to_owned).collect())
    }
}

impl FromStr for MediaTypes {
    type Err = String;

    /// `image/png,text/*,…`, or `*` for all.
    fn from_str(text: &str) -> Result<Self, String> {
        let types: Vec<String> = text.split(',').map(|t| t.trim().to_ascii_lowercase()).collect();
        let word = |w: &str| !w.is_empty() && w.bytes().all(|b| b.is_ascii_graphic() && !b"/;,\"".contains(&b));
        match types.iter().find(|t| t.as_str() != "*" && !t.split_once('/').is_some_and(|(a, b)| word(a) && word(b))) {
            Some(bad) => Err(format!("`{bad}` is not a media type, such as image/png or image/*")),
            None => Ok(Self(types)),
        }
    }
}

impl MediaTypes {
    pub fn allow(&self, media_type: &str) -> bool {
        self.0.iter().any(|allowed| match allowed.strip_suffix('*') {
            Some("") => true,
            Some(family) => media_type.starts_with(family),
            None => allowed == media_type,
        })
    }
}

impl fmt::Display for MediaTypes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join(", "))
    }
}

/// Why content may not be stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// It is not what the client says.
    Mismatch { claimed: String, found: String },
    /// It is not among what may be stored.
    NotAllowed { found: String, allowed: String },
}

impl Refusal {
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Mismatch { .. } => "media_type_mismatch",
            Self::NotAllowed { .. } => "media_type_not_allowed",
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Mismatch { claimed, found } => {
                write!(f, "it was announced as {claimed} and is {found} by its content; announce it as what it is")
            }
            Self::NotAllowed { found, allowed } => write!(f, "{found} is not stored here; what may be is {allowed}"),
        }
    }
}

/// The media type of content that begins with `head`, given what the client says of it, if anything, and its name.
///
/// # Errors
/// Says why it may not be stored.
pub fn identify(head: &[u8], claimed: Option<&str>, name: &str, allowed: &MediaTypes) -> Result<String, Refusal> {
    let claimed = claimed.map(essence).filter(|claimed| claimed != UNKNOWN);
    let found = match sniff(head) {
        Sniffed::Type(found) => found.to_owned(),
        Sniffed::Text => match &claimed {
            Some(claimed) if TEXTS.iter().any(|(text, _)| text == claimed) => claimed.clone(),
            // Any other text that may be stored because the operator says so, such as text/x-python.
            Some(claimed) if claimed.starts_with("text/") && !is_page(claimed) => claimed.clone(),
            Some(_) => "text/plain".to_owned(),
            None => by_name(name).to_owned(),
        },
        Sniffed::Nothing => UNKNOWN.to_owned(),
    };
    if let Some(claimed) = claimed.filter(|claimed| *claimed != found && !is_same(claimed, &found)) {
        return Err(Refusal::Mismatch { claimed, found });
    }
    if !allowed.allow(&found) {
        return Err(Refusal::NotAllowed { found, allowed: allowed.to_string() });
    }
    Ok(found)
}

/// Whether a browser may show it, rather than save it.
pub fn may_be_shown(media_type: &str) -> bool {
    SHOWN.contains(&media_type)
}

enum Sniffed {
    Type(&'static str),
    Text,
    Nothing,
}

fn sniff(head: &[u8]) -> Sniffed {
    let head = &head[..head.len().min(HEAD_BYTES)];
    let text = head.strip_prefix(b"\xef\xbb\xbf").unwrap_or(head).trim_ascii_start();
    if text.starts_with(b"<") && contains(text, b"<svg") {
        return Sniffed::Type("image/svg+xml");
    }
    match infer::get(text).filter(|kind| kind.mime_type().starts_with("text/")).or_else(|| infer::get(head)) {
        Some(kind) => Sniffed::Type(match kind.mime_type() {
            "text/xml" => "application/xml",
            other => other,
        }),
        None if is_text(head) => Sniffed::Text,
        None => Sniffed::Nothing,
    }
}

/// UTF-8 without the controls that no text has; the last character may be cut off.
fn is_text(head: &[u8]) -> bool {
    let whole = match std::str::from_utf8(head) {
        Ok(_) => true,
        Err(error) => error.error_len().is_none(),
    };
    whole && !head.iter().any(|b| matches!(b, 0..=8 | 11 | 14..=26 | 28..=31 | 127))
}

fn contains(text: &[u8], word: &[u8]) -> bool {
    text.windows(word.len()).any(|window| window.eq_ignore_ascii_case(word))
}

/// Without parameters, in lower case, by its usual name.
fn essence(media_type: &str) -> String {
    let essence = media_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    match essence.as_str() {
        "image/jpg" => "image/jpeg".to_owned(),
        "application/x-zip-compressed" => "application/zip".to_owned(),
        "application/x-pdf" => "application/pdf".to_owned(),
        "text/xml" => "application/xml".to_owned(),
        "text/json" => "application/json".to_owned(),
        "application/ndjson" | "application/jsonl" | "application/x-jsonlines" => "application/x-ndjson".to_owned(),
        // What some systems call a table.
        "application/csv" | "application/vnd.ms-excel" => "text/csv".to_owned(),
        _ => essence,
    }
}

fn is_page(media_type: &str) -> bool {
    matches!(media_type, "text/html" | "text/xml" | "text/javascript")
}

/// Whether content that was found to be `found` may go by the narrower name `claimed`.
fn is_same(claimed: &str, found: &str) -> bool {
    match found {
        "application/zip" => matches!(claimed, "application/epub+zip" | "application/java-archive"),
        _ => false,
    }
}

fn by_name(name: &str) -> &'static str {
    let name = name.to_ascii_lowercase();
    TEXTS.iter().find(|(_, end)| name.ends_with(end)).map_or("text/plain", |(text, _)| text)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PNG: &[u8] = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR";

    fn found(head: &[u8], claimed: Option<&str>, name: &str) -> Result<String, &'static str> {
        identify(head, claimed, name, &MediaTypes::default()).map_err(|refusal| refusal.code())
    }

    #[test]
    fn what_it_is_follows_from_the_content() {
        for (head, claimed, name, says) in [
            (PNG, None, "x", Ok("image/png")),
            (PNG, Some("image/png; q=1"), "x.jpg", Ok("image/png")),
            (PNG, Some(UNKNOWN), "x", Ok("image/png")),
            (PNG, Some("image/jpeg"), "x", Err("media_type_mismatch")),
            (PNG, Some("text/plain"), "x", Err("media_type_mismatch")),
            (b"%PDF-1.7\n", Some("application/pdf"), "x", Ok("application/pdf")),
            (b"PK\x03\x04rest", Some("application/x-zip-compressed"), "x", Ok("application/zip")),
            (b"a,b\n1,2\n", Some("text/csv"), "x", Ok("text/csv")),
            (b"\xef\xbb\xbfa,b\n", None, "x.CSV", Ok("text/csv")),
            (b"{\"a\":1}", Some("application/json"), "x", Ok("application/json")),
            (b"{\"a\":1}", None, "x", Ok("text/plain")),
            (b"", None, "empty.txt", Ok("text/plain")),
            (b"a,b\n", Some("image/png"), "x.png", Err("media_type_mismatch")),
            (b"MZ\x90\0", None, "x.txt", Err("media_type_not_allowed")),
            (b"\0\x01\x02", Some("text/plain"), "x", Err("media_type_mismatch")),
            (b"\0\x01\x02", None, "x", Err("media_type_not_allowed")),
        ] {
            assert_eq!(found(head, claimed, name).as_deref(), says.as_deref(), "{head:?} {claimed:?} {name}");
        }
    }

    #[test]
    fn pages_do_not_pass_as_text_or_images() {
        let pages: [&[u8]; 5] = [
            b"<!DOCTYPE html><p>",
            b"\xef\xbb\xbf  <html ><script>",
            b"<svg xmlns='http://www.w3.org/2000/svg'>",
            b"<?xml version='1.0'?><!-- x --><SVG>",
            b"<script >alert(1)",
        ];
        for page in pages {
            for claimed in [None, Some("text/plain"), Some("image/png"), Some("text/html"), Some("image/svg+xml")] {
                assert!(found(page, claimed, "x.txt").is_err(), "{page:?} {claimed:?}");
            }
        }
        let all: MediaTypes = "*".parse().unwrap();
        assert_eq!(identify(pages[0], Some("text/html"), "x", &all).unwrap(), "text/html");
        assert!(!may_be_shown("text/html") && !may_be_shown("image/svg+xml") && may_be_shown("image/png"));
    }

    #[test]
    fn text_that_is_cut_within_a_character_is_text() {
        let text = "ü".repeat(HEAD_BYTES);
        assert_eq!(found(&text.as_bytes()[..HEAD_BYTES - 1], None, "x").as_deref(), Ok("text/plain"));
    }

    #[test]
    fn what_may_be_stored_is_read_from_the_configuration() {
        let types: MediaTypes = "image/*, Text/CSV".parse().unwrap();
        assert!(types.allow("image/avif") && types.allow("text/csv") && !types.allow("text/plain"));
        for bad in ["", "image", "image/", "/png", "a/b/c", "image/png;x"] {
            assert!(bad.parse::<MediaTypes>().is_err(), "{bad}");
        }
    }
}
