//! Tells the ends of jobs to those who wait for them, where whoever ended them did not get to it.

use std::sync::Arc;
use std::time::Duration;

use millwork_shared::Result;
use millwork_shared::infra::db::{PATIENCE, SystemDb};
use millwork_shared::jobs::dispatch::Dispatcher;
use millwork_shared::jobs::followers::tell_all;
use millwork_shared::jobs::queries::{self, Place};
use tokio::sync::Notify;

/// How often ends are looked for: the longest time for which one stays untold when a process dies between the two.
const EVERY: Duration = Duration::from_secs(2);
/// Looks for ends that are to be told between two for ends that were never written down.
const LOOKS: u32 = 15;

/// Tells ends for ever, at once when `ended` says so.
pub async fn tell(system: SystemDb, dispatcher: Dispatcher, ended: Arc<Notify>) {
    let (mut place, mut looks) = (None, 0);
    loop {
        let looked = async {
            if looks % LOOKS == 0 {
                find_forgotten(&system, &mut place).await?;
            }
            tell_all(&system, &dispatcher).await
        };
        let looked = looked.await;
        looks = looks.wrapping_add(1);
        if let Err(error) = looked {
            tracing::warn!(
                %error, error.category = %error.category(),
                "cannot tell the ends of jobs to those who wait for them; trying again"
            );
        }
        tokio::select! {
            () = tokio::time::sleep(EVERY) => {}
            () = ended.notified() => {}
        }
    }
}

/// Looks for ends that were never written down, onward from `place`, and has them told.
///
/// # Errors
/// Fails when the database does not answer; the next look does the same.
pub async fn find_forgotten(system: &SystemDb, place: &mut Option<Place>) -> Result<()> {
    let find = async {
        let mut tx = system.system_relaxed().await?;
        let (next, found) = queries::find_untold(&mut tx, place.as_ref()).await?;
        tx.commit().await.map(|()| (next, found))
    };
    let (next, found) = system.within(PATIENCE, find).await?;
    if found > 0 {
        tracing::warn!(jobs = found, "jobs that others wait for had ended without a word; those are told now");
    }
    *place = next;
    Ok(())
}
