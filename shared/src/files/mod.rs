//! What tenants have stored: names over versions of content.

use std::time::Duration;

/// Payloads of the jobs that this feature asks for.
pub mod jobs;
/// What content is, by what is in it.
pub mod media;
/// Every statement on `files` and `file_versions`.
pub mod queries;
/// What may be stored.
pub mod settings;

/// How long what was deleted can be had back, and keeps its place in storage, though none in the quota.
pub const GRACE: Duration = Duration::from_secs(7 * 86_400);
/// How long a client may take to send the content of a direct upload.
pub const UPLOAD_FOR: Duration = Duration::from_secs(3_600);
/// Versions of a file that are kept, unless it says otherwise.
pub const KEEP_VERSIONS: i32 = 10;
/// Versions of a file that may be kept.
pub const MOST_VERSIONS: i32 = 100;

/// What became of a version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VersionState {
    /// The client sends it straight to storage.
    Uploading,
    /// A job looks at it.
    Verifying,
    Ready,
    /// It is not what was announced, or not allowed.
    Refused,
}

impl VersionState {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Uploading => "uploading",
            Self::Verifying => "verifying",
            Self::Ready => "ready",
            Self::Refused => "refused",
        }
    }
}

/// The last part of a name, which some clients give with a path of theirs.
///
/// # Errors
/// Says what a name has to be.
pub fn clean_name(given: &str) -> Result<&str, &'static str> {
    let name = given.rsplit(['/', '\\']).next().unwrap_or_default().trim();
    if name.is_empty() || matches!(name, "." | "..") || name.chars().count() > 255 {
        return Err("a name has 1 to 255 characters, after the last slash");
    }
    // Controls, and what turns text round so that `exe.txt` is read as `txt.exe`.
    if name.chars().any(|c| c.is_control() || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')) {
        return Err("a name has no control characters, nor such as change the direction of text");
    }
    Ok(name)
}

#[cfg(test)]
mod tests {
    use super::clean_name;

    #[test]
    fn a_name_is_the_last_part_and_has_no_controls() {
        for (given, name) in [
            ("a.txt", "a.txt"),
            ("C:\\fakepath\\a.txt", "a.txt"),
            ("../../etc/passwd", "passwd"),
            (" Übersicht 2026.pdf ", "Übersicht 2026.pdf"),
        ] {
            assert_eq!(clean_name(given), Ok(name));
        }
        for bad in ["", "/", "..", "a/..", "a\0b", "a\nb", "a\u{202e}txt.exe", &"x".repeat(256)] {
            assert!(clean_name(bad).is_err(), "{bad:?}");
        }
    }
}
