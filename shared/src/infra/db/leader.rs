//! The leader's lock: the one piece of session state there is.

use sqlx::{AssertSqlSafe, Connection, PgConnection};

use super::{ACQUIRE_TIMEOUT, Db, within};
use crate::Result;

/// How long a leader that does not [`check`](LeaderLock::check) keeps its lock: the server then closes its connection, so
/// that a process that hangs, or a machine that left the network, does not lead for ever. Several times a leader's pace.
const LEADER_SILENCE: &str = "10s";

/// The leader's lock, held by a connection of its own.
#[derive(Debug)]
pub struct LeaderLock {
    conn: PgConnection,
}

impl LeaderLock {
    /// The lock, if nobody else holds it.
    pub async fn try_take(db: &Db) -> Result<Option<Self>> {
        let take = async {
            let mut conn = PgConnection::connect_with(&db.pool.connect_options()).await?;
            let put_out = format!("set idle_session_timeout = '{LEADER_SILENCE}'");
            sqlx::raw_sql(AssertSqlSafe(put_out)).execute(&mut conn).await?;
            let taken: bool = sqlx::query_scalar("select pg_try_advisory_lock(hashtext('millwork.leader'))")
                .fetch_one(&mut conn)
                .await?;
            Ok(taken.then_some(Self { conn }))
        };
        within(ACQUIRE_TIMEOUT, take).await
    }

    /// # Errors
    /// Fails when the connection, and the lock with it, is gone.
    pub async fn check(&mut self) -> Result<()> {
        within(ACQUIRE_TIMEOUT, async { Ok(self.conn.ping().await?) }).await
    }
}
