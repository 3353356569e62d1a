//! The kind `auth.send_notice`.

use std::sync::Arc;

use millwork_shared::Result;
use millwork_shared::auth::jobs::{Notice, SendNotice};
use millwork_shared::auth::one_time_tokens::find_person;
use millwork_shared::email::Template;
use millwork_shared::email::templates::line;
use millwork_shared::jobs::Outcome;
use serde_json::{Map, Value};
use tracing::instrument;

use super::send_to;
use crate::context::Context;
use crate::runtime::Run;

/// Tells the user what happened to their account. One who has left meanwhile gets no mail.
#[instrument(name = "job.auth.send_notice", skip_all, fields(user.id = %job.user))]
pub async fn send_notice(job: SendNotice, run: Arc<Run>, ctx: Arc<Context>) -> Result<Outcome> {
    let mut tx = ctx.system.system().await?;
    let Some(user) = find_person(&mut tx, job.user).await? else { return Ok(Outcome::Done(None)) };
    tx.commit().await?;
    let template = match job.notice {
        Notice::SessionEnded => Template::SessionEnded,
        Notice::PasswordChanged => Template::PasswordChanged,
        Notice::SecondFactorOn => Template::SecondFactorOn,
        Notice::SecondFactorOff => Template::SecondFactorOff,
        Notice::IdentityLinked => Template::IdentityLinked,
        Notice::IdentityUnlinked => Template::IdentityUnlinked,
    };
    let variables: Map<String, Value> = Map::from_iter([
        ("name".to_owned(), line(&user.name).into()),
        ("url".to_owned(), ctx.public_url.join("/forgot-password").into()),
    ]);
    send_to((&user.name, &user.email), template, variables, &run, &ctx).await
}
