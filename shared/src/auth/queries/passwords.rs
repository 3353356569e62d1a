//! Every statement on passwords and the tokens that replace them. Whoever signs in by a password holds the person's row,
//! and whoever changes it does too, so that no session is opened by a password that was just changed.

use crate::Result;
use crate::infra::db::IdentityTx;
use crate::infra::ids::UserId;

/// A person as needed to change their password.
#[derive(Debug, sqlx::FromRow)]
pub struct Person {
    pub id: UserId,
    pub email: String,
    pub name: String,
    /// argon2id, PHC string.
    pub password_hash: String,
}

/// A token for a new password.
#[derive(Debug, sqlx::FromRow)]
pub struct Reset {
    pub user_id: UserId,
    pub email: String,
    pub name: String,
    /// Neither used nor expired.
    pub good: bool,
}

/// The active person `user`.
pub async fn find_person(tx: &mut IdentityTx, user: UserId) -> Result<Option<Person>> {
    Ok(sqlx::query_as("select id, email, name, password_hash from users where id = $1 and deactivated_at is null")
        .bind(user)
        .fetch_optional(&mut **tx)
        .await?)
}

/// Whether `hash` is still the password of the active person `user`, and until the end of this transaction.
pub async fn hold(tx: &mut IdentityTx, user: UserId, hash: &str) -> Result<bool> {
    let held: Option<i32> = sqlx::query_scalar(
        "select 1 from users where id = $1 and password_hash = $2 and deactivated_at is null for share",
    )
    .bind(user)
    .bind(hash)
    .fetch_optional(&mut **tx)
    .await?;
    Ok(held.is_some())
}

/// Replaces a hash by another one; false when it is no longer the person's, or they are deactivated.
pub async fn replace(tx: &mut IdentityTx, user: UserId, old: &str, fresh: &str) -> Result<bool> {
    let sql = "update users set password_hash = $3 where id = $1 and password_hash = $2 and deactivated_at is null";
    let replaced = sqlx::query(sql).bind(user).bind(old).bind(fresh).execute(&mut **tx).await?;
    Ok(replaced.rows_affected() > 0)
}

/// The token of that hash, of an active person.
pub async fn find_reset(tx: &mut IdentityTx, token_hash: [u8; 32]) -> Result<Option<Reset>> {
    Ok(sqlx::query_as(
        "select u.id as user_id, u.email, u.name, t.used_at is null and t.expires_at > ledger_now() as good
           from one_time_tokens t join users u on u.id = t.user_id
          where t.token_hash = $1 and t.purpose = 'reset_password' and u.deactivated_at is null",
    )
    .bind(&token_hash[..])
    .fetch_optional(&mut **tx)
    .await?)
}

/// Spends a token and gives its person another password. Their other tokens for that are spent too, and the address is
/// proven: the token was in their mail. False when the token is not good any more.
pub async fn reset(tx: &mut IdentityTx, token_hash: [u8; 32], fresh: &str) -> Result<bool> {
    let user: Option<UserId> = sqlx::query_scalar(
        "update one_time_tokens set used_at = ledger_now()
          where token_hash = $1 and purpose = 'reset_password' and used_at is null and expires_at > ledger_now()
         returning user_id",
    )
    .bind(&token_hash[..])
    .fetch_optional(&mut **tx)
    .await?;
    let Some(user) = user else { return Ok(false) };
    spend_resets(tx, user).await?;
    let changed = sqlx::query(
        "update users set password_hash = $2, verified_at = coalesce(verified_at, ledger_now())
          where id = $1 and deactivated_at is null",
    )
    .bind(user)
    .bind(fresh)
    .execute(&mut **tx)
    .await?;
    Ok(changed.rows_affected() > 0)
}

/// Spends all tokens for a new password of `user`.
pub async fn spend_resets(tx: &mut IdentityTx, user: UserId) -> Result<()> {
    sqlx::query(
        "update one_time_tokens set used_at = ledger_now()
          where user_id = $1 and purpose = 'reset_password' and used_at is null",
    )
    .bind(user)
    .execute(&mut **tx)
    .await?;
    Ok(())
}
