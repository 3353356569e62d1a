//! Every statement on `sessions` and `refresh_tokens`. Of a session's tokens one is unspent, the others are spent.
//!
//! Whatever ends a session or goes on with it locks the session's row first, so that neither misses the other.

use std::time::Duration;

use chrono::{DateTime, Utc};
use uuid::Uuid;

use crate::auth::Client;
use crate::infra::db::{IdentityTx, TenantTx};
use crate::infra::ids::{RefreshTokenId, SessionId, TenantId, UserId};
use crate::tenants::Standing;
use crate::tenants::queries::standing;
use crate::{Error, Result};

/// How long a session may rest before it must be opened anew.
pub const LONGEST_REST: Duration = Duration::from_secs(30 * 24 * 3_600);
/// How long a session may go on, however busy it is.
pub const LONGEST_LIFE: Duration = Duration::from_secs(90 * 24 * 3_600);
/// How long after it was spent a refresh token may come again from the same client, whose answer was lost.
pub const RETRY_WITHIN: Duration = Duration::from_secs(10);
/// Open sessions of one person; one more ends the oldest.
pub const MOST_SESSIONS: i64 = 100;

/// Whose session it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Session {
    pub id: SessionId,
    pub tenant: TenantId,
    pub user: UserId,
}

/// An open session, as its owner sees it.
#[derive(Debug, Clone, sqlx::FromRow)]
pub struct OpenSession {
    pub id: SessionId,
    pub tenant_id: TenantId,
    pub tenant_name: String,
    pub address: Option<String>,
    pub user_agent: Option<String>,
    pub created_at: DateTime<Utc>,
    pub refreshed_at: DateTime<Utc>,
    pub expires_at: DateTime<Utc>,
}

/// What became of a refresh token that was presented.
#[derive(Debug, PartialEq, Eq)]
pub enum Spent {
    /// It was good, and is spent now. The next one is to be stored.
    Now(Session),
    /// It was spent a moment ago by the same client, which has not used the next one yet: the one derived with this salt.
    Again(Session, Vec<u8>),
    /// It had been spent before: someone has a copy. Its session has ended; commit that.
    Before(Session),
    /// Unknown or expired, or its session has ended.
    Unknown,
}

/// Who is behind an access token: an active member whose session goes on.
pub async fn find_standing(tx: &mut IdentityTx, session: Session) -> Result<Option<Standing>> {
    Ok(sqlx::query_as(concat!(
        "select ",
        standing!(),
        " from memberships m join users u on u.id = m.user_id
          where m.tenant_id = $1 and m.user_id = $2 and m.deactivated_at is null and u.deactivated_at is null
            and exists (select from sessions s
                         where s.id = $3 and s.tenant_id = $1 and s.user_id = $2
                           and s.ended_at is null and s.expires_at > ledger_now())",
    ))
    .bind(session.tenant)
    .bind(session.user)
    .bind(session.id)
    .fetch_optional(&mut **tx)
    .await?)
}

/// Opens a session with its first refresh token. Beyond [`MOST_SESSIONS`] of a person the oldest end.
pub async fn open(tx: &mut IdentityTx, session: Session, client: &Client, hash: [u8; 32]) -> Result<()> {
    sqlx::query(
        "insert into sessions (id, tenant_id, user_id, address, user_agent, expires_at)
         values ($1, $2, $3, $4, $5, ledger_now() + $6 * interval '1 s')",
    )
    .bind(session.id)
    .bind(session.tenant)
    .bind(session.user)
    .bind(&client.address)
    .bind(&client.user_agent)
    .bind(LONGEST_REST.as_secs_f64())
    .execute(&mut **tx)
    .await?;
    insert_token(tx, session, hash).await?;
    sqlx::query(
        "update sessions set ended_at = ledger_now()
          where id in (select id from sessions where user_id = $1 and ended_at is null order by id desc offset $2)",
    )
    .bind(session.user)
    .bind(MOST_SESSIONS)
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Whether a session of an active person goes on, and until the end of this transaction.
pub async fn hold(tx: &mut IdentityTx, session: SessionId) -> Result<bool> {
    let held: Option<i32> = sqlx::query_scalar(
        "select 1 from sessions s join users u on u.id = s.user_id
          where s.id = $1 and s.ended_at is null and s.expires_at > ledger_now() and u.deactivated_at is null for share",
    )
    .bind(session)
    .fetch_optional(&mut **tx)
    .await?;
    Ok(held.is_some())
}

/// Stores a session's next refresh token, which is good for as long as the session.
pub async fn insert_token(tx: &mut IdentityTx, session: Session, hash: [u8; 32]) -> Result<()> {
    sqlx::query(
        "insert into refresh_tokens (id, session_id, tenant_id, user_id, token_hash, expires_at)
         select $1, id, tenant_id, user_id, $3, expires_at from sessions where id = $2",
    )
    .bind(RefreshTokenId::generate())
    .bind(session.id)
    .bind(&hash[..])
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Spends a refresh token and prolongs its session. `salt` is what the next token is derived with.
pub async fn spend(tx: &mut IdentityTx, hash: [u8; 32], client: &Client, salt: &[u8]) -> Result<Spent> {
    #[derive(sqlx::FromRow)]
    struct Row {
        id: RefreshTokenId,
        session_id: SessionId,
        tenant_id: TenantId,
        user_id: UserId,
        spent: bool,
        salt_of_retry: Option<Vec<u8>>,
    }
    let row: Option<Row> = sqlx::query_as(
        "select r.id, r.session_id, r.tenant_id, r.user_id, r.spent_at is not null as spent,
                case when r.spent_at > ledger_now() - $4 * interval '1 s' and s.address is not distinct from $2
                          and s.user_agent is not distinct from $3 then r.salt end as salt_of_retry
           from refresh_tokens r join sessions s on s.id = r.session_id
          where r.token_hash = $1 and r.expires_at > ledger_now()
            and s.ended_at is null and s.expires_at > ledger_now()
            for update",
    )
    .bind(&hash[..])
    .bind(&client.address)
    .bind(&client.user_agent)
    .bind(RETRY_WITHIN.as_secs_f64())
    .fetch_optional(&mut **tx)
    .await?;
    let Some(row) = row else { return Ok(Spent::Unknown) };
    let session = Session { id: row.session_id, tenant: row.tenant_id, user: row.user_id };
    if let Some(salt) = row.salt_of_retry {
        return Ok(Spent::Again(session, salt));
    }
    if row.spent {
        end(tx, session.id).await?;
        return Ok(Spent::Before(session));
    }
    sqlx::query(
        "update refresh_tokens
            set spent_at = case when id = $2 then ledger_now() else spent_at end, salt = case when id = $2 then $3 end
          where session_id = $1 and (id = $2 or salt is not null)",
    )
    .bind(session.id)
    .bind(row.id)
    .bind(salt)
    .execute(&mut **tx)
    .await?;
    sqlx::query(
        "update sessions
            set refreshed_at = ledger_now(), address = $2, user_agent = $3,
                expires_at = least(ledger_now() + $4 * interval '1 s', created_at + $5 * interval '1 s')
          where id = $1",
    )
    .bind(session.id)
    .bind(&client.address)
    .bind(&client.user_agent)
    .bind(LONGEST_REST.as_secs_f64())
    .bind(LONGEST_LIFE.as_secs_f64())
    .execute(&mut **tx)
    .await?;
    Ok(Spent::Now(session))
}

/// A page of the open sessions of `user` in all tenants, newest first.
pub async fn list(tx: &mut IdentityTx, user: UserId, before: Option<Uuid>, limit: i64) -> Result<Vec<OpenSession>> {
    Ok(sqlx::query_as(
        "select s.id, s.tenant_id, t.name as tenant_name, s.address, s.user_agent, s.created_at, s.refreshed_at,
                s.expires_at
           from sessions s join tenants t on t.id = s.tenant_id
          where s.user_id = $1 and s.ended_at is null and s.expires_at > ledger_now()
            and ($2::uuid is null or s.id < $2)
          order by s.id desc limit $3",
    )
    .bind(user)
    .bind(before)
    .bind(limit)
    .fetch_all(&mut **tx)
    .await?)
}

/// The open session `id` of `user`.
pub async fn get(tx: &mut IdentityTx, user: UserId, id: SessionId) -> Result<OpenSession> {
    sqlx::query_as(
        "select s.id, s.tenant_id, t.name as tenant_name, s.address, s.user_agent, s.created_at, s.refreshed_at,
                s.expires_at
           from sessions s join tenants t on t.id = s.tenant_id
          where s.id = $1 and s.user_id = $2 and s.ended_at is null and s.expires_at > ledger_now()",
    )
    .bind(id)
    .bind(user)
    .fetch_optional(&mut **tx)
    .await?
    .ok_or(Error::NotFound("session"))
}

/// Ends a session: its refresh token and its access tokens with it.
pub async fn end(tx: &mut IdentityTx, session: SessionId) -> Result<()> {
    sqlx::query("update sessions set ended_at = ledger_now() where id = $1 and ended_at is null")
        .bind(session)
        .execute(&mut **tx)
        .await?;
    Ok(())
}

/// Ends the sessions of `user` in every tenant, all of them or all but one. Answers which.
///
/// After the commit [`announce`](crate::auth::revocation::announce) them, for their access tokens to stop everywhere at once.
pub async fn end_all(tx: &mut IdentityTx, user: UserId, except: Option<SessionId>) -> Result<Vec<SessionId>> {
    Ok(sqlx::query_scalar(
        "update sessions set ended_at = ledger_now()
          where user_id = $1 and ended_at is null and ($2::uuid is null or id <> $2) returning id",
    )
    .bind(user)
    .bind(except)
    .fetch_all(&mut **tx)
    .await?)
}

/// Ends the sessions of `user` in this tenant: for who is deactivated there, or leaves. Answers which; see [`end_all`].
pub async fn end_of_member(tx: &mut TenantTx, user: UserId) -> Result<Vec<SessionId>> {
    Ok(sqlx::query_scalar(
        "update sessions set ended_at = ledger_now() where user_id = $1 and ended_at is null returning id",
    )
    .bind(user)
    .fetch_all(&mut **tx)
    .await?)
}
