//! An error's words without what they quote.

/// Characters of an error that are told.
const MOST: usize = 500;

/// `text` without what stands in quotation marks, without numbers and without addresses: what a library quotes of its input
/// may be a payload's.
pub(super) fn without_quotations(text: &str) -> String {
    let mut told = String::new();
    let mut rest = text;
    while let Some(at) = rest.find(['"', '`', '\'']) {
        let mark = rest[at..].chars().next().unwrap_or('"');
        let before = rest[..at].chars().next_back();
        let after = &rest[at + mark.len_utf8()..];
        // An apostrophe within a word opens nothing.
        if mark == '\'' && before.is_some_and(char::is_alphanumeric) {
            told.push_str(&rest[..at + 1]);
            rest = after;
            continue;
        }
        told.push_str(&rest[..at]);
        told.push('…');
        rest = after_quotation(after, mark);
    }
    told.push_str(rest);
    let words = told.split(' ').map(|word| {
        let is_private = word.contains('@') || word.chars().any(|c| c.is_ascii_digit());
        if is_private { "…" } else { word }
    });
    words.collect::<Vec<_>>().join(" ").chars().take(MOST).collect()
}

/// What follows the closing mark; nothing when there is none.
fn after_quotation(text: &str, mark: char) -> &str {
    let mut escaped = false;
    for (at, c) in text.char_indices() {
        if c == mark && !escaped {
            return &text[at + c.len_utf8()..];
        }
        escaped = c == '\\' && !escaped;
    }
    ""
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_quoted_is_not_told() {
        for (text, told) in [
            (
                "invalid type: string \"ada@example.com\", expected u32 at line 1",
                "invalid type: string …, expected … at line …",
            ),
            (r#"got "a \" b" here"#, "got … here"),
            ("no column `email` of ada@example.com", "no column … of …"),
            ("it's Olive's", "it's Olive's"),
            ("never 'closed", "never …"),
            (
                "duplicate key value violates unique constraint \"x\"",
                "duplicate key value violates unique constraint …",
            ),
            ("connection refused (os error 111)", "connection refused (os error …"),
        ] {
            assert_eq!(without_quotations(text), told);
        }
        assert_eq!(without_quotations(&"é ".repeat(1_000)).chars().count(), 500);
    }
}
