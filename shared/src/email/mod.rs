//! E-mail: whom it may go to, what it may say, and the job that sends it.

/// One mailbox, safe to put in a header.
pub mod address;
/// The job, and what its payload must look like.
pub mod jobs;
/// The mails that Millwork words itself, and the variables that each needs.
pub mod templates;

pub use address::Mailbox;
pub use templates::Template;

/// Whether `text` may stand in a header: anything that ends a line there could start another header.
pub fn is_one_line(text: &str) -> bool {
    !text.contains(ends_line)
}

/// Makes `text`, which was not checked when it was stored, one line of at most `longest_chars`.
pub fn to_one_line(text: &str, longest_chars: usize) -> String {
    let words: Vec<_> = text.split(|c: char| c.is_whitespace() || ends_line(c)).filter(|w| !w.is_empty()).collect();
    words.join(" ").chars().take(longest_chars).collect()
}

fn ends_line(c: char) -> bool {
    c.is_control() || matches!(c, '\u{2028}' | '\u{2029}')
}
