//! Sends mail: words from templates or from the client, by SMTP or into a folder.

/// From words to the bytes that a mail server takes.
pub mod compose;
/// MAIL_URL and MAIL_FROM.
pub mod config;
mod folder;
/// One mail for one run of a job.
pub mod mailer;
mod reach;
/// The kind `email.send`.
pub mod send;
mod smtp;
/// The words of our own mails.
pub mod templates;

pub use config::MailArgs;
pub use mailer::Mailer;
pub use reach::Reach;
