//! Every statement on `api_keys`, `refresh_tokens`, `one_time_tokens` and `signing_keys`.

use crate::Result;
use crate::infra::db::IdentityTx;
use crate::infra::ids::{ApiKeyId, SessionId, TenantId, UserId};

/// An API key that is neither revoked nor expired.
#[derive(Debug, sqlx::FromRow)]
pub struct LiveApiKey {
    pub id: ApiKeyId,
    pub tenant_id: TenantId,
    pub created_by: UserId,
    pub secret_hash: Vec<u8>,
    pub permissions: Vec<String>,
    pub expires_in_ms: Option<i64>,
}

pub async fn find_api_key(tx: &mut IdentityTx, prefix: &str) -> Result<Option<LiveApiKey>> {
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

/// The role behind an access token: of an active member whose session has not been ended.
pub async fn find_session_role(
    tx: &mut IdentityTx,
    tenant: TenantId,
    user: UserId,
    session: SessionId,
) -> Result<Option<String>> {
    Ok(sqlx::query_scalar(
        "select m.role
           from memberships m join users u on u.id = m.user_id
          where m.tenant_id = $1 and m.user_id = $2 and u.deactivated_at is null
            and exists (select from refresh_tokens r
                         where r.family_id = $3 and r.tenant_id = $1 and r.user_id = $2
                           and r.spent_at is null and r.revoked_at is null and r.expires_at > ledger_now())",
    )
    .bind(tenant)
    .bind(user)
    .bind(session)
    .fetch_optional(&mut **tx)
    .await?)
}
