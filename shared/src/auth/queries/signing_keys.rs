//! Every statement on `signing_keys`.

use crate::Result;
use crate::infra::db::IdentityTx;
use crate::infra::ids::SigningKeyId;

/// A key that signs access tokens; the newest one signs, all of them check.
#[derive(Debug, Clone, sqlx::FromRow)]
pub struct SigningKey {
    pub id: SigningKeyId,
    /// Ed25519, 32 bytes.
    pub public_key: Vec<u8>,
    /// PKCS#8, sealed under [`context`].
    pub sealed_private: Vec<u8>,
}

/// What a private key is sealed for.
pub fn context(id: SigningKeyId) -> String {
    format!("signing_keys/{id}")
}

/// The keys in use, newest first.
pub async fn list(tx: &mut IdentityTx) -> Result<Vec<SigningKey>> {
    Ok(sqlx::query_as(
        "select id, public_key, sealed_private from signing_keys where retired_at is null order by id desc limit 16",
    )
    .fetch_all(&mut **tx)
    .await?)
}

/// Lets one process at a time look whether a key must be made.
pub async fn lock(tx: &mut IdentityTx) -> Result<()> {
    sqlx::query("select pg_advisory_xact_lock(hashtext('millwork.signing_keys'))").execute(&mut **tx).await?;
    Ok(())
}

pub async fn insert(tx: &mut IdentityTx, key: &SigningKey) -> Result<()> {
    sqlx::query("insert into signing_keys (id, public_key, sealed_private) values ($1, $2, $3)")
        .bind(key.id)
        .bind(&key.public_key)
        .bind(&key.sealed_private)
        .execute(&mut **tx)
        .await?;
    Ok(())
}
