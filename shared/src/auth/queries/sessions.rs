//! Every statement on `refresh_tokens`. A session is a family of them: one unspent, the others spent.

use std::time::Duration;

use crate::Result;
use crate::infra::db::IdentityTx;
use crate::infra::ids::{RefreshTokenId, SessionId, TenantId, UserId};

/// Whose session it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Session {
    pub id: SessionId,
    pub tenant: TenantId,
    pub user: UserId,
}

/// What became of a refresh token that was presented.
#[derive(Debug, PartialEq, Eq)]
pub enum Spent {
    /// It was good, and is spent now.
    Now(Session),
    /// It had been spent before: someone has a copy. Its family is revoked; commit that.
    Before(Session),
    /// Unknown, expired or revoked.
    Unknown,
}

/// The role behind an access token: of an active member whose session has not ended.
pub async fn find_role(tx: &mut IdentityTx, session: Session) -> Result<Option<String>> {
    Ok(sqlx::query_scalar(
        "select m.role
           from memberships m join users u on u.id = m.user_id
          where m.tenant_id = $1 and m.user_id = $2 and u.deactivated_at is null
            and exists (select from refresh_tokens r
                         where r.family_id = $3 and r.tenant_id = $1 and r.user_id = $2
                           and r.spent_at is null and r.revoked_at is null and r.expires_at > ledger_now())",
    )
    .bind(session.tenant)
    .bind(session.user)
    .bind(session.id)
    .fetch_optional(&mut **tx)
    .await?)
}

/// Stores a session's next refresh token.
pub async fn insert(tx: &mut IdentityTx, session: Session, hash: [u8; 32], valid_for: Duration) -> Result<()> {
    sqlx::query(
        "insert into refresh_tokens (id, family_id, tenant_id, user_id, token_hash, expires_at)
         values ($1, $2, $3, $4, $5, ledger_now() + $6 * interval '1 second')",
    )
    .bind(RefreshTokenId::generate())
    .bind(session.id)
    .bind(session.tenant)
    .bind(session.user)
    .bind(&hash[..])
    .bind(valid_for.as_secs_f64())
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Spends a refresh token; of two requests with the same one, the second finds it spent.
pub async fn spend(tx: &mut IdentityTx, hash: [u8; 32]) -> Result<Spent> {
    #[derive(sqlx::FromRow)]
    struct Row {
        id: RefreshTokenId,
        family_id: SessionId,
        tenant_id: TenantId,
        user_id: UserId,
        spent: bool,
    }
    let row: Option<Row> = sqlx::query_as(
        "select id, family_id, tenant_id, user_id, spent_at is not null as spent from refresh_tokens
          where token_hash = $1 and revoked_at is null and expires_at > ledger_now() for update",
    )
    .bind(&hash[..])
    .fetch_optional(&mut **tx)
    .await?;
    let Some(row) = row else { return Ok(Spent::Unknown) };
    let session = Session { id: row.family_id, tenant: row.tenant_id, user: row.user_id };
    if row.spent {
        revoke(tx, session.id).await?;
        return Ok(Spent::Before(session));
    }
    sqlx::query("update refresh_tokens set spent_at = ledger_now() where id = $1")
        .bind(row.id)
        .execute(&mut **tx)
        .await?;
    Ok(Spent::Now(session))
}

/// Ends a session: its refresh token and its access tokens with it.
pub async fn revoke(tx: &mut IdentityTx, session: SessionId) -> Result<()> {
    sqlx::query("update refresh_tokens set revoked_at = ledger_now() where family_id = $1 and revoked_at is null")
        .bind(session)
        .execute(&mut **tx)
        .await?;
    Ok(())
}
