//! Open connections that wait for the next mail.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use lettre::transport::smtp::client::AsyncSmtpConnection;
use millwork_shared::infra::tasks;
use tokio::time::{Instant, sleep, timeout};

const GOODBYE: Duration = Duration::from_secs(2);

/// A connection is in here only between two mails: one whose conversation was cut short must be dropped, for the server
/// may take what comes next for the rest of the last mail.
pub struct Idle {
    connections: Mutex<Vec<(AsyncSmtpConnection, Instant)>>,
    longest: Duration,
    watched: AtomicBool,
}

impl Idle {
    /// Keeps a connection that nobody uses for about `longest`.
    pub fn new(longest: Duration) -> Arc<Self> {
        Arc::new(Self { connections: Mutex::default(), longest, watched: AtomicBool::new(false) })
    }

    /// The one used last.
    pub fn take(&self) -> Option<AsyncSmtpConnection> {
        self.connections().pop().map(|(connection, _)| connection)
    }

    pub fn put(self: &Arc<Self>, connection: AsyncSmtpConnection) {
        self.connections().push((connection, Instant::now()));
        if !self.watched.swap(true, Ordering::AcqRel) {
            tasks::spawn("email.idle", watch(Arc::downgrade(self), self.longest / 4));
        }
    }

    pub fn clear(&self) {
        self.connections().clear();
    }

    /// Takes out what has waited too long; oldest first.
    fn expired(&self) -> Vec<AsyncSmtpConnection> {
        let mut connections = self.connections();
        let fresh = connections.partition_point(|(_, since)| since.elapsed() >= self.longest);
        connections.drain(..fresh).map(|(connection, _)| connection).collect()
    }

    fn connections(&self) -> MutexGuard<'_, Vec<(AsyncSmtpConnection, Instant)>> {
        self.connections.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Hangs up on servers that had nothing to do for a while; ends when all are gone.
async fn watch(idle: Weak<Idle>, every: Duration) {
    loop {
        sleep(every).await;
        let Some(idle) = idle.upgrade() else { return };
        idle.expired().into_iter().for_each(hang_up);
        let connections = idle.connections();
        if connections.is_empty() {
            idle.watched.store(false, Ordering::Release); // under the lock, so that `put` sees it
            return;
        }
    }
}

/// Says goodbye in the background. Only for a connection on which the server owes no answer.
pub fn hang_up(mut connection: AsyncSmtpConnection) {
    tasks::spawn("email.quit", async move {
        let _ = timeout(GOODBYE, connection.abort()).await;
    });
}
