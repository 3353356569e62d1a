//! Real databases for tests, made in milliseconds from a migrated template, and real peers.

use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{AssertSqlSafe, Connection, PgConnection, PgPool, Row};

use crate::infra::clock::Clock;
use crate::infra::db::{self, Db};
use crate::infra::ids::TenantId;
use crate::infra::redis::{self, Redis};
use crate::infra::storage::Storage;

/// Mails as their receiver reads them.
pub mod mail;
/// A page of metrics as Prometheus reads it.
pub mod metrics;
/// An S3 service.
pub mod object_store;
/// An HTTP server that answers by a script.
pub mod receiver;
/// Reports of faults as Sentry receives them.
pub mod sentry;
/// An SMTP server that answers by a script.
pub mod smtp;

pub use receiver::{HttpReceiver, Received, Reply};

/// A database of its own, dropped at the end, whose clock can be moved.
pub struct TestDb {
    pub db: Db,
    pub clock: Clock,
    pub url: String,
    name: String,
    admin: PgConnectOptions,
}

/// The server that `cargo dev test` started.
fn admin_options() -> PgConnectOptions {
    let url = std::env::var("MILLWORK_TEST_DATABASE_URL")
        .expect("MILLWORK_TEST_DATABASE_URL is not set: run the tests by `cargo dev test`");
    url.parse().expect("MILLWORK_TEST_DATABASE_URL is a PostgreSQL URL")
}

/// The address of the test Redis; tests share it and keep apart by [`key_prefix`].
pub fn redis_url() -> String {
    std::env::var("MILLWORK_TEST_REDIS_URL")
        .expect("MILLWORK_TEST_REDIS_URL is not set: run the tests by `cargo dev test`")
}

/// A first part of Redis keys that no other test has.
pub fn key_prefix() -> &'static str {
    Box::leak(format!("t{}", uuid::Uuid::new_v4().simple()).into_boxed_str())
}

/// A folder of its own for objects, which goes with the test's servers.
pub fn storage() -> Storage {
    let folder = std::env::var_os("MILLWORK_TEST_OBJECTS").map_or_else(std::env::temp_dir, Into::into);
    Storage::folder(folder.join(format!("millwork-objects-{}", uuid::Uuid::new_v4().simple())))
        .expect("a folder can be made")
}

/// For what must work without one.
pub fn no_database() -> Db {
    Db::connect_lazy(PgConnectOptions::new_without_pgpass().host("127.0.0.1").port(1), 1)
}

/// The test Redis, connected when first used.
pub fn redis() -> Redis {
    let client = redis::Client::open(&redis_url()).expect("MILLWORK_TEST_REDIS_URL is a Redis URL");
    redis::connect_lazy(&client).expect("a connection can be prepared")
}

impl TestDb {
    /// Clones the migrated template into a fresh database.
    pub async fn create() -> Self {
        let admin = admin_options();
        let mut conn = PgConnection::connect_with(&admin).await.expect("the test database answers");
        let template = ensure_template(&mut conn, &admin).await;
        let name = format!("t_{}", uuid::Uuid::new_v4().simple());
        let sql = format!("create database {name} template {template}");
        sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut conn).await.expect("the template can be cloned");
        let options = admin.clone().database(&name);
        let url = std::env::var("MILLWORK_TEST_DATABASE_URL").unwrap_or_default();
        let url = url.rsplit_once('/').map(|(server, _)| format!("{server}/{name}")).expect("the URL names a database");
        Self { db: Db::connect_lazy(options, 10), clock: Clock::default(), url, name, admin }
    }

    /// A tenant without members.
    pub async fn tenant(&self, name: &str) -> TenantId {
        let id = TenantId::generate();
        let mut tx = self.db.identity().await.expect("the database answers");
        sqlx::query("insert into tenants (id, name) values ($1, $2)")
            .bind(id)
            .bind(name)
            .execute(&mut *tx)
            .await
            .expect("a tenant can be made");
        tx.commit().await.expect("commit");
        id
    }

    /// Moves the ledger's clock and this test's process clock forward.
    pub async fn advance(&self, by: Duration) {
        self.clock.advance(by);
        let sql = format!(
            "create or replace function ledger_now() returns timestamptz language sql stable
             return now() + interval '{} milliseconds'",
            self.clock.offset().as_millis()
        );
        sqlx::raw_sql(AssertSqlSafe(sql)).execute(self.db.pool()).await.expect("the clock can be moved");
    }

    /// Runs a statement as the owner, for looking behind the doors where there is no sqlx; the first column of every row.
    pub async fn sql(&self, sql: impl Into<String>) -> Vec<Option<String>> {
        let rows = sqlx::raw_sql(AssertSqlSafe(sql.into())).fetch_all(&self.owner().await).await;
        let rows = rows.expect("the statement is right");
        rows.iter().map(|row| row.try_get_unchecked(0).expect("the column is text")).collect()
    }

    /// A pool of the owner's role, for looking behind the doors.
    pub async fn owner(&self) -> PgPool {
        PgPoolOptions::new().connect_with(self.admin.clone().database(&self.name)).await.expect("the database answers")
    }
}

impl Drop for TestDb {
    fn drop(&mut self) {
        let (name, admin) = (std::mem::take(&mut self.name), self.admin.clone());
        // A thread of its own: the test's runtime may be gone, and must not be blocked.
        let _ = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(async move {
                let mut conn = PgConnection::connect_with(&admin).await?;
                let sql = format!("drop database if exists {name} with (force)");
                sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut conn).await?;
                anyhow::Ok(())
            })
        })
        .join();
    }
}

/// Makes the template once per set of migrations, whichever test process comes first.
async fn ensure_template(conn: &mut PgConnection, admin: &PgConnectOptions) -> String {
    let template = format!("template_{}", db::schema_fingerprint());
    let exists = "select exists (select from pg_database where datname = $1)";
    if sqlx::query_scalar::<_, bool>(exists).bind(&template).fetch_one(&mut *conn).await.expect("query") {
        return template;
    }
    sqlx::raw_sql("select pg_advisory_lock(7)").execute(&mut *conn).await.expect("lock");
    if !sqlx::query_scalar::<_, bool>(exists).bind(&template).fetch_one(&mut *conn).await.expect("query") {
        let draft = format!("{template}_draft");
        let drop = format!("drop database if exists {draft} with (force)");
        sqlx::raw_sql(AssertSqlSafe(drop)).execute(&mut *conn).await.expect("drop draft");
        sqlx::raw_sql(AssertSqlSafe(format!("create database {draft}")))
            .execute(&mut *conn)
            .await
            .expect("create draft");
        let db = Db::connect_lazy(admin.clone().database(&draft), 1);
        db::migrate(&db).await.expect("the migrations run");
        db.pool().close().await;
        let rename = format!("alter database {draft} rename to {template}");
        sqlx::raw_sql(AssertSqlSafe(rename)).execute(&mut *conn).await.expect("rename draft");
    }
    sqlx::raw_sql("select pg_advisory_unlock(7)").execute(&mut *conn).await.expect("unlock");
    template
}
