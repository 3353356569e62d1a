//! The kind `auth.rotate_signing_keys`.

use std::sync::Arc;

use millwork_shared::Result;
use millwork_shared::auth::jobs::RotateSigningKeys;
use millwork_shared::auth::queries::signing_keys;
use millwork_shared::auth::signing_keys::generate;
use millwork_shared::jobs::Outcome;
use tracing::instrument;

use crate::context::Context;
use crate::runtime::Run;

/// Makes the next key that signs access tokens when its time has come, and retires those that are needed no more.
///
/// Safe to run twice, and beside itself: it takes a lock, and a key that was just made is not due for a successor.
#[instrument(name = "job.auth.rotate_signing_keys", skip_all)]
pub async fn rotate_signing_keys(_: RotateSigningKeys, _run: Arc<Run>, ctx: Arc<Context>) -> Result<Outcome> {
    let mut tx = ctx.system.system().await?;
    signing_keys::lock(&mut tx).await?;
    if signing_keys::is_successor_due(&mut tx).await? {
        let key = generate(&ctx.keys)?;
        signing_keys::insert(&mut tx, &key, signing_keys::OVERLAP).await?;
        tracing::info!(signing_key.id = %key.id, "the next signing key is made");
    }
    let retired = signing_keys::retire(&mut tx).await?;
    tx.commit().await?;
    if retired > 0 {
        tracing::info!(retired, "signing keys retired");
    }
    Ok(Outcome::Done(None))
}
