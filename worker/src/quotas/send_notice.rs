//! The kind `quotas.send_notice`.

use std::sync::Arc;

use millwork_shared::Result;
use millwork_shared::auth::one_time_tokens::find_addressee;
use millwork_shared::email::Template;
use millwork_shared::email::templates::line;
use millwork_shared::jobs::Outcome;
use millwork_shared::quotas::jobs::SendQuotaNotice;
use serde_json::{Map, Value};
use tracing::instrument;

use crate::auth::send_to;
use crate::context::Context;
use crate::runtime::Run;

/// Tells an owner how much of a quota is used up. One who has left meanwhile gets no mail.
#[instrument(name = "job.quotas.send_notice", skip_all, fields(user.id = %job.user))]
pub async fn send_notice(job: SendQuotaNotice, run: Arc<Run>, ctx: Arc<Context>) -> Result<Outcome> {
    let mut tx = ctx.system.system().await?;
    let Some(user) = find_addressee(&mut tx, run.tenant, job.user).await? else { return Ok(Outcome::Done(None)) };
    tx.commit().await?;
    let variables: Map<String, Value> = Map::from_iter([
        ("name".to_owned(), line(&user.name).into()),
        ("tenant".to_owned(), line(&user.tenant_name).into()),
        ("metric".to_owned(), job.metric.clone().into()),
        ("percent".to_owned(), job.percent.into()),
        ("limit".to_owned(), job.limit.to_string().into()),
    ]);
    send_to((&user.name, &user.email), Template::QuotaReached, variables, &run, &ctx).await
}
