//! The kind `auth.send_lockout`.

use std::sync::Arc;

use millwork_shared::Result;
use millwork_shared::auth::jobs::SendLockout;
use millwork_shared::auth::one_time_tokens::find_addressee;
use millwork_shared::email::Template;
use millwork_shared::email::templates::line;
use millwork_shared::jobs::Outcome;
use serde_json::{Map, Value};
use tracing::instrument;

use super::send_to;
use crate::context::Context;
use crate::runtime::Run;

/// Tells a person that somebody guesses at their password. One who has left meanwhile gets no mail.
#[instrument(name = "job.auth.send_lockout", skip_all, fields(user.id = %job.user))]
pub async fn send_lockout(job: SendLockout, run: Arc<Run>, ctx: Arc<Context>) -> Result<Outcome> {
    let mut tx = ctx.system.system().await?;
    let Some(user) = find_addressee(&mut tx, run.tenant, job.user).await? else { return Ok(Outcome::Done(None)) };
    tx.commit().await?;
    let variables: Map<String, Value> = Map::from_iter([
        ("name".to_owned(), line(&user.name).into()),
        ("count".to_owned(), job.failures.into()),
        ("address".to_owned(), line(job.address.as_deref().unwrap_or("?")).into()),
    ]);
    send_to((&user.name, &user.email), Template::SignInLocked, variables, &run, &ctx).await
}
