//! Telling ends to those who wait for them, soon after they were stored.

use std::time::Duration;

use tokio::sync::mpsc;

use super::dispatch::Dispatcher;
use super::queries;
use crate::Result;
use crate::infra::db::{PATIENCE, SystemDb};
use crate::infra::tasks;

const PAUSE: Duration = Duration::from_secs(1);

/// Tells ends whenever it is asked to. Cheap to clone; works until the last clone is gone.
///
/// What it does not get to, because its process dies, the scheduler finds in the ledger.
#[derive(Debug, Clone)]
pub struct Followers(mpsc::Sender<()>);

impl Followers {
    pub fn start(system: SystemDb, dispatcher: Dispatcher) -> Self {
        let (ask, mut asked) = mpsc::channel(1);
        tasks::detach(async move {
            while asked.recv().await.is_some() {
                while let Err(error) = tell_all(&system, &dispatcher).await {
                    tracing::warn!(
                        %error, error.category = %error.category(),
                        "cannot tell the ends of jobs to those who wait for them; trying again"
                    );
                    tokio::time::sleep(PAUSE).await;
                }
            }
        });
        Self(ask)
    }

    /// Says that there is something to tell, after the commit.
    pub fn tell_soon(&self) {
        let _ = self.0.try_send(()); // full: it will look once more anyway
    }
}

/// Tells all ends that are to be told, and offers the jobs that are due by it. Answers how many those were.
///
/// # Errors
/// Fails when the database does not answer; what was not told then is told the next time.
pub async fn tell_all(system: &SystemDb, dispatcher: &Dispatcher) -> Result<usize> {
    let mut due = 0;
    loop {
        let tell = async {
            // A commit that a crash forgets leaves the ends to be told again.
            let mut tx = system.system_relaxed().await?;
            let told = queries::tell_ends(&mut tx).await?;
            tx.commit().await.map(|()| told)
        };
        let told = system.within(PATIENCE, tell).await?;
        due += told.due.len();
        dispatcher.offer_soon(told.due);
        if !told.more {
            return Ok(due);
        }
    }
}
