//! PostgreSQL: one pool, three doors.
//!
//! `Db::tenant` sees one tenant's rows, `Db::identity` the tables needed to find out who is calling, and
//! `SystemDb::system` everything. Request handlers are given a `Db` only. Each door is a role with row-security
//! policies of its own, set for the transaction alone, so that no session state outlives it (transaction-pooling proxies).

use std::ops::{Deref, DerefMut};
use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{AssertSqlSafe, Connection, PgConnection, PgPool, Postgres, Transaction};
use tokio_util::sync::CancellationToken;

use super::ids::TenantId;
use crate::{Error, Result};

/// How long a request or a loop waits for a free connection.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(5);
/// How long until a transaction has begun, the wait for a connection included. What takes longer is a connection that
/// fell silent, as when the server's machine vanishes: TCP alone would wait for a quarter of an hour, or for ever.
const BEGIN_TIMEOUT: Duration = Duration::from_secs(6);
/// How long a connection may take to show that it lives before it goes back to the pool.
const RELEASE_TIMEOUT: Duration = Duration::from_secs(2);
/// Longest time for one transaction of a background loop: the server ends a statement after ten seconds, and a server
/// that says nothing is given up soon after.
pub const PATIENCE: Duration = Duration::from_secs(15);
/// The server ends a statement that takes longer.
const STATEMENT_TIMEOUT: &str = "10s";
/// The server ends a transaction whose client says nothing for so long. A machine that vanished would keep its locks for as
/// long as TCP takes to notice, two hours by default, and whoever takes back its jobs would wait for them in vain.
const NO_SILENCE: &str = "; set local idle_in_transaction_session_timeout = '10s'";

/// Keeps the planner to nested loops over indexes.
const BY_INDEX: &str = "set local enable_seqscan = off; set local enable_bitmapscan = off; \
                        set local enable_hashjoin = off; set local enable_mergejoin = off";

/// The doors a request handler may use.
#[derive(Debug, Clone)]
pub struct Db {
    pool: PgPool,
}

/// The door of the dispatcher and of maintenance; never given to a request handler.
#[derive(Debug, Clone)]
pub struct SystemDb {
    pool: PgPool,
}

impl Db {
    /// A pool of at most `max_connections`, connected lazily: the server may be down now and come back.
    pub fn connect_lazy(options: PgConnectOptions, max_connections: u32) -> Self {
        let pool = PgPoolOptions::new()
            .max_connections(max_connections)
            .acquire_timeout(ACQUIRE_TIMEOUT)
            .idle_timeout(Duration::from_secs(300))
            .test_before_acquire(false) // a dead connection shows at BEGIN, see `begin_with`
            .after_release(|connection, _| Box::pin(still_answers(connection)))
            .connect_lazy_with(options);
        Self { pool }
    }

    /// The system's door over the same pool.
    pub fn system(&self) -> SystemDb {
        SystemDb { pool: self.pool.clone() }
    }

    /// A transaction that sees the rows of `tenant` alone.
    pub async fn tenant(&self, tenant: TenantId) -> Result<TenantTx> {
        let begin = format!(
            "begin; set local statement_timeout = '{STATEMENT_TIMEOUT}'; set local role millwork_tenant; \
             set local app.tenant_id = '{tenant}'"
        );
        Ok(TenantTx { tx: begin_with(&self.pool, begin).await?, tenant })
    }

    /// A transaction that sees who exists (tenants, users, memberships, credentials) and nothing else.
    pub async fn identity(&self) -> Result<IdentityTx> {
        let begin =
            format!("begin; set local statement_timeout = '{STATEMENT_TIMEOUT}'; set local role millwork_identity");
        Ok(IdentityTx { tx: begin_with(&self.pool, begin).await? })
    }

    /// See [`SystemDb::within`].
    pub async fn within<T>(&self, limit: Duration, work: impl Future<Output = Result<T>>) -> Result<T> {
        self.system().within(limit, work).await
    }

    /// For health checks.
    pub async fn ping(&self) -> Result<()> {
        sqlx::query("select 1").execute(&self.pool).await?;
        Ok(())
    }

    /// The pool itself, for migrations and tests; the doors are for everything else.
    pub fn pool(&self) -> &PgPool {
        &self.pool
    }
}

impl SystemDb {
    /// Gives up `work` after `limit`, as [`Error::Unavailable`]. For the loops that nobody else puts an end to: requests
    /// and handlers have deadlines of their own. Whether `work` was committed is not known then.
    pub async fn within<T>(&self, limit: Duration, work: impl Future<Output = Result<T>>) -> Result<T> {
        let answer = tokio::time::timeout(limit, work).await;
        answer.unwrap_or_else(|_| {
            close_idle(&self.pool);
            Err(no_answer(limit))
        })
    }

    /// A transaction that sees every tenant's rows.
    pub async fn system(&self) -> Result<SystemTx> {
        let begin =
            format!("begin; set local statement_timeout = '{STATEMENT_TIMEOUT}'; set local role millwork_system");
        Ok(SystemTx { tx: begin_with(&self.pool, begin).await? })
    }

    /// A system transaction for claims and heartbeats.
    ///
    /// Its commit does not wait for the disk: a crash of PostgreSQL may forget it without losing a job. Its plans are
    /// held to index lookups, because on fresh tables the planner's first choice can be a scan of every live row.
    pub async fn system_relaxed(&self) -> Result<SystemTx> {
        let begin = format!(
            "begin; set local statement_timeout = '{STATEMENT_TIMEOUT}'; set local role millwork_system; \
             set local synchronous_commit = off; {BY_INDEX}"
        );
        Ok(SystemTx { tx: begin_with(&self.pool, begin).await? })
    }

    /// A durable system transaction for completions, its plans held to index lookups.
    pub async fn system_by_index(&self) -> Result<SystemTx> {
        let begin = format!(
            "begin; set local statement_timeout = '{STATEMENT_TIMEOUT}'; set local role millwork_system; {BY_INDEX}"
        );
        Ok(SystemTx { tx: begin_with(&self.pool, begin).await? })
    }
}

/// Begins with settings in the same round trip. A connection found dead is replaced once, by a new one: after a restart
/// of the server the others in the pool are dead too.
async fn begin_with(pool: &PgPool, begin: String) -> Result<Transaction<'static, Postgres>> {
    let begin = begin + NO_SILENCE;
    let started = async {
        match pool.begin_with(AssertSqlSafe(begin.clone())).await {
            Err(error) if is_unavailable(&error) && !matches!(error, sqlx::Error::PoolTimedOut) => {
                close_idle(pool);
                Ok(pool.begin_with(AssertSqlSafe(begin)).await?)
            }
            other => Ok(other?),
        }
    };
    let begun = tokio::time::timeout(BEGIN_TIMEOUT, started).await;
    begun.unwrap_or_else(|_| {
        close_idle(pool);
        Err(no_answer(BEGIN_TIMEOUT))
    })
}

/// Where one connection died or fell silent the others probably did: each would cost somebody the same.
fn close_idle(pool: &PgPool) {
    for _ in 0..pool.num_idle() {
        match pool.try_acquire() {
            Some(mut connection) => connection.close_on_drop(),
            None => return,
        }
    }
}

/// Bounds the test that the pool makes of every connection that it takes back, for which it would wait for ever: with the
/// connection's place lost, too.
async fn still_answers(connection: &mut PgConnection) -> sqlx::Result<bool> {
    let silent = || sqlx::Error::Io(std::io::ErrorKind::TimedOut.into());
    tokio::time::timeout(RELEASE_TIMEOUT, connection.ping()).await.map_err(|_| silent())?.map(|()| true)
}

/// Whether `error` means that the server is not there, rather than that the statement is wrong.
pub fn is_unavailable(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Io(_)
        | sqlx::Error::PoolTimedOut
        | sqlx::Error::PoolClosed
        | sqlx::Error::WorkerCrashed
        | sqlx::Error::Protocol(_)
        | sqlx::Error::BeginFailed => true,
        // connection exception, insufficient resources, operator intervention (restart, statement timeout), I/O error
        sqlx::Error::Database(db) => {
            db.code().is_some_and(|c| ["08", "53", "57", "58"].iter().any(|class| c.starts_with(class)))
        }
        _ => false,
    }
}

/// One tenant's transaction. Dropped without [`commit`](Self::commit), it rolls back.
#[derive(Debug)]
pub struct TenantTx {
    tx: Transaction<'static, Postgres>,
    tenant: TenantId,
}

impl TenantTx {
    pub fn tenant(&self) -> TenantId {
        self.tenant
    }

    /// Turns into another tenant's transaction; the work so far stays in it.
    pub async fn commit(self) -> Result<()> {
        Ok(self.tx.commit().await?)
    }
}

/// A transaction over the identity tables. Dropped without [`commit`](Self::commit), it rolls back.
#[derive(Debug)]
pub struct IdentityTx {
    tx: Transaction<'static, Postgres>,
}

impl IdentityTx {
    pub async fn commit(self) -> Result<()> {
        Ok(self.tx.commit().await?)
    }

    /// Goes on as `tenant` in the same transaction: for registration, which creates a tenant and then works in it.
    pub async fn into_tenant(mut self, tenant: TenantId) -> Result<TenantTx> {
        let set = format!("set local role millwork_tenant; set local app.tenant_id = '{tenant}'");
        sqlx::raw_sql(AssertSqlSafe(set)).execute(&mut *self.tx).await?;
        Ok(TenantTx { tx: self.tx, tenant })
    }
}

/// The system's transaction. Dropped without [`commit`](Self::commit), it rolls back.
#[derive(Debug)]
pub struct SystemTx {
    tx: Transaction<'static, Postgres>,
}

impl SystemTx {
    pub async fn commit(self) -> Result<()> {
        Ok(self.tx.commit().await?)
    }
}

/// What a query function needs of a transaction, whichever door it came through.
macro_rules! connection {
    ($($tx:ty),*) => {$(
        impl Deref for $tx {
            type Target = PgConnection;

            fn deref(&self) -> &PgConnection {
                &self.tx
            }
        }

        impl DerefMut for $tx {
            fn deref_mut(&mut self) -> &mut PgConnection {
                &mut self.tx
            }
        }
    )*};
}
connection!(TenantTx, IdentityTx, SystemTx);

/// How long a leader that does not [`check`](LeaderLock::check) keeps its lock: the server then closes its connection, so
/// that a process that hangs, or a machine that left the network, does not lead for ever. Several times a leader's pace.
const LEADER_SILENCE: &str = "10s";

/// The leader's lock: held by a connection of its own, the one piece of session state there is.
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

/// Gives up `work` after `limit`. Whether it was committed is not known then.
async fn within<T>(limit: Duration, work: impl Future<Output = Result<T>>) -> Result<T> {
    tokio::time::timeout(limit, work).await.unwrap_or_else(|_| Err(no_answer(limit)))
}

fn no_answer(limit: Duration) -> Error {
    Error::Unavailable { dependency: "database", cause: format!("no answer within {limit:?}") }
}

/// Brings the schema up to date.
///
/// # Errors
/// Fails when the database cannot be reached, or when its schema was made by a newer release.
pub async fn migrate(db: &Db) -> Result<()> {
    MIGRATIONS.run(&db.pool).await.map_err(|e| Error::Internal(e.into()))
}

/// Refuses a schema older than this build needs.
///
/// # Errors
/// [`Error::Conflict`] names the command to run; [`Error::Unavailable`] when the database does not answer.
pub async fn check_schema(db: &Db) -> Result<()> {
    let known = MIGRATIONS.iter().map(|m| m.version).max().unwrap_or_default();
    let applied: Option<i64> =
        match sqlx::query_scalar("select max(version) from _sqlx_migrations where success").fetch_one(&db.pool).await {
            Err(sqlx::Error::Database(e)) if e.code().as_deref() == Some("42P01") => None,
            other => other?,
        };
    if applied.is_some_and(|applied| applied >= known) {
        return Ok(());
    }
    let applied = applied.map_or("empty".to_owned(), |v| v.to_string());
    Err(Error::conflict(
        "schema_outdated",
        format!("the schema is {applied}, this build needs {known}: run `millwork-api migrate`"),
    ))
}

/// Waits for PostgreSQL, then checks the schema: a process may start before its database does.
///
/// # Errors
/// As [`check_schema`], save that an unavailable server is waited for until `stop`.
pub async fn wait_for_schema(db: &Db, stop: &CancellationToken) -> Result<()> {
    loop {
        match within(PATIENCE, check_schema(db)).await {
            Err(error @ Error::Unavailable { .. }) => {
                tracing::warn!(%error, "waiting for PostgreSQL");
                tokio::select! {
                    () = tokio::time::sleep(Duration::from_secs(1)) => {}
                    () = stop.cancelled() => return Err(error),
                }
            }
            other => return other,
        }
    }
}

/// A name for this exact set of migrations.
#[cfg(feature = "testing")]
pub fn schema_fingerprint() -> String {
    use sha2::{Digest, Sha256};
    let mut hash = Sha256::new();
    MIGRATIONS.iter().for_each(|m| hash.update(&m.checksum));
    hash.finalize().iter().take(8).map(|b| format!("{b:02x}")).collect()
}

static MIGRATIONS: sqlx::migrate::Migrator = sqlx::migrate!("../migrations");
