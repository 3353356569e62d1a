//! What a failed conversation says: of the mail, or of the server.

use std::error::Error;

use lettre::transport::smtp;
use millwork_shared::jobs::JobError;
use serde::Serialize;

/// How far a conversation had come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    Connect,
    Login,
    From,
    To,
    Data,
    /// From the first byte of the mail to the answer to its last.
    Body,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Blame {
    /// The server will never take this mail, and neither will another.
    Mail,
    /// The server will not take it now; another may.
    Moment,
    /// The server is not in order: nothing is wrong with the mail.
    Server,
    /// It was not even asked.
    Nobody,
    /// The server broke off when it had the whole mail: it may have taken it, so no other is asked in the same run.
    Unsure,
}

#[derive(Debug)]
pub struct Fault {
    pub blame: Blame,
    pub step: Step,
    /// The server's reply code, if it said anything.
    pub code: Option<u16>,
    pub error: JobError,
}

impl Fault {
    pub fn of(step: Step, error: &smtp::Error) -> Self {
        let code = error.status().and_then(|code| code.to_string().parse().ok());
        let blame = match (step, code) {
            (Step::Connect | Step::Login, _) => Blame::Server,
            // Going away; authentication required, too weak, or refused: it is we who are not welcome.
            (_, Some(421 | 530 | 534 | 535 | 538)) => Blame::Server,
            (_, Some(500..)) => Blame::Mail,
            (_, Some(_)) => Blame::Moment,
            (Step::Body, None) => Blame::Unsure,
            (_, None) => Blame::Server,
        };
        let error = match (code, error.source()) {
            (Some(code), Some(said)) => JobError::new(&format!("smtp_{code}"), format!("{code} {said}")),
            (Some(code), None) => JobError::new(&format!("smtp_{code}"), code.to_string()),
            (None, _) => JobError::new("mail_unreachable", error.to_string()),
        };
        Self { blame, step, code, error }
    }

    /// The server did not answer in time.
    pub fn timeout(step: Step) -> Self {
        let blame = if step == Step::Body { Blame::Unsure } else { Blame::Server };
        Self { blame, step, code: None, error: JobError::new("mail_timeout", "the mail server did not answer in time") }
    }

    /// All connections that the server is allowed were busy for as long as the mail could wait.
    pub fn busy() -> Self {
        let error = JobError::new("mail_busy", "no connection to the mail server became free in time");
        Self { blame: Blame::Nobody, step: Step::Connect, code: None, error }
    }

    /// The password would have gone over the wire in the clear.
    pub fn unencrypted() -> Self {
        let error = JobError::new(
            "mail_unencrypted",
            "the mail server offers no encryption, so the password is not sent; MAIL_URL may allow it by ?tls=none",
        );
        Self { blame: Blame::Server, step: Step::Login, code: None, error }
    }
}
