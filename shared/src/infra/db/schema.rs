//! The schema: bringing it up to date, and refusing an old one.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::{Db, PATIENCE, within};
use crate::{Error, Result};

static MIGRATIONS: sqlx::migrate::Migrator = sqlx::migrate!("../migrations");

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
                tracing::warn!(%error, error.category = %error.category(), "waiting for PostgreSQL");
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
