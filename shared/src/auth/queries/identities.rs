//! Every statement on `identities`, `oauth_states` and `oauth_codes`.

use std::time::Duration;

use chrono::{DateTime, Utc};
use uuid::Uuid;

use crate::error::OnConstraint;
use crate::infra::db::IdentityTx;
use crate::infra::ids::{IdentityId, TenantId, UserId};
use crate::{Error, Result};

/// A person as a provider knows them. The address was proven to it.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
pub struct Identity {
    pub issuer: String,
    /// The issuer's name for them, which is never given to anybody else.
    pub subject: String,
    /// What we call the provider.
    pub provider: String,
    pub email: String,
}

/// An identity that is linked to an account, as its owner sees it.
#[derive(Debug, Clone, sqlx::FromRow)]
pub struct LinkedIdentity {
    pub id: IdentityId,
    pub provider: String,
    pub issuer: String,
    /// When it was linked.
    pub email: String,
    pub created_at: DateTime<Utc>,
}

/// An account that a provider's word may open.
#[derive(Debug, Clone, Copy, PartialEq, Eq, sqlx::FromRow)]
pub struct Account {
    pub user_id: UserId,
    /// Not deactivated.
    pub active: bool,
    /// Its address was proven to us.
    pub proven: bool,
}

/// A code that stands for a person for a while.
#[derive(Debug, sqlx::FromRow)]
pub struct Code {
    pub user_id: UserId,
    pub wished_tenant: Option<TenantId>,
    /// SHA-256 of what whoever presents the code must show too.
    pub challenge: Option<Vec<u8>>,
    #[sqlx(flatten)]
    pub identity: Identity,
}

/// Uses up the state of that hash; false when it was used before.
pub async fn spend_state(tx: &mut IdentityTx, hash: [u8; 32]) -> Result<bool> {
    let spent = sqlx::query("insert into oauth_states (state_hash) values ($1) on conflict do nothing")
        .bind(&hash[..])
        .execute(&mut **tx)
        .await?;
    Ok(spent.rows_affected() > 0)
}

/// The account that an identity was linked to.
pub async fn find_linked(tx: &mut IdentityTx, issuer: &str, subject: &str) -> Result<Option<Account>> {
    Ok(sqlx::query_as(
        "select u.id as user_id, u.deactivated_at is null as active, u.verified_at is not null as proven
           from identities i join users u on u.id = i.user_id where i.issuer = $1 and i.subject = $2",
    )
    .bind(issuer)
    .bind(subject)
    .fetch_optional(&mut **tx)
    .await?)
}

/// The account of an address, in any case of letters.
pub async fn find_by_email(tx: &mut IdentityTx, email: &str) -> Result<Option<Account>> {
    Ok(sqlx::query_as(
        "select id as user_id, deactivated_at is null as active, verified_at is not null as proven
           from users where lower(email) = lower($1)",
    )
    .bind(email)
    .fetch_optional(&mut **tx)
    .await?)
}

/// Whether an identity may open an account, until the end of this transaction: it is linked to it, or the account is of
/// the same proven address. The person is active.
pub async fn hold(tx: &mut IdentityTx, user: UserId, identity: &Identity) -> Result<bool> {
    let held: Option<i32> = sqlx::query_scalar(
        "select 1 from users u
          where u.id = $1 and u.deactivated_at is null
            and (exists (select from identities i where i.issuer = $2 and i.subject = $3 and i.user_id = u.id)
                 or (u.verified_at is not null and lower(u.email) = lower($4)))
            for share",
    )
    .bind(user)
    .bind(&identity.issuer)
    .bind(&identity.subject)
    .bind(&identity.email)
    .fetch_optional(&mut **tx)
    .await?;
    Ok(held.is_some())
}

/// Links an identity to an account; false when it was linked to it before.
///
/// # Errors
/// `identity_conflict` (409) when the account has another identity of this issuer, or the identity another account.
pub async fn link(tx: &mut IdentityTx, user: UserId, identity: &Identity) -> Result<bool> {
    let conflict = || {
        let detail = "the account is linked to another person at this provider; sign in as that one, or by password";
        Error::conflict("identity_conflict", detail)
    };
    let linked = sqlx::query(
        "insert into identities (issuer, subject, user_id, provider, email, id) values ($1, $2, $3, $4, $5, $6)
         on conflict (issuer, subject) do nothing",
    )
    .bind(&identity.issuer)
    .bind(&identity.subject)
    .bind(user)
    .bind(&identity.provider)
    .bind(&identity.email)
    .bind(IdentityId::generate())
    .execute(&mut **tx)
    .await
    .on_constraint("identities_user_key", conflict)?;
    if linked.rows_affected() > 0 {
        return Ok(true);
    }
    match find_linked(tx, &identity.issuer, &identity.subject).await? {
        Some(account) if account.user_id == user => Ok(false),
        _ => Err(conflict()),
    }
}

/// The identities of a person, newest first, at most `limit`, of ids before `before`.
pub async fn list(tx: &mut IdentityTx, user: UserId, before: Option<Uuid>, limit: i64) -> Result<Vec<LinkedIdentity>> {
    Ok(sqlx::query_as(
        "select id, provider, issuer, email, created_at from identities
          where user_id = $1 and ($2::uuid is null or id < $2) order by id desc limit $3",
    )
    .bind(user)
    .bind(before)
    .bind(limit)
    .fetch_all(&mut **tx)
    .await?)
}

/// Unlinks an identity from its account, and forgets codes that it has open.
///
/// # Errors
/// 404 when the person has no such identity.
pub async fn unlink(tx: &mut IdentityTx, user: UserId, id: IdentityId) -> Result<()> {
    let unlinked: Option<i64> = sqlx::query_scalar(
        "with gone as (delete from identities where id = $1 and user_id = $2 returning issuer, subject),
              codes as (delete from oauth_codes c using gone g where c.issuer = g.issuer and c.subject = g.subject)
         select count(*) from gone having count(*) > 0",
    )
    .bind(id)
    .bind(user)
    .fetch_optional(&mut **tx)
    .await?;
    unlinked.map(|_| ()).ok_or(Error::NotFound("identity"))
}

/// Notes that a provider has proven the address of a person who was just made.
pub async fn mark_proven(tx: &mut IdentityTx, user: UserId) -> Result<()> {
    sqlx::query("update users set verified_at = ledger_now() where id = $1 and verified_at is null")
        .bind(user)
        .execute(&mut **tx)
        .await?;
    Ok(())
}

/// Stores the hash of a code.
pub async fn insert_code(tx: &mut IdentityTx, hash: [u8; 32], code: &Code, valid_for: Duration) -> Result<()> {
    sqlx::query(
        "insert into oauth_codes
                (code_hash, user_id, wished_tenant, challenge, issuer, subject, provider, email, expires_at)
         values ($1, $2, $3, $4, $5, $6, $7, $8, ledger_now() + $9 * interval '1 s')",
    )
    .bind(&hash[..])
    .bind(code.user_id)
    .bind(code.wished_tenant)
    .bind(&code.challenge)
    .bind(&code.identity.issuer)
    .bind(&code.identity.subject)
    .bind(&code.identity.provider)
    .bind(&code.identity.email)
    .bind(valid_for.as_secs_f64())
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// A good code, held until the end of this transaction: of two requests with it, the second finds it gone.
pub async fn find_code(tx: &mut IdentityTx, hash: [u8; 32]) -> Result<Option<Code>> {
    Ok(sqlx::query_as(
        "select user_id, wished_tenant, challenge, issuer, subject, provider, email from oauth_codes
          where code_hash = $1 and expires_at > ledger_now() for update",
    )
    .bind(&hash[..])
    .fetch_optional(&mut **tx)
    .await?)
}

/// Uses up a code.
pub async fn delete_code(tx: &mut IdentityTx, hash: [u8; 32]) -> Result<()> {
    sqlx::query("delete from oauth_codes where code_hash = $1").bind(&hash[..]).execute(&mut **tx).await?;
    Ok(())
}
