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

/// Sends the link by which a password is chosen anew. The token in it is made when the mail is.
///
/// A job of the platform, not of a tenant. It is asked for whether or not anyone has the address, so that the request does
/// the same work; then `user` is none, and nothing is sent.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct SendPasswordReset {
    pub user: Option<UserId>,
}

impl Job for SendPasswordReset {
    const KIND: &'static str = "auth.send_password_reset";
    const QUEUE: Queue = Queue::Email;
}

/// Tells a user what happened to their account. A job of the platform, not of a tenant.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct SendNotice {
    pub user: UserId,
    pub notice: Notice,
}

/// What a user should know of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Notice {
    /// A refresh token was used twice, which ended the session.
    SessionEnded,
    PasswordChanged,
    SecondFactorOn,
    SecondFactorOff,
    /// Somebody whom another provider knows by the same address signed in for the first time.
    IdentityLinked,
    /// One of the identities was unlinked.
    IdentityUnlinked,
}

impl Job for SendNotice {
    const KIND: &'static str = "auth.send_notice";
    const QUEUE: Queue = Queue::Email;
}

/// Replaces the key that signs access tokens when its time has come. A job of the platform.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct RotateSigningKeys {}

impl Job for RotateSigningKeys {
    const KIND: &'static str = "auth.rotate_signing_keys";
    const QUEUE: Queue = Queue::Maintenance;
    const MAX_ATTEMPTS: i16 = 5;
}
