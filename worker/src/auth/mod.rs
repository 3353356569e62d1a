//! Mails to users about their accounts.

use millwork_shared::Result;
use millwork_shared::email::{Mailbox, Template};
use millwork_shared::jobs::{JobError, Outcome};
use serde_json::{Map, Value};

use crate::context::Context;
use crate::runtime::Run;

/// The kind `auth.rotate_signing_keys`.
pub mod rotate_signing_keys;
/// The kind `auth.send_lockout`.
pub mod send_lockout;
/// The kind `auth.send_notice`.
pub mod send_notice;
/// The kind `auth.send_password_reset`.
pub mod send_password_reset;
/// The kind `auth.send_verification`.
pub mod send_verification;
/// The kind `auth.send_welcome`.
pub mod send_welcome;

/// Users have not told us their language yet, so theirs is the default.
pub async fn send_to(
    (name, email): (&str, &str),
    template: Template,
    variables: Map<String, Value>,
    run: &Run,
    ctx: &Context,
) -> Result<Outcome> {
    let to = match Mailbox::named(name, email) {
        Ok(to) => to,
        Err(fault) => {
            return Ok(Outcome::Fail(JobError::new("mail_address", format!("the user's address is {fault}"))));
        }
    };
    let words = ctx.mailer.render(template, None, &variables)?;
    ctx.mailer.send(run, &to, &words, ctx.clock.now()).await
}
