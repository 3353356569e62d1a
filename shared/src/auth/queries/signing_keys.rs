//! Every statement on `signing_keys`.

use std::time::Duration;

use sqlx::PgConnection;

use crate::Result;
use crate::infra::db::{IdentityTx, SystemTx};
use crate::infra::ids::SigningKeyId;

/// How long a key signs before another one is made.
pub const SIGNS_FOR: Duration = Duration::from_secs(30 * 24 * 3_600);
/// How long a key is published before it signs, and how long the one before stays when it has begun to. Longer than
/// anyone keeps a copy of the published keys, and longer than an access token is good.
pub const OVERLAP: Duration = Duration::from_secs(3_600);

/// A key that signs access tokens, or will, or did.
#[derive(Debug, Clone, sqlx::FromRow)]
pub struct SigningKey {
    pub id: SigningKeyId,
    /// Ed25519, 32 bytes.
    pub public_key: Vec<u8>,
    /// PKCS#8, sealed under [`context`].
    pub sealed_private: Vec<u8>,
    /// Whether its time to sign has come.
    pub signs: bool,
}

/// What a private key is sealed for.
pub fn context(id: SigningKeyId) -> String {
    format!("signing_keys/{id}")
}

/// The keys in use, newest first. The first one whose time has come signs, all of them check.
pub async fn list(tx: &mut IdentityTx) -> Result<Vec<SigningKey>> {
    Ok(sqlx::query_as(
        "select id, public_key, sealed_private, signs_from <= ledger_now() as signs from signing_keys
          where retired_at is null order by signs_from desc, id desc limit 16",
    )
    .fetch_all(&mut **tx)
    .await?)
}

/// Lets one process at a time look whether a key must be made.
pub async fn lock(conn: &mut PgConnection) -> Result<()> {
    sqlx::query("select pg_advisory_xact_lock(hashtext('millwork.signing_keys'))").execute(conn).await?;
    Ok(())
}

/// Stores a key that begins to sign after `delay`.
pub async fn insert(conn: &mut PgConnection, key: &SigningKey, delay: Duration) -> Result<()> {
    sqlx::query(
        "insert into signing_keys (id, public_key, sealed_private, signs_from)
         values ($1, $2, $3, ledger_now() + $4 * interval '1 s')",
    )
    .bind(key.id)
    .bind(&key.public_key)
    .bind(&key.sealed_private)
    .bind(delay.as_secs_f64())
    .execute(conn)
    .await?;
    Ok(())
}

/// Whether the newest key has signed for [`SIGNS_FOR`]. Not while there is none: who signs first makes the first.
pub async fn is_successor_due(tx: &mut SystemTx) -> Result<bool> {
    let due: Option<bool> = sqlx::query_scalar(
        "select max(signs_from) <= ledger_now() - $1 * interval '1 s' from signing_keys where retired_at is null",
    )
    .bind(SIGNS_FOR.as_secs_f64())
    .fetch_one(&mut **tx)
    .await?;
    Ok(due.unwrap_or(false))
}

/// Retires the keys whose successor has signed for [`OVERLAP`]. Answers how many.
pub async fn retire(tx: &mut SystemTx) -> Result<u64> {
    let retired = sqlx::query(
        "update signing_keys k set retired_at = ledger_now()
          where k.retired_at is null
            and exists (select from signing_keys n
                         where n.retired_at is null and n.signs_from > k.signs_from
                           and n.signs_from <= ledger_now() - $1 * interval '1 s')",
    )
    .bind(OVERLAP.as_secs_f64())
    .execute(&mut **tx)
    .await?;
    Ok(retired.rows_affected())
}
