//! The kind `auth.send_welcome`.

use std::sync::Arc;

use millwork_shared::Result;
use millwork_shared::auth::jobs::SendWelcome;
use millwork_shared::auth::one_time_tokens::find_addressee;
use millwork_shared::email::Template;
use millwork_shared::email::templates::line;
use millwork_shared::jobs::Outcome;
use serde_json::{Map, Value};
use tracing::instrument;

use super::send_to;
use crate::context::Context;
use crate::runtime::Run;

/// Greets the user. One who has left meanwhile gets no mail.
#[instrument(name = "job.auth.send_welcome", skip_all, fields(user.id = %job.user))]
pub async fn send_welcome(job: SendWelcome, run: Arc<Run>, ctx: Arc<Context>) -> Result<Outcome> {
    let mut tx = ctx.system.system().await?;
    let Some(user) = find_addressee(&mut tx, run.tenant, job.user).await? else { return Ok(Outcome::Done(None)) };
    tx.commit().await?;
    let variables: Map<String, Value> = Map::from_iter([
        ("name".to_owned(), line(&user.name).into()),
        ("tenant".to_owned(), line(&user.tenant_name).into()),
        ("url".to_owned(), ctx.public_url.join("/").into()),
    ]);
    send_to((&user.name, &user.email), Template::Welcome, variables, &run, &ctx).await
}
