//! The kind `exports.send_ready`.

use std::sync::Arc;

use chrono::SecondsFormat;
use millwork_shared::Result;
use millwork_shared::auth::one_time_tokens::find_addressee;
use millwork_shared::email::Template;
use millwork_shared::email::templates::line;
use millwork_shared::exports::jobs::SendExportReady;
use millwork_shared::exports::queries;
use millwork_shared::jobs::Outcome;
use serde_json::{Map, Value};
use tracing::instrument;

use crate::auth::send_to;
use crate::context::Context;
use crate::runtime::Run;

/// Tells who asked for an export that it is ready. One who has left meanwhile gets no mail.
#[instrument(name = "job.exports.send_ready", skip_all, fields(export.id = %job.export))]
pub async fn send_ready(job: SendExportReady, run: Arc<Run>, ctx: Arc<Context>) -> Result<Outcome> {
    let mut tx = ctx.db.tenant(run.tenant).await?;
    let export = queries::find(&mut tx, job.export).await?;
    tx.commit().await?;
    let Some((export, until)) = export.and_then(|export| export.expires_at.map(|until| (export, until))) else {
        return Ok(Outcome::Done(None));
    };
    let mut tx = ctx.system.system().await?;
    let Some(user) = find_addressee(&mut tx, run.tenant, job.user).await? else { return Ok(Outcome::Done(None)) };
    tx.commit().await?;
    let variables: Map<String, Value> = Map::from_iter([
        ("name".to_owned(), line(&user.name).into()),
        ("tenant".to_owned(), line(&user.tenant_name).into()),
        ("what".to_owned(), export.resource.into()),
        ("rows".to_owned(), export.exported.to_string().into()),
        ("until".to_owned(), until.to_rfc3339_opts(SecondsFormat::Secs, true).into()),
    ]);
    send_to((&user.name, &user.email), Template::ExportReady, variables, &run, &ctx).await
}
