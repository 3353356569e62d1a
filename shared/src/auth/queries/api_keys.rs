//! Every statement on `api_keys`.

use chrono::{DateTime, Utc};
use uuid::Uuid;

use crate::infra::db::{IdentityTx, TenantTx};
use crate::infra::ids::{ApiKeyId, TenantId, UserId};
use crate::{Error, Result};

/// A key that is neither revoked nor expired, as it is needed to check one.
#[derive(Debug, sqlx::FromRow)]
pub struct LiveApiKey {
    pub id: ApiKeyId,
    pub tenant_id: TenantId,
    pub created_by: UserId,
    pub secret_hash: Vec<u8>,
    pub permissions: Vec<String>,
    pub expires_in_ms: Option<i64>,
}

/// What a tenant sees of its keys.
#[derive(Debug, Clone, sqlx::FromRow)]
pub struct ApiKey {
    pub id: ApiKeyId,
    pub name: String,
    pub prefix: String,
    pub permissions: Vec<String>,
    pub created_by: UserId,
    pub expires_at: Option<DateTime<Utc>>,
    pub created_at: DateTime<Utc>,
}

#[derive(Debug)]
pub struct NewApiKey<'a> {
    pub name: &'a str,
    pub prefix: &'a str,
    pub secret_hash: [u8; 32],
    pub permissions: Vec<&'static str>,
    pub created_by: UserId,
    pub expires_at: Option<DateTime<Utc>>,
}

/// The key of that prefix, whichever tenant's it is. Dead with the person who made it.
pub async fn find_live(tx: &mut IdentityTx, prefix: &str) -> Result<Option<LiveApiKey>> {
    Ok(sqlx::query_as(
        "select k.id, k.tenant_id, k.created_by, k.secret_hash, k.permissions,
                (extract(epoch from k.expires_at - ledger_now()) * 1000)::bigint as expires_in_ms
           from api_keys k join users u on u.id = k.created_by
          where k.prefix = $1 and k.revoked_at is null and u.deactivated_at is null
            and (k.expires_at is null or k.expires_at > ledger_now())",
    )
    .bind(prefix)
    .fetch_optional(&mut **tx)
    .await?)
}

/// # Errors
/// 422 when the key would have expired already, by the database's clock.
pub async fn insert(tx: &mut TenantTx, key: &NewApiKey<'_>) -> Result<ApiKey> {
    let tenant = tx.tenant();
    sqlx::query_as(
        "insert into api_keys (id, tenant_id, created_by, name, prefix, secret_hash, permissions, expires_at)
         select $1, $2, $3, $4, $5, $6, $7, $8 where $8 is null or $8 > ledger_now()
         returning id, name, prefix, permissions, created_by, expires_at, created_at",
    )
    .bind(ApiKeyId::generate())
    .bind(tenant)
    .bind(key.created_by)
    .bind(key.name)
    .bind(key.prefix)
    .bind(&key.secret_hash[..])
    .bind(&key.permissions)
    .bind(key.expires_at)
    .fetch_optional(&mut **tx)
    .await?
    .ok_or_else(|| Error::invalid("expires_at", "must lie in the future"))
}

/// A page of the keys that were not revoked, newest first; expired ones included.
pub async fn list(tx: &mut TenantTx, before: Option<Uuid>, limit: i64) -> Result<Vec<ApiKey>> {
    Ok(sqlx::query_as(
        "select id, name, prefix, permissions, created_by, expires_at, created_at from api_keys
          where revoked_at is null and ($1::uuid is null or id < $1) order by id desc limit $2",
    )
    .bind(before)
    .bind(limit)
    .fetch_all(&mut **tx)
    .await?)
}

pub async fn get(tx: &mut TenantTx, id: ApiKeyId) -> Result<ApiKey> {
    sqlx::query_as(
        "select id, name, prefix, permissions, created_by, expires_at, created_at from api_keys
          where id = $1 and revoked_at is null",
    )
    .bind(id)
    .fetch_optional(&mut **tx)
    .await?
    .ok_or(Error::NotFound("API key"))
}

/// Gives the key a new secret; the old one stops.
pub async fn replace_secret(tx: &mut TenantTx, id: ApiKeyId, prefix: &str, secret_hash: [u8; 32]) -> Result<ApiKey> {
    sqlx::query_as(
        "update api_keys set prefix = $2, secret_hash = $3 where id = $1 and revoked_at is null
         returning id, name, prefix, permissions, created_by, expires_at, created_at",
    )
    .bind(id)
    .bind(prefix)
    .bind(&secret_hash[..])
    .fetch_optional(&mut **tx)
    .await?
    .ok_or(Error::NotFound("API key"))
}

pub async fn revoke(tx: &mut TenantTx, id: ApiKeyId) -> Result<()> {
    let revoked = sqlx::query("update api_keys set revoked_at = ledger_now() where id = $1 and revoked_at is null")
        .bind(id)
        .execute(&mut **tx)
        .await?;
    if revoked.rows_affected() == 0 { Err(Error::NotFound("API key")) } else { Ok(()) }
}
