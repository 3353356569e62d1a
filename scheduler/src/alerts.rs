//! Alerts that have no job to raise them: queues that fall behind, and mails that waited for their minute to pass.

use std::time::Duration;

use millwork_shared::Result;
use millwork_shared::alerts::queries;
use millwork_shared::infra::db::{PATIENCE, SystemDb};
use millwork_shared::jobs::dispatch::Dispatcher;

/// How often there is a look at what is due.
const EVERY: Duration = Duration::from_secs(5);
/// How often one queue is looked at.
const PACE: Duration = Duration::from_secs(15);

/// Raises them for ever.
pub async fn raise(system: SystemDb, dispatcher: Dispatcher) {
    loop {
        if let Err(error) = look(&system, &dispatcher).await {
            tracing::warn!(%error, error.category = %error.category(), "cannot raise alerts; trying again");
        }
        tokio::time::sleep(EVERY).await;
    }
}

/// Raises what is due. Answers how many jobs tell of it.
///
/// # Errors
/// Fails when the database does not answer; the next look does the same.
pub async fn look(system: &SystemDb, dispatcher: &Dispatcher) -> Result<usize> {
    let mail = async {
        let mut tx = system.system_by_index().await?;
        let mails = queries::mail_failures(&mut tx).await?;
        tx.commit().await.map(|()| mails)
    };
    let mails = system.within(PATIENCE, mail).await?;
    dispatcher.offer(&mails);
    let mut told = mails.len();
    loop {
        let check = async {
            let mut tx = system.system_by_index().await?;
            let checked = queries::check_queues(&mut tx, PACE).await?;
            tx.commit().await.map(|()| checked)
        };
        let checked = system.within(PATIENCE, check).await?;
        dispatcher.offer(&checked.told);
        told += checked.told.len();
        if !checked.more {
            return Ok(told);
        }
    }
}
