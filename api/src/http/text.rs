//! The outer form of JSON text.

use super::error::{ApiError, Result};

/// Deepest nesting of arrays and objects.
pub const MAX_DEPTH: usize = 64;

/// Refuses text that is empty, not UTF-8, nested too deeply, or escapes what is no character: a NUL, which PostgreSQL's
/// text cannot hold, and half of a surrogate pair, which parsers stumble over. (Serde passes the latter on in what is
/// kept as text.)
///
/// One pass, so that it costs little before a parser that need not look again.
pub fn check(raw: &[u8]) -> Result<()> {
    if raw.trim_ascii().is_empty() {
        return Err(ApiError::malformed("body_missing", "the request needs a JSON body"));
    }
    if std::str::from_utf8(raw).is_err() {
        return Err(ApiError::malformed("body_malformed", "the body is not UTF-8 text"));
    }
    let (mut depth, mut in_string) = (0usize, false);
    let mut rest = raw.iter().enumerate();
    while let Some((at, byte)) = rest.next() {
        match byte {
            b'"' => in_string = !in_string,
            b'\\' if in_string => {
                rest.nth(escape(&raw[at..])? - 2);
            }
            b'[' | b'{' if !in_string => {
                depth += 1;
                if depth > MAX_DEPTH {
                    let detail = format!("the body is nested deeper than {MAX_DEPTH} levels");
                    return Err(ApiError::malformed("body_too_deep", detail));
                }
            }
            b']' | b'}' if !in_string => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    Ok(())
}

/// The length of the escape that `text` begins with. One that is unfinished or unknown is the parser's to refuse.
fn escape(text: &[u8]) -> Result<usize> {
    let fault = |detail| Err(ApiError::malformed("body_malformed", detail));
    match unit(text) {
        Some(0) => fault("the body carries a NUL character (\\u0000)"),
        Some(0xd800..=0xdbff) => match text.get(6..).and_then(unit) {
            Some(0xdc00..=0xdfff) => Ok(12),
            _ => fault("the body carries the first half of a surrogate pair without the second"),
        },
        Some(0xdc00..=0xdfff) => fault("the body carries the second half of a surrogate pair without the first"),
        Some(_) => Ok(6),
        None => Ok(2),
    }
}

/// The UTF-16 unit of an escape such as `\u00e9`.
fn unit(text: &[u8]) -> Option<u16> {
    let digits = text.strip_prefix(b"\\u")?.get(..4)?;
    digits.iter().try_fold(0, |unit, digit| Some(unit << 4 | char::from(*digit).to_digit(16)? as u16))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(raw: &[u8]) -> Option<String> {
        check(raw).err().map(|e| e.code().to_owned())
    }

    #[test]
    fn nesting_is_counted_outside_of_strings_alone() {
        let nested = |n: usize| format!("{}{}", "[".repeat(n), "]".repeat(n)).into_bytes();
        assert_eq!(code(&nested(64)), None);
        assert_eq!(code(&nested(65)).as_deref(), Some("body_too_deep"));
        assert_eq!(code(format!("\"{}\"", "[".repeat(99)).as_bytes()), None);
        assert_eq!(code(format!(r#""\"{}""#, "{".repeat(99)).as_bytes()), None);
        assert_eq!(code(format!(r#""\\"{}"#, "{".repeat(99)).as_bytes()).as_deref(), Some("body_too_deep"));
        assert_eq!(code("{}".repeat(99).as_bytes()), None);
    }

    #[test]
    fn a_nul_is_found_and_an_escaped_backslash_before_u0000_is_not_one() {
        assert!(code(br#"{"a":"x\u0000"}"#).is_some());
        assert!(code(br#"{"a\u0000":1}"#).is_some());
        assert!(code(br#"{"a":"\\\u0000"}"#).is_some());
        assert_eq!(code(br#"{"a":"\\u0000"}"#), None);
        assert_eq!(code(br#"{"a":"\u0001"}"#), None);
    }

    #[test]
    fn half_of_a_surrogate_pair_is_found() {
        for half in [
            r#"["\ud83d"]"#,
            r#"["\uD83Dx"]"#,
            r#"["\ude00"]"#,
            r#"["\ud83d\u0041"]"#,
            r#"["\ud83d\ud83d"]"#,
            r#"["\ud83d\n"]"#,
        ] {
            assert_eq!(code(half.as_bytes()).as_deref(), Some("body_malformed"), "{half}");
        }
        let whole = [r#"["\ud83d\ude00"]"#, r#"["\\ud83d"]"#, r#"["\u00e9\\"]"#, r#""\u12"#, r#"["\ug000"]"#];
        for whole in whole {
            assert_eq!(code(whole.as_bytes()), None, "{whole}");
        }
        assert_eq!(code(br#""\ud83d\ude00\u0000""#).as_deref(), Some("body_malformed"));
        assert_eq!(code(format!(r#"["\u0041"{}"#, "[".repeat(99)).as_bytes()).as_deref(), Some("body_too_deep"));
    }

    #[test]
    fn nothing_and_other_encodings_are_refused() {
        assert_eq!(code(b" \n").as_deref(), Some("body_missing"));
        assert_eq!(code(b"\"\xff\"").as_deref(), Some("body_malformed"));
        assert_eq!(code("\"é\"".as_bytes()), None);
        assert_eq!(code(b"\"\\"), None, "an unfinished escape is the parser's to refuse");
    }
}
