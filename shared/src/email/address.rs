//! One mailbox, safe to put in a header.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use url::Host;

use super::{is_one_line, to_one_line};

const LONGEST_LOCAL: usize = 64; // RFC 5321, 4.5.3.1
const LONGEST_ADDRESS: usize = 254;
const LONGEST_NAME_CHARS: usize = 128;

/// `ada@example.com` or `Ada Lovelace <ada@example.com>`.
///
/// What parses holds no control character, no second address, and an ASCII domain (an international one in its `xn--`
/// form), so that any mail server takes it. Quoted local parts and address literals, which hardly exist outside the
/// standard, are refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Mailbox {
    name: Option<String>,
    local: String,
    domain: String,
}

/// Whether `text` is an address and nothing else. Whether mail arrives there only a mail can tell.
pub fn is_mail_address(text: &str) -> bool {
    text.parse::<Mailbox>().is_ok_and(|mailbox| mailbox.name().is_none() && !text.contains('<'))
}

impl Mailbox {
    /// The bare address `text`, to be shown as `name`, whatever that holds.
    pub fn named(name: &str, text: &str) -> Result<Self, String> {
        let name = to_one_line(&name.replace("=?", "= ?"), LONGEST_NAME_CHARS);
        let (local, domain) = parse_address(text.trim())?;
        Ok(Self { name: (!name.is_empty()).then_some(name), local, domain })
    }

    pub fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    /// What stands before the `@`.
    pub fn local(&self) -> &str {
        &self.local
    }

    pub fn domain(&self) -> &str {
        &self.domain
    }
}

impl FromStr for Mailbox {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if !is_one_line(text) {
            return Err("an address may not contain line breaks or other control characters".into());
        }
        let text = text.trim();
        let Some(inner) = text.strip_suffix('>') else {
            let (local, domain) = parse_address(text)?;
            return Ok(Self { name: None, local, domain });
        };
        let (name, address) = inner.rsplit_once('<').ok_or_else(fault)?;
        let (local, domain) = parse_address(address)?;
        Ok(Self { name: parse_name(name.trim())?, local, domain })
    }
}

fn fault() -> String {
    "not one mailbox such as ada@example.com or Ada Lovelace <ada@example.com>".into()
}

fn parse_address(text: &str) -> Result<(String, String), String> {
    let (local, domain) = text.rsplit_once('@').ok_or_else(fault)?;
    let atoms = local.split('.').all(|atom| !atom.is_empty() && atom.bytes().all(is_atom_byte));
    if !atoms || local.len() > LONGEST_LOCAL {
        return Err(fault());
    }
    let Ok(Host::Domain(domain)) = Host::parse(domain) else { return Err(fault()) };
    let labels = domain.split('.').all(|label| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    });
    if !labels || local.len() + 1 + domain.len() > LONGEST_ADDRESS {
        return Err(fault());
    }
    Ok((local.to_owned(), domain))
}

/// What RFC 5322 calls `atext`.
fn is_atom_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-/=?^_`{|}~".contains(&byte)
}

/// A name as it stands before `<`, with or without its quotes.
fn parse_name(text: &str) -> Result<Option<String>, String> {
    let name = match text.strip_prefix('"') {
        Some(quoted) => unquote(quoted.strip_suffix('"').ok_or_else(fault)?)?,
        // Outside quotes these separate one address from the next.
        None if text.contains(|c| r#"()<>[]:;@\,""#.contains(c)) => return Err(fault()),
        None => text.to_owned(),
    };
    match name.trim() {
        "" => Ok(None),
        name if name.contains("=?") => {
            Err("the name before the address may not contain `=?`: it is sent as it is".into())
        }
        name if name.chars().count() > LONGEST_NAME_CHARS => {
            Err(format!("the name before the address has more than {LONGEST_NAME_CHARS} characters"))
        }
        name => Ok(Some(name.to_owned())),
    }
}

fn unquote(text: &str) -> Result<String, String> {
    let mut plain = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => plain.push(chars.next().ok_or_else(fault)?),
            '"' => return Err(fault()),
            c => plain.push(c),
        }
    }
    Ok(plain)
}

/// For payloads and people; the mailer encodes headers itself.
impl fmt::Display for Mailbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.name {
            Some(name) => {
                let name = name.replace('\\', r"\\").replace('"', r#"\""#);
                write!(f, "\"{name}\" <{}@{}>", self.local, self.domain)
            }
            None => write!(f, "{}@{}", self.local, self.domain),
        }
    }
}

impl TryFrom<String> for Mailbox {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Mailbox> for String {
    fn from(mailbox: Mailbox) -> Self {
        mailbox.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_read_with_and_without_a_name() {
        for (text, name, address) in [
            ("ada@example.com", None, "ada@example.com"),
            (" ada+tag@example.com ", None, "ada+tag@example.com"),
            ("<ada@example.com>", None, "ada@example.com"),
            ("Ada Lovelace <ada@example.com>", Some("Ada Lovelace"), "ada@example.com"),
            (r#""Lovelace, \"Ada\"" <ada@example.com>"#, Some(r#"Lovelace, "Ada""#), "ada@example.com"),
            ("Jörg <joerg@bücher.example>", Some("Jörg"), "joerg@xn--bcher-kva.example"),
            ("o'brien@EXAMPLE.com", None, "o'brien@example.com"),
            ("root@localhost", None, "root@localhost"),
        ] {
            let mailbox: Mailbox = text.parse().unwrap();
            assert_eq!(mailbox.name(), name, "{text}");
            assert_eq!(format!("{}@{}", mailbox.local(), mailbox.domain()), address, "{text}");
            assert_eq!(mailbox.to_string().parse::<Mailbox>().unwrap(), mailbox, "{text}");
        }
    }

    #[test]
    fn what_is_not_one_mailbox_is_refused() {
        let long_local = format!("{}@example.com", "a".repeat(65));
        let long_name = format!("{} <a@example.com>", "n".repeat(129));
        let long_domain = format!("a@{}example.com", "abcdefghi.".repeat(25));
        for text in [
            "",
            "ada",
            "@example.com",
            "ada@",
            "ada@example.com,bob@example.com",
            "ada@example.com, Bob <bob@example.com>",
            "Ada <ada@example.com>, Bob <bob@example.com>",
            "ada@example.com\r\nBcc: eve@example.com",
            "Ada\nBcc: eve@example.com <ada@example.com>",
            "\"Ada\r\" <ada@example.com>",
            "ada@example.com\u{2028}",
            "ada\0@example.com",
            "ada lovelace@example.com",
            ".ada@example.com",
            "a..da@example.com",
            "ada@127.0.0.1",
            "ada@[127.0.0.1]",
            "ada@exa mple.com",
            "ada@-example.com",
            "ada@example..com",
            "ada@example.com.",
            "ada@exam_ple.com",
            "\"ada",
            "\"Ada\" x\" <ada@example.com>",
            "äda@example.com",
            "Ada <ada@example.com",
            "ada@example.com>",
            "=?utf-8?q?Eve?= <ada@example.com>",
            "\"=?utf-8?q?Eve?=\" <ada@example.com>",
            long_local.as_str(),
            long_name.as_str(),
            long_domain.as_str(),
        ] {
            assert!(text.parse::<Mailbox>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_name_from_a_row_is_made_fit_for_a_header() {
        let mailbox = Mailbox::named("Ada\r\nBcc: eve@example.com", "ada@example.com").unwrap();
        assert_eq!(mailbox.name(), Some("Ada Bcc: eve@example.com"));
        assert_eq!(mailbox.to_string().parse::<Mailbox>().unwrap(), mailbox);
        assert_eq!(Mailbox::named("=?utf-8?q?Eve?=", "ada@example.com").unwrap().name(), Some("= ?utf-8?q?Eve?="));
        assert_eq!(Mailbox::named(" \n", "ada@example.com").unwrap().name(), None);
        assert!(Mailbox::named("Ada", "ada@example.com\nx").is_err());
    }

    #[test]
    fn an_address_has_two_sides_and_nothing_that_means_something_in_a_header() {
        for good in
            ["a@b.example", "first.last+tag@sub.example.com", "o'hara@example.com", "u@exämple.de", "a@localhost"]
        {
            assert!(is_mail_address(good), "{good}");
        }
        let long = format!("{}@x.example", "a".repeat(65));
        for bad in [
            "",
            "a",
            "@b",
            "a@",
            "a@b@c",
            "a b@c.d",
            "a@b..c",
            "<a@b.c>",
            "a@b.c\r\nX: y",
            "a,b@c.d",
            "a@.b",
            "ü@b.c",
            &long,
        ] {
            assert!(!is_mail_address(bad), "{bad}");
        }
    }
}
