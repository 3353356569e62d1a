//! Every statement on `totp_factors` and `recovery_codes`.

use std::time::Duration;

use crate::Result;
use crate::infra::db::IdentityTx;
use crate::infra::ids::UserId;

/// A person's second factor.
#[derive(Debug, sqlx::FromRow)]
pub struct Factor {
    /// Sealed under [`context`].
    pub sealed_secret: Vec<u8>,
    /// Whether it is asked for at sign-in.
    pub confirmed: bool,
    /// Of the newest code that was used.
    pub last_step: i64,
    /// Wrong codes since the last right one.
    pub failures: i32,
    /// Seconds until codes are looked at again.
    pub locked_for_s: Option<i64>,
}

/// What a secret is sealed for.
pub fn context(user: UserId) -> String {
    format!("totp_factors/{user}")
}

/// The factor of `user`, held until the end of this transaction: of two requests with one code, the second finds it used.
pub async fn find(tx: &mut IdentityTx, user: UserId) -> Result<Option<Factor>> {
    Ok(sqlx::query_as(
        "select sealed_secret, confirmed_at is not null as confirmed, last_step, failures,
                ceil(extract(epoch from locked_until - ledger_now()))::bigint as locked_for_s
           from totp_factors where user_id = $1 for update",
    )
    .bind(user)
    .fetch_optional(&mut **tx)
    .await?)
}

/// Stores a secret that is to be confirmed, in place of an earlier one that never was. False when one is confirmed.
pub async fn enrol(tx: &mut IdentityTx, user: UserId, sealed_secret: &[u8]) -> Result<bool> {
    let stored = sqlx::query(
        "insert into totp_factors as f (user_id, sealed_secret) values ($1, $2)
         on conflict (user_id) do update
            set sealed_secret = excluded.sealed_secret, last_step = 0, created_at = excluded.created_at
          where f.confirmed_at is null",
    )
    .bind(user)
    .bind(sealed_secret)
    .execute(&mut **tx)
    .await?;
    Ok(stored.rows_affected() > 0)
}

/// From now on the factor is asked for.
pub async fn confirm(tx: &mut IdentityTx, user: UserId) -> Result<()> {
    sqlx::query("update totp_factors set confirmed_at = ledger_now() where user_id = $1 and confirmed_at is null")
        .bind(user)
        .execute(&mut **tx)
        .await?;
    Ok(())
}

/// Notes that the code of `step` was used.
pub async fn used(tx: &mut IdentityTx, user: UserId, step: i64) -> Result<()> {
    sqlx::query("update totp_factors set last_step = $2, failures = 0, locked_until = null where user_id = $1")
        .bind(user)
        .bind(step)
        .execute(&mut **tx)
        .await?;
    Ok(())
}

/// Notes a wrong code, and looks at no more of them for a while, if `lock` says so.
pub async fn failed(tx: &mut IdentityTx, user: UserId, lock: Option<Duration>) -> Result<()> {
    sqlx::query(
        "update totp_factors
            set failures = failures + 1, locked_until = ledger_now() + $2 * interval '1 s' where user_id = $1",
    )
    .bind(user)
    .bind(lock.map(|lock| lock.as_secs_f64()))
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Removes the factor and its recovery codes.
pub async fn remove(tx: &mut IdentityTx, user: UserId) -> Result<()> {
    sqlx::query("delete from totp_factors where user_id = $1").bind(user).execute(&mut **tx).await?;
    Ok(())
}

/// Puts these recovery codes in place of all earlier ones.
pub async fn replace_recovery_codes(tx: &mut IdentityTx, user: UserId, hashes: &[[u8; 32]]) -> Result<()> {
    sqlx::query("delete from recovery_codes where user_id = $1").bind(user).execute(&mut **tx).await?;
    let hashes: Vec<Vec<u8>> = hashes.iter().map(|hash| hash.to_vec()).collect();
    sqlx::query("insert into recovery_codes (user_id, code_hash) select $1, unnest($2::bytea[])")
        .bind(user)
        .bind(hashes)
        .execute(&mut **tx)
        .await?;
    Ok(())
}

/// Uses up a recovery code; false when there is none such.
pub async fn use_recovery_code(tx: &mut IdentityTx, user: UserId, hash: [u8; 32]) -> Result<bool> {
    let used = sqlx::query(
        "update recovery_codes set used_at = ledger_now() where user_id = $1 and code_hash = $2 and used_at is null",
    )
    .bind(user)
    .bind(&hash[..])
    .execute(&mut **tx)
    .await?;
    if used.rows_affected() == 0 {
        return Ok(false);
    }
    sqlx::query("update totp_factors set failures = 0, locked_until = null where user_id = $1")
        .bind(user)
        .execute(&mut **tx)
        .await?;
    Ok(true)
}

/// How many recovery codes are left.
pub async fn count_recovery_codes(tx: &mut IdentityTx, user: UserId) -> Result<i64> {
    Ok(sqlx::query_scalar("select count(*) from recovery_codes where user_id = $1 and used_at is null")
        .bind(user)
        .fetch_one(&mut **tx)
        .await?)
}
