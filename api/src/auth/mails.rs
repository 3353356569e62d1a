//! Mails about accounts. They are jobs of the platform: what concerns a person is nobody's business in their tenants.

use millwork_shared::infra::db::IdentityTx;
use millwork_shared::jobs::{Cause, Job, NewJob, queries as jobs};
use millwork_shared::maintenance::PLATFORM;

use crate::App;
use crate::http::Result;

/// Commits `tx` together with the wish for a mail.
pub async fn commit_with<J: Job>(app: &App, tx: IdentityTx, mail: &J, cause: &Cause) -> Result<()> {
    let mail = [NewJob::of(PLATFORM, mail)?.caused_by(cause)];
    let mut tx = tx.into_tenant(PLATFORM).await?;
    jobs::enqueue(&mut tx, &mail).await?;
    tx.commit().await?;
    app.dispatcher.offer(&mail);
    Ok(())
}
