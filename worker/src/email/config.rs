//! MAIL_URL and MAIL_FROM.

use clap::Args;
use millwork_shared::email::Mailbox;
use millwork_shared::infra::config::{Faults, parse};
use url::Url;

use super::folder::Folder;
use super::mailer::{Mailer, Transport};
use super::smtp::Servers;
use super::templates::Templates;

#[derive(Debug, Clone, Default, Args)]
pub struct MailArgs {
    /// Where mails go: smtp://user:password@host:port?tls=required|opportunistic|none or smtps://…, several separated by
    /// commas (the next is asked when one fails), or file:///folder [default in development: the folder .dev/mail]
    #[arg(long, env = "MAIL_URL", hide_env_values = true)]
    pub mail_url: Option<String>,
    /// Sender of all mails: no-reply@example.com or "Example <no-reply@example.com>"
    #[arg(long, env = "MAIL_FROM")]
    pub mail_from: Option<String>,
}

impl MailArgs {
    pub fn read(&self, faults: &mut Faults) -> Option<Mailer> {
        let (mut url, mut from) = (given(&self.mail_url), given(&self.mail_from));
        if cfg!(debug_assertions) {
            url = url.or_else(folder_of_checkout);
            from = from.or_else(|| Some("Millwork <millwork@localhost>".to_owned()));
        }
        let transport = faults.required("MAIL_URL", &url, transport);
        let from = faults.required("MAIL_FROM", &from, parse::<Mailbox>);
        let templates = Templates::load().map_err(|e| faults.push("mail templates", e)).ok();
        Some(Mailer::new(transport?, from?, templates?))
    }
}

fn given(text: &Option<String>) -> Option<String> {
    text.clone().filter(|t| !t.trim().is_empty())
}

fn folder_of_checkout() -> Option<String> {
    let folder = std::env::current_dir().ok()?.join(".dev/mail");
    Url::from_directory_path(folder).ok().map(String::from)
}

fn transport(text: &str) -> Result<Transport, String> {
    if !text.starts_with("file:") {
        return Servers::parse(text).map(Transport::Servers);
    }
    let url = Url::parse(text).ok().filter(|_| text.starts_with("file:///"));
    let path = url.and_then(|url| url.to_file_path().ok());
    let path = path.ok_or_else(|| format!("`{text}` is not of the form file:///folder"))?;
    Ok(Transport::Folder(Folder::at(path)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults(url: &str, from: &str) -> String {
        let mut faults = Faults::default();
        let args = MailArgs { mail_url: Some(url.into()), mail_from: Some(from.into()) };
        let mailer = args.read(&mut faults);
        match faults.finish() {
            Ok(()) => String::new(),
            Err(e) => {
                assert!(mailer.is_none());
                e.to_string()
            }
        }
    }

    #[test]
    fn addresses_of_every_form_are_accepted() {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        for url in [
            "smtp://mail:1025",
            "smtp://mail.example.com?tls=none",
            "smtp://user:p%40ss%2C%2B@mail.example.com:587?tls=required&connections=5",
            "smtps://user:pass@mail.example.com",
            "smtps://user:pass@[::1]:465, smtp://127.0.0.1:25?tls=opportunistic",
            "file:///var/mail/millwork",
        ] {
            assert_eq!(faults(url, "Example <no-reply@example.com>"), "", "{url}");
        }
    }

    #[test]
    fn what_is_wrong_is_said_without_the_password() {
        for (url, says) in [
            ("http://mail.example.com", "`http:` is not one of"),
            ("mail.example.com", "not a URL"),
            ("smtp://", "host"),
            ("smtp://user:hunter2@", "MAIL_URL: not a URL: empty host"),
            ("smtp://user:hunter2@mail.example.com?tls=yes", "tls=yes is not one of"),
            ("smtp://user:hunter2@mail.example.com?tsl=none", "?tsl= is not one of"),
            ("smtp://user:hunter2@mail.example.com?connections=0", "connections=0"),
            ("smtp://user:hunter2@mail.example.com?idle_s=301", "idle_s=301"),
            ("smtp://user:hunter2@mail.example.com/inbox", "nothing but ?options"),
            ("smtps://user:hunter2@mail.example.com?tls=none", "always encrypted"),
            ("smtps://user:hunter2@mail.example.com?ca=/no/such/file", "ca=/no/such/file"),
            ("smtp://user@mail.example.com", "no password"),
            ("smtp://:hunter2@mail.example.com", "no user"),
            ("smtp://mail:25?tls=none,smtp://user:hunter2@mail:port", "entry 2: not a URL"),
            ("smtp://mail:25?tls=none,", "entry 2"),
            ("file:mail", "file:///folder"),
            ("file://host/mail", "file:///folder"),
        ] {
            let text = faults(url, "no-reply@example.com");
            assert!(text.contains("MAIL_URL: ") && text.contains(says), "{url}: {text}");
            assert!(!text.contains("hunter2"), "{text}");
        }
        assert!(faults("file:///x", "Example <no-reply>").contains("MAIL_FROM: "));
    }
}
