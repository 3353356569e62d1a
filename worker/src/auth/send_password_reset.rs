//! The kind `auth.send_password_reset`.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use millwork_shared::Result;
use millwork_shared::auth::jobs::SendPasswordReset;
use millwork_shared::auth::one_time_tokens::{self, Purpose, find_person};
use millwork_shared::email::Template;
use millwork_shared::email::templates::line;
use millwork_shared::infra::crypto;
use millwork_shared::jobs::Outcome;
use serde_json::{Map, Value};
use tracing::instrument;

use super::send_to;
use crate::context::Context;
use crate::runtime::Run;

const VALID_FOR_HOURS: u32 = 1;

/// Sends the user a link to choose another password. Nobody, one who has left meanwhile, and one who got several within
/// the hour get none.
///
/// The token exists in the mail alone; a second run makes another, and both links work until one is used or expires.
#[instrument(name = "job.auth.send_password_reset", skip_all)]
pub async fn send_password_reset(job: SendPasswordReset, run: Arc<Run>, ctx: Arc<Context>) -> Result<Outcome> {
    let Some(id) = job.user else { return Ok(Outcome::Done(None)) };
    let mut tx = ctx.system.system().await?;
    let Some(user) = find_person(&mut tx, id).await? else { return Ok(Outcome::Done(None)) };
    if run.attempt == 1 && one_time_tokens::is_flooded(&mut tx, id, Purpose::ResetPassword).await? {
        return Ok(Outcome::Done(None));
    }
    let token = URL_SAFE_NO_PAD.encode(crypto::random_bytes::<32>());
    let valid_for = Duration::from_secs(u64::from(VALID_FOR_HOURS) * 3600);
    let hash = crypto::token_hash(&token);
    one_time_tokens::insert(&mut tx, id, Purpose::ResetPassword, &hash, valid_for).await?;
    tx.commit().await?; // before the mail goes out, which can be fast
    let variables: Map<String, Value> = Map::from_iter([
        ("name".to_owned(), line(&user.name).into()),
        ("url".to_owned(), ctx.public_url.join(&format!("/reset-password?token={token}")).into()),
        ("valid_for_hours".to_owned(), VALID_FOR_HOURS.into()),
    ]);
    send_to((&user.name, &user.email), Template::PasswordReset, variables, &run, &ctx).await
}
