//! One transaction on a connection of the pool.
//!
//! Not sqlx's own: that one forgets a BEGIN whose caller goes away before its answer, and gives the connection back to
//! the pool inside an open transaction.

use std::ops::{Deref, DerefMut};
use std::time::Duration;

use sqlx::pool::PoolConnection;
use sqlx::{AssertSqlSafe, PgConnection, PgPool, Postgres};

use crate::infra::tasks;

/// How long a connection may take to roll back, and to show that it lives, before it goes back to the pool. One that
/// fell silent would keep its place in the pool for ever.
const RELEASE_TIMEOUT: Duration = Duration::from_secs(2);

/// Dropped without [`commit`](Self::commit), it rolls back.
#[derive(Debug)]
pub struct Transaction {
    /// Taken when dropped, and not before.
    connection: Option<PoolConnection<Postgres>>,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// BEGIN or COMMIT is under way. Whoever does not wait for its answer does not know what the server made of it.
    InDoubt,
    Open,
    Over,
}

impl Transaction {
    /// Begins with `begin`, which may hold settings too: one round trip.
    pub async fn begin(pool: &PgPool, begin: &str) -> sqlx::Result<Self> {
        let mut tx = Self { connection: Some(pool.acquire().await?), state: State::InDoubt };
        sqlx::raw_sql(AssertSqlSafe(begin)).execute(&mut *tx).await?;
        tx.state = State::Open;
        Ok(tx)
    }

    pub async fn commit(mut self) -> sqlx::Result<()> {
        self.state = State::InDoubt;
        sqlx::raw_sql("commit").execute(&mut *self).await?;
        self.state = State::Over;
        Ok(())
    }
}

impl Deref for Transaction {
    type Target = PgConnection;

    #[expect(clippy::expect_used, reason = "only drop takes the connection")]
    fn deref(&self) -> &PgConnection {
        self.connection.as_ref().expect("the connection is there until the drop")
    }
}

impl DerefMut for Transaction {
    #[expect(clippy::expect_used, reason = "only drop takes the connection")]
    fn deref_mut(&mut self) -> &mut PgConnection {
        self.connection.as_mut().expect("the connection is there until the drop")
    }
}

impl Drop for Transaction {
    fn drop(&mut self) {
        let Some(mut connection) = self.connection.take() else { return };
        match self.state {
            State::InDoubt => connection.close_on_drop(),
            State::Over => tasks::detach(give_back(connection)),
            State::Open => tasks::detach(async move {
                let rollback = sqlx::raw_sql("rollback").execute(&mut *connection);
                match tokio::time::timeout(RELEASE_TIMEOUT, rollback).await {
                    Ok(Ok(_)) => give_back(connection).await,
                    _ => connection.close_on_drop(), // which ends the transaction too
                }
            }),
        }
    }
}

/// Bounds the test that the pool makes of every connection that it takes back, for which it would wait for ever.
async fn give_back(mut connection: PoolConnection<Postgres>) {
    if tokio::time::timeout(RELEASE_TIMEOUT, connection.return_to_pool()).await.is_err() {
        tracing::warn!("a connection to PostgreSQL fell silent; it is given up");
    }
}
