//! Single-use tokens that are sent by mail, and to whom. Of a token only its SHA-256 is stored.

use std::time::Duration;

use crate::Result;
use crate::infra::db::SystemTx;
use crate::infra::ids::{OneTimeTokenId, TenantId, UserId};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    VerifyEmail,
    ResetPassword,
}

impl Purpose {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::VerifyEmail => "verify_email",
            Self::ResetPassword => "reset_password",
        }
    }
}

/// A member of a tenant, as far as a mail to them needs it.
#[derive(Debug, sqlx::FromRow)]
pub struct Addressee {
    pub email: String,
    pub name: String,
    /// Their address is proven.
    pub verified: bool,
    pub tenant_name: String,
}

/// None for a user who is deactivated, gone, or no longer a member of `tenant`.
pub async fn find_addressee(tx: &mut SystemTx, tenant: TenantId, user: UserId) -> Result<Option<Addressee>> {
    let row = sqlx::query_as::<_, Addressee>(
        "select u.email, u.name, u.verified_at is not null as verified, t.name as tenant_name
           from memberships m
           join users u on u.id = m.user_id
           join tenants t on t.id = m.tenant_id
          where m.tenant_id = $1 and m.user_id = $2 and m.deactivated_at is null and u.deactivated_at is null",
    )
    .bind(tenant)
    .bind(user)
    .fetch_optional(&mut **tx)
    .await?;
    Ok(row)
}

/// An active person, as far as a mail about their account needs it.
#[derive(Debug, sqlx::FromRow)]
pub struct Person {
    pub email: String,
    pub name: String,
}

/// None for a user who is deactivated or gone.
pub async fn find_person(tx: &mut SystemTx, user: UserId) -> Result<Option<Person>> {
    Ok(sqlx::query_as("select email, name from users where id = $1 and deactivated_at is null")
        .bind(user)
        .fetch_optional(&mut **tx)
        .await?)
}

/// Mails with a token that a user gets in an hour, of each purpose.
const MOST_AN_HOUR: i64 = 5;

/// Whether `user` has been sent so many tokens that they get no more for now: anyone can ask for them in their name.
pub async fn is_flooded(tx: &mut SystemTx, user: UserId, purpose: Purpose) -> Result<bool> {
    let recent: i64 = sqlx::query_scalar(
        "select count(*) from one_time_tokens
          where user_id = $1 and purpose = $2 and created_at > ledger_now() - interval '1 hour'",
    )
    .bind(user)
    .bind(purpose.as_str())
    .fetch_one(&mut **tx)
    .await?;
    Ok(recent >= MOST_AN_HOUR)
}

/// Stores the hash of a token made for `user`. Their earlier tokens stay good: the mail that carries them may be late.
pub async fn insert(
    tx: &mut SystemTx,
    user: UserId,
    purpose: Purpose,
    token_hash: &[u8; 32],
    valid_for: Duration,
) -> Result<()> {
    sqlx::query(
        "insert into one_time_tokens (id, user_id, purpose, token_hash, expires_at)
         values ($1, $2, $3, $4, ledger_now() + $5 * interval '1 second')",
    )
    .bind(OneTimeTokenId::generate())
    .bind(user)
    .bind(purpose.as_str())
    .bind(&token_hash[..])
    .bind(valid_for.as_secs_f64())
    .execute(&mut **tx)
    .await?;
    Ok(())
}
