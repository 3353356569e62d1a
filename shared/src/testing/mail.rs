//! Mails as their receiver reads them.

use std::path::{Path, PathBuf};

use mail_parser::{MessageParser, PartType};

/// A received mail, decoded by another implementation than the one that wrote it.
#[derive(Debug, Clone)]
pub struct Mail {
    pub raw: Vec<u8>,
    pub subject: String,
    /// The text/plain part, with line feeds.
    pub text: Option<String>,
    /// The text/html part.
    pub html: Option<String>,
    /// Name as written, and value, unfolded but not decoded.
    pub headers: Vec<(String, String)>,
}

impl Mail {
    pub fn parse(raw: Vec<u8>) -> Self {
        let message = MessageParser::default().parse(&raw).expect("a mail can be parsed");
        let (mut text, mut html) = (None, None);
        for part in &message.parts {
            assert!(!part.is_encoding_problem, "a part is not encoded as it says");
            match &part.body {
                PartType::Text(body) => text = Some(body.replace("\r\n", "\n")),
                PartType::Html(body) => html = Some(body.replace("\r\n", "\n")),
                _ => {}
            }
        }
        let unfold = |value: &str| value.replace("\r\n", "").trim().to_owned();
        let headers = message.headers_raw().map(|(name, value)| (name.to_owned(), unfold(value))).collect();
        let subject = message.subject().unwrap_or_default().to_owned();
        Self { subject, text, html, headers, raw }
    }

    /// The value of the only header of that name.
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut found = self.headers.iter().filter(|(n, _)| n.eq_ignore_ascii_case(name));
        let value = found.next().map(|(_, value)| value.as_str());
        assert!(found.next().is_none(), "{name} is there more than once");
        value
    }

    /// The first link in the text that starts with `prefix`.
    pub fn link(&self, prefix: &str) -> Option<&str> {
        let text = self.text.as_deref()?;
        let start = text.find(prefix)?;
        text[start..].split_whitespace().next()
    }
}

/// The folder of a `file:` MAIL_URL.
#[derive(Debug, Clone)]
pub struct MailBox {
    folder: PathBuf,
}

impl MailBox {
    pub fn at(folder: impl Into<PathBuf>) -> Self {
        Self { folder: folder.into() }
    }

    /// A folder of its own, that does not exist yet.
    pub fn fresh() -> Self {
        Self::at(std::env::temp_dir().join(format!("millwork-mail-{}", uuid::Uuid::new_v4().simple())))
    }

    pub fn path(&self) -> &Path {
        &self.folder
    }

    /// What to set MAIL_URL to.
    pub fn url(&self) -> String {
        url::Url::from_directory_path(&self.folder).expect("the folder's path is absolute").into()
    }

    /// The mails so far, oldest first. Files that are not mails yet are no mails.
    pub fn mails(&self) -> Vec<Mail> {
        let Ok(entries) = std::fs::read_dir(&self.folder) else { return Vec::new() };
        let mut paths: Vec<_> = entries.map(|entry| entry.expect("the folder can be read").path()).collect();
        paths.retain(|path| path.extension().is_some_and(|e| e == "eml"));
        paths.sort(); // named by job, and a job's id by time
        paths.iter().map(|path| Mail::parse(std::fs::read(path).expect("a mail can be read"))).collect()
    }

    /// Mails to that bare address.
    pub fn mails_to(&self, address: &str) -> Vec<Mail> {
        let to = |mail: &Mail| mail.header("To").is_some_and(|to| to.trim_end_matches('>').ends_with(address));
        self.mails().into_iter().filter(to).collect()
    }
}
