//! PostgreSQL: one pool, four doors.
//!
//! `Db::tenant` sees one tenant's rows, `Db::identity` the tables needed to find out who is calling, `Db::staff` what the
//! platform's staff may see of all tenants, and `SystemDb::system` everything. Request handlers are given a `Db` only, and
//! `Db::staff` opens to a proven member of the staff alone. Each door is a role with row-security
//! policies of its own, set for the transaction alone, so that no session state outlives it (transaction-pooling proxies).

use std::ops::{Deref, DerefMut};
use std::time::Duration;

use chrono::{DateTime, Utc};
use sqlx::error::DatabaseError;
use sqlx::postgres::{PgConnectOptions, PgDatabaseError, PgPoolOptions, PgSeverity};
use sqlx::{AssertSqlSafe, PgConnection, PgPool};

use self::transaction::Transaction;
use super::ids::TenantId;
use crate::staff::Staff;
use crate::{Error, Result};

mod dedicated;
mod leader;
mod schema;
mod transaction;

pub use dedicated::{Dedicated, Durability};
pub use leader::LeaderLock;
#[cfg(feature = "testing")]
pub use schema::schema_fingerprint;
pub use schema::{check_schema, migrate, wait_for_schema};

/// How long a request or a loop waits for a free connection.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(5);
/// How long until a transaction has begun, the wait for a connection included. What takes longer is a connection that
/// fell silent, as when the server's machine vanishes: TCP alone would wait for a quarter of an hour, or for ever.
const BEGIN_TIMEOUT: Duration = Duration::from_secs(6);
/// Longest time for one transaction of a background loop: the server ends a statement after ten seconds, and a server
/// that says nothing is given up soon after.
pub const PATIENCE: Duration = Duration::from_secs(15);
/// The server ends a statement that takes longer.
const STATEMENT_TIMEOUT: &str = "10s";
/// The server ends a transaction whose client says nothing for so long. A machine that vanished would keep its locks for as
/// long as TCP takes to notice, two hours by default, and whoever takes back its jobs would wait for them in vain.
const NO_SILENCE: &str = "; set local idle_in_transaction_session_timeout = '10s'";

/// What is turned off to keep the planner to nested loops over indexes: on fresh tables its first choice can be a scan
/// of every live row.
const BY_INDEX: [&str; 4] = ["enable_seqscan", "enable_bitmapscan", "enable_hashjoin", "enable_mergejoin"];

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

    /// A transaction of the platform's staff: it sees every tenant, and no tenant's secrets.
    pub async fn staff(&self, by: &Staff) -> Result<StaffTx> {
        tracing::debug!(staff.id = %by.id(), "the staff's door opens");
        let begin =
            format!("begin; set local statement_timeout = '{STATEMENT_TIMEOUT}'; set local role millwork_staff");
        Ok(StaffTx { tx: begin_with(&self.pool, begin).await? })
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
        self.system_with("").await
    }

    /// A system transaction for heartbeats and looks at the ledger that come often. Its commit does not wait for the
    /// disk: a crash of PostgreSQL may forget it without losing a job. Its plans are held to index lookups.
    pub async fn system_relaxed(&self) -> Result<SystemTx> {
        self.system_with(&format!("; set local synchronous_commit = off{}", by_index())).await
    }

    /// A durable system transaction, its plans held to index lookups.
    pub async fn system_by_index(&self) -> Result<SystemTx> {
        self.system_with(&by_index()).await
    }

    /// The same for reading on in an index's order: nothing is sorted.
    pub async fn system_in_order(&self) -> Result<SystemTx> {
        self.system_with(&(by_index() + "; set local enable_sort = off")).await
    }

    async fn system_with(&self, settings: &str) -> Result<SystemTx> {
        let begin = format!(
            "begin; set local statement_timeout = '{STATEMENT_TIMEOUT}'; set local role millwork_system{settings}"
        );
        Ok(SystemTx { tx: begin_with(&self.pool, begin).await? })
    }

    /// A connection of a loop's own, for statements that are transactions of their own.
    pub fn dedicated(&self, durability: Durability) -> Dedicated {
        Dedicated::new((*self.pool.connect_options()).clone(), durability)
    }
}

fn by_index() -> String {
    BY_INDEX.map(|setting| format!("; set local {setting} = off")).concat()
}

/// Begins with settings in the same round trip. A connection found dead is replaced once, by a new one: after a restart
/// of the server the others in the pool are dead too.
async fn begin_with(pool: &PgPool, begin: String) -> Result<Transaction> {
    let _waiting = super::metrics::waiting();
    let begin = begin + NO_SILENCE + &crate::audit::begin_setting();
    let started = async {
        match Transaction::begin(pool, &begin).await {
            Err(error) if is_unavailable(&error) && !matches!(error, sqlx::Error::PoolTimedOut) => {
                close_idle(pool);
                Ok(Transaction::begin(pool, &begin).await?)
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
            let class = |of: &str| db.code().is_some_and(|code| code.starts_with(of));
            ["08", "53", "57", "58"].into_iter().any(class) || (class("XX") && ends_the_session(&**db))
        }
        _ => false,
    }
}

/// Whether PostgreSQL gave the session up. On a full disk it does so to new ones, as for a failure of its own ("could not write
/// init file").
fn ends_the_session(error: &dyn DatabaseError) -> bool {
    let severity = error.try_downcast_ref::<PgDatabaseError>().map(PgDatabaseError::severity);
    matches!(severity, Some(PgSeverity::Fatal | PgSeverity::Panic))
}

/// One tenant's transaction. Dropped without [`commit`](Self::commit), it rolls back.
#[derive(Debug)]
pub struct TenantTx {
    tx: Transaction,
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
    tx: Transaction,
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

/// A transaction of the platform's staff. Dropped without [`commit`](Self::commit), it rolls back.
#[derive(Debug)]
pub struct StaffTx {
    tx: Transaction,
}

impl StaffTx {
    pub async fn commit(self) -> Result<()> {
        Ok(self.tx.commit().await?)
    }
}

/// The system's transaction. Dropped without [`commit`](Self::commit), it rolls back.
#[derive(Debug)]
pub struct SystemTx {
    tx: Transaction,
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
connection!(TenantTx, IdentityTx, StaffTx, SystemTx);

/// Gives up `work` after `limit`. Whether it was committed is not known then.
async fn within<T>(limit: Duration, work: impl Future<Output = Result<T>>) -> Result<T> {
    tokio::time::timeout(limit, work).await.unwrap_or_else(|_| Err(no_answer(limit)))
}

fn no_answer(limit: Duration) -> Error {
    Error::Unavailable { dependency: "database", cause: format!("no answer within {limit:?}") }
}

/// The ledger's time, to the microsecond that it stores.
pub async fn ledger_now(conn: &mut PgConnection) -> Result<DateTime<Utc>> {
    Ok(sqlx::query_scalar("select ledger_now()").fetch_one(conn).await?)
}
