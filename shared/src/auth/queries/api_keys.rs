//! Every statement on `api_keys`.

use chrono::{DateTime, Utc};
use uuid::Uuid;

use crate::infra::db::{IdentityTx, TenantTx};
use crate::infra::ids::{ApiKeyId, TenantId, UserId};
use crate::tenants::queries::standing;
use crate::tenants::{Permissions, Standing};
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
    /// What who made it is now: the key may do no more.
    #[sqlx(flatten)]
    pub maker: Standing,
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

impl LiveApiKey {
    /// What the key may do: what it was given, and who made it still holds.
    pub fn held(&self) -> Permissions {
        let given: Permissions = self.permissions.iter().filter_map(|name| name.parse().ok()).collect();
        given.common(self.maker.permissions())
    }
}

macro_rules! live {
    ($which:literal) => {
        concat!(
            "select k.id, k.tenant_id, k.created_by, k.secret_hash, k.permissions,
                    (extract(epoch from k.expires_at - ledger_now()) * 1000)::bigint as expires_in_ms, ",
            standing!(),
            " from api_keys k
              join memberships m on m.tenant_id = k.tenant_id and m.user_id = k.created_by
              join users u on u.id = k.created_by
             where k.revoked_at is null and m.deactivated_at is null and u.deactivated_at is null
               and (k.expires_at is null or k.expires_at > ledger_now()) and ",
            $which
        )
    };
}

/// The key of that prefix, whichever tenant's it is. It rests while the member who made it is not active.
pub async fn find_live(tx: &mut IdentityTx, prefix: &str) -> Result<Option<LiveApiKey>> {
    Ok(sqlx::query_as(live!("k.prefix = $1")).bind(prefix).fetch_optional(&mut **tx).await?)
}

/// As [`find_live`], by id.
pub async fn find_live_by_id(tx: &mut IdentityTx, id: ApiKeyId) -> Result<Option<LiveApiKey>> {
    Ok(sqlx::query_as(live!("k.id = $1")).bind(id).fetch_optional(&mut **tx).await?)
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

/// All that the keys of `maker` may do, those that were not revoked.
pub async fn list_permissions_of(tx: &mut TenantTx, maker: UserId) -> Result<Vec<String>> {
    Ok(sqlx::query_scalar(
        "select distinct p from api_keys, unnest(permissions) p where created_by = $1 and revoked_at is null",
    )
    .bind(maker)
    .fetch_all(&mut **tx)
    .await?)
}

/// Hands the keys of one member over to another one, but those that were revoked. Answers how many.
pub async fn hand_over(tx: &mut TenantTx, from: UserId, to: UserId) -> Result<u64> {
    let moved = sqlx::query("update api_keys set created_by = $2 where created_by = $1 and revoked_at is null")
        .bind(from)
        .bind(to)
        .execute(&mut **tx)
        .await?;
    Ok(moved.rows_affected())
}

/// Deletes the keys of a member who leaves.
pub async fn delete_of(tx: &mut TenantTx, maker: UserId) -> Result<u64> {
    let sql = "delete from api_keys where created_by = $1";
    Ok(sqlx::query(sql).bind(maker).execute(&mut **tx).await?.rows_affected())
}

pub async fn revoke(tx: &mut TenantTx, id: ApiKeyId) -> Result<()> {
    let revoked = sqlx::query("update api_keys set revoked_at = ledger_now() where id = $1 and revoked_at is null")
        .bind(id)
        .execute(&mut **tx)
        .await?;
    if revoked.rows_affected() == 0 { Err(Error::NotFound("API key")) } else { Ok(()) }
}
