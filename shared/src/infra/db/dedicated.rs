//! A connection that one loop keeps for itself.

use std::time::{Duration, Instant};

use sqlx::postgres::PgConnectOptions;
use sqlx::{Connection, PgConnection};

use super::{BY_INDEX, STATEMENT_TIMEOUT};
use crate::Result;

/// A connection that rested longer is tested before it is used: the server may have been restarted meanwhile.
const RESTED: Duration = Duration::from_millis(500);
/// How long that test may take: a connection that fell silent never answers.
const TEST_TIMEOUT: Duration = Duration::from_secs(2);

/// Whether a commit waits for the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    Durable,
    /// A crash of PostgreSQL may forget the last commits: for claims, where that only runs a job again.
    Relaxed,
}

/// The system's door for a loop whose batches are one statement each, and so a transaction each: one round trip, where
/// a transaction by the pool takes five.
///
/// Role and settings come with the connection's start, and plans are kept: planning costs more than running a small
/// batch. A pooler that ignores start-up options leaves the login role and the server's settings, which work too.
#[derive(Debug)]
pub struct Dedicated {
    options: PgConnectOptions,
    connection: Option<(PgConnection, Instant)>,
}

impl Dedicated {
    /// Connects when first used.
    pub(super) fn new(options: PgConnectOptions, durability: Durability) -> Self {
        let relaxed = (durability == Durability::Relaxed).then_some(("synchronous_commit", "off"));
        let options = options
            .options([("role", "millwork_system"), ("statement_timeout", STATEMENT_TIMEOUT)])
            .options([("plan_cache_mode", "force_generic_plan")])
            .options(BY_INDEX.map(|setting| (setting, "off")))
            .options(relaxed);
        Self { options, connection: None }
    }

    /// The connection, to be given back by [`keep`](Self::keep) when it has answered: one that failed, or whose user
    /// went away, is in doubt and closed.
    ///
    /// # Errors
    /// [`Error::Unavailable`](crate::Error::Unavailable) when the server cannot be reached. The caller sets a limit.
    pub async fn take(&mut self) -> Result<PgConnection> {
        if let Some((mut connection, used_at)) = self.connection.take()
            && (used_at.elapsed() < RESTED || answers(&mut connection).await)
        {
            return Ok(connection);
        }
        Ok(PgConnection::connect_with(&self.options).await?)
    }

    /// Keeps a connection for the next batch.
    pub fn keep(&mut self, connection: PgConnection) {
        self.connection = Some((connection, Instant::now()));
    }
}

async fn answers(connection: &mut PgConnection) -> bool {
    matches!(tokio::time::timeout(TEST_TIMEOUT, connection.ping()).await, Ok(Ok(())))
}
