//! The kind `invitations.send`.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use millwork_shared::Result;
use millwork_shared::email::Template;
use millwork_shared::email::templates::line;
use millwork_shared::infra::crypto;
use millwork_shared::invitations::jobs::SendInvitation;
use millwork_shared::invitations::{VALID_FOR, queries};
use millwork_shared::jobs::Outcome;
use serde_json::{Map, Value};
use tracing::instrument;

use crate::auth::send_to;
use crate::context::Context;
use crate::runtime::Run;

/// Sends the link by which an invitation is accepted, as long as it is open and who sent it is a member.
///
/// The token exists in the mail alone; a second run makes another, and both links work until one is used or expires.
#[instrument(name = "job.invitations.send", skip_all, fields(invitation.id = %job.invitation))]
pub async fn send(job: SendInvitation, run: Arc<Run>, ctx: Arc<Context>) -> Result<Outcome> {
    let token = URL_SAFE_NO_PAD.encode(crypto::random_bytes::<32>());
    let mut tx = ctx.system.system().await?;
    let letter = queries::address(&mut tx, run.tenant, job.invitation, &crypto::token_hash(&token)).await?;
    tx.commit().await?; // before the mail goes out, which can be fast
    let Some(letter) = letter else { return Ok(Outcome::Done(None)) };
    let variables: Map<String, Value> = Map::from_iter([
        ("inviter".to_owned(), line(&letter.inviter).into()),
        ("tenant".to_owned(), line(&letter.tenant_name).into()),
        ("url".to_owned(), ctx.public_url.join(&format!("/accept-invitation?token={token}")).into()),
        ("valid_for_hours".to_owned(), (VALID_FOR.as_secs() / 3_600).into()),
    ]);
    send_to((&letter.email, &letter.email), Template::Invitation, variables, &run, &ctx).await
}
