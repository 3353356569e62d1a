//! Proving a mail address by a single-use token.

use crate::Result;
use crate::infra::db::IdentityTx;
use crate::infra::ids::UserId;

/// What became of a token that was presented.
#[derive(Debug, PartialEq, Eq)]
pub enum Verification {
    /// The address of this user is proven.
    Done(UserId),
    /// It was used before, or has expired.
    Spent,
    Unknown,
}

/// Marks a person's address as proven.
pub async fn prove_email(tx: &mut IdentityTx, user: UserId) -> Result<()> {
    sqlx::query("update users set verified_at = coalesce(verified_at, ledger_now()) where id = $1")
        .bind(user)
        .execute(&mut **tx)
        .await?;
    Ok(())
}

/// Spends a token and marks its user's address as proven.
pub async fn verify_email(tx: &mut IdentityTx, hash: [u8; 32]) -> Result<Verification> {
    let user: Option<UserId> = sqlx::query_scalar(
        "update one_time_tokens set used_at = ledger_now()
          where token_hash = $1 and purpose = 'verify_email' and used_at is null and expires_at > ledger_now()
         returning user_id",
    )
    .bind(&hash[..])
    .fetch_optional(&mut **tx)
    .await?;
    let Some(user) = user else {
        let known: bool = sqlx::query_scalar(
            "select exists (select from one_time_tokens where token_hash = $1 and purpose = 'verify_email')",
        )
        .bind(&hash[..])
        .fetch_one(&mut **tx)
        .await?;
        return Ok(if known { Verification::Spent } else { Verification::Unknown });
    };
    prove_email(tx, user).await?;
    Ok(Verification::Done(user))
}
