//! Payloads of the jobs that this feature asks for.

use serde::{Deserialize, Serialize};

use crate::infra::ids::UserId;
use crate::jobs::{Job, Queue};

/// Greets a user by mail.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct SendWelcome {
    pub user: UserId,
}

impl Job for SendWelcome {
    const KIND: &'static str = "auth.send_welcome";
    const QUEUE: Queue = Queue::Email;
}

/// Tells a user that somebody guesses at their password.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct SendLockout {
    pub user: UserId,
    pub failures: u32,
    /// Where the last attempt came from.
    pub address: Option<String>,
}

impl Job for SendLockout {
    const KIND: &'static str = "auth.send_lockout";
    const QUEUE: Queue = Queue::Email;
}

/// Sends a user the link that proves their address. The token in it is made when the mail is.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct SendVerification {
    pub user: UserId,
}

impl Job for SendVerification {
    const KIND: &'static str = "auth.send_verification";
    const QUEUE: Queue = Queue::Email;
}
