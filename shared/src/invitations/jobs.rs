//! Payloads of the jobs that this feature asks for.

use serde::{Deserialize, Serialize};

use crate::infra::ids::InvitationId;
use crate::jobs::{Job, Queue};

/// Mails an invitation. The token in it is made when the mail is.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct SendInvitation {
    pub invitation: InvitationId,
}

impl Job for SendInvitation {
    const KIND: &'static str = "invitations.send";
    const QUEUE: Queue = Queue::Email;
}
