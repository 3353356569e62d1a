//! The kind `email.send`.

use std::sync::Arc;

use millwork_shared::Result;
use millwork_shared::email::jobs::{Content, SendEmail};
use millwork_shared::jobs::{JobError, Outcome};
use tracing::instrument;

use super::compose::Words;
use crate::context::Context;
use crate::runtime::Run;

/// Sends the mail once.
///
/// A second run of the same job sends again, under the same Message-ID: whether the first one's mail was taken may be
/// impossible to know.
#[instrument(name = "job.email.send", skip_all, fields(job.id = %run.job))]
pub async fn send(job: SendEmail, run: Arc<Run>, ctx: Arc<Context>) -> Result<Outcome> {
    let words = match job.content {
        Content::Written { subject, text, html } => Words { subject, text, html },
        Content::Template { template, variables, locale } => {
            match ctx.mailer.render(template, locale.as_deref(), &variables) {
                Ok(words) => words,
                // No later run would fare better.
                Err(e) => return Ok(Outcome::Fail(JobError::new("mail_template", format!("{e:#}")))),
            }
        }
    };
    ctx.mailer.send(&run, &job.to, &words, ctx.clock.now()).await
}
