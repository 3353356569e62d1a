//! From words to the bytes that a mail server takes.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use chrono::{DateTime, Utc};
use lettre::address::Envelope;
use lettre::message::header::{HeaderName, HeaderValue};
use lettre::message::{self, MultiPart, SinglePart};
use lettre::{Address, Message};
use millwork_shared::email::Mailbox;
use millwork_shared::email::jobs::Subject;
use millwork_shared::infra::ids::JobId;

/// What a mail says.
#[derive(Debug, Clone)]
pub struct Words {
    pub subject: Subject,
    pub text: String,
    pub html: Option<String>,
}

/// A mail ready to be sent.
#[derive(Debug)]
pub struct Composed {
    /// The same for every run of a job, so that a receiver can tell a mail that came twice.
    pub message_id: String,
    pub job: JobId,
    pub envelope: Envelope,
    /// ASCII alone, in lines that every server takes.
    pub bytes: Vec<u8>,
}

/// # Errors
/// Fails when an address does not suit the library that writes the headers, which a test rules out.
pub fn compose(job: JobId, from: &Mailbox, to: &Mailbox, words: &Words, at: DateTime<Utc>) -> anyhow::Result<Composed> {
    let (sender, recipient) = (mailbox(from)?, mailbox(to)?);
    let envelope = Envelope::new(Some(sender.email.clone()), vec![recipient.email.clone()])?;
    let message_id = format!("<{job}@{}>", from.domain());
    let builder = Message::builder()
        .from(sender)
        .to(recipient)
        .raw_header(subject(words.subject.as_str()))
        .date(at.into())
        .message_id(Some(message_id.clone()))
        // RFC 3834: keeps holiday notices from answering.
        .raw_header(HeaderValue::new(HeaderName::new_from_ascii_str("Auto-Submitted"), "auto-generated".to_owned()));
    let text = words.text.clone();
    let message = match &words.html {
        Some(html) => builder.multipart(MultiPart::alternative_plain_html(text, html.clone()))?,
        None => builder.singlepart(SinglePart::plain(text))?,
    };
    Ok(Composed { message_id, job, envelope, bytes: message.formatted() })
}

/// The library leaves ASCII as it is, even where a reader would take it for encoded.
fn subject(text: &str) -> HeaderValue {
    let name = HeaderName::new_from_ascii_str("Subject");
    if !text.contains("=?") {
        return HeaderValue::new(name, text.to_owned());
    }
    let mut words = vec![String::new()];
    for c in text.chars() {
        match words.last_mut() {
            Some(word) if word.len() + c.len_utf8() <= 45 => word.push(c), // RFC 2047: 75 characters when encoded
            _ => words.push(c.to_string()),
        }
    }
    let encoded: Vec<_> = words.iter().map(|word| format!("=?utf-8?b?{}?=", STANDARD.encode(word))).collect();
    HeaderValue::dangerous_new_pre_encoded(name, text.to_owned(), encoded.join("\r\n "))
}

fn mailbox(mailbox: &Mailbox) -> anyhow::Result<message::Mailbox> {
    let address = Address::new(mailbox.local(), mailbox.domain())?;
    Ok(message::Mailbox::new(mailbox.name().map(str::to_owned), address))
}

#[cfg(test)]
mod tests {
    use chrono::TimeZone;
    use millwork_shared::testing::mail::Mail;

    use super::*;

    fn composed(to: &str, subject: &str, text: &str, html: Option<&str>) -> Mail {
        let words = Words {
            subject: Subject::try_from(subject.to_owned()).unwrap(),
            text: text.to_owned(),
            html: html.map(str::to_owned),
        };
        let from = "Müller & Söhne <no-reply@example.com>".parse().unwrap();
        let at = Utc.with_ymd_and_hms(2026, 11, 21, 9, 0, 0).unwrap();
        let mail = compose(JobId::generate(), &from, &to.parse().unwrap(), &words, at).unwrap();
        let crlf_alone = mail.bytes.split(|b| *b == b'\n').all(|line| line.len() <= 999);
        assert!(mail.bytes.is_ascii() && crlf_alone, "not every server takes this");
        Mail::parse(mail.bytes)
    }

    #[test]
    fn what_was_written_is_what_is_read_whatever_its_characters() {
        let long = "ein sehr langer Satz mit Ümlauten, der sich wiederholt; ".repeat(60);
        for (subject, text) in [
            ("Hi", "Hello\n"),
            ("Ünïcödé ✓ 漢字", "Grüße\n.\n..dots\n\nEnd"),
            (&"ö".repeat(255), long.as_str()),
            ("=?utf-8?q?raw?= ünd ", "From here\n-- \nx"),
            (&"=?".repeat(127), "x"),
            ("tab and 🙂", ""),
            ("a  b", "control \u{1} and nul \0 and \u{85}"),
        ] {
            let mail = composed(r#""Zoë \"Z\"" <zoe@example.com>"#, subject, text, Some(text));
            assert_eq!(mail.subject, subject);
            let expected = text.replace("\r\n", "\n");
            assert_eq!(mail.text.as_deref().map(str::trim_end), Some(expected.trim_end()), "{subject}");
            assert_eq!(mail.html.as_deref().map(str::trim_end), Some(expected.trim_end()), "{subject}");
        }
    }

    #[test]
    fn every_mailbox_that_the_payload_may_name_can_be_written_to() {
        let local = "!#$%&'*+-/=?^_`{|}~.a";
        let longest = format!("{}@example.com", "a".repeat(64));
        for (text, header) in [
            ("ada@example.com", "ada@example.com"),
            (&format!("{local}@example.com"), local),
            (&longest, longest.as_str()),
            ("a@bücher.example", "a@xn--bcher-kva.example"),
            ("root@localhost", "root@localhost"),
            ("a@b.c", "a@b.c"),
            ("a@1.example", "a@1.example"),
            (r#""Lovelace, \"Ada\" <x>" <ada@example.com>"#, "<ada@example.com>"),
            ("a@xn--p1ai", "a@xn--p1ai"),
        ] {
            let mail = composed(text, "Hi", "Hello", None);
            assert!(mail.header("To").unwrap().contains(header), "{text}: {:?}", mail.header("To"));
        }
    }

    #[test]
    fn the_headers_say_who_when_and_that_a_program_wrote() {
        let mail = composed("ada@example.com", "Hi", "Hello", None);
        assert_eq!(mail.header("Date"), Some("Sat, 21 Nov 2026 09:00:00 +0000"));
        assert_eq!(mail.header("Auto-Submitted"), Some("auto-generated"));
        assert!(mail.header("Message-ID").unwrap().ends_with("@example.com>"));
        assert!(mail.header("From").unwrap().ends_with("<no-reply@example.com>"));
        assert_eq!(mail.html, None);
    }
}
