//! Every statement on `staff` and `staff_sessions`.

use std::time::Duration;

use super::Staff;
use crate::auth::Client;
use crate::error::OnConstraint;
use crate::infra::db::{IdentityTx, SystemTx};
use crate::infra::ids::{StaffId, StaffSessionId};
use crate::{Error, Result};

/// How long a session may rest.
pub const LONGEST_REST: Duration = Duration::from_secs(3_600);
/// How long a session may go on.
pub const LONGEST_LIFE: Duration = Duration::from_secs(12 * 3_600);
/// How long an invitation is good.
pub const INVITED_FOR: Duration = Duration::from_secs(24 * 3_600);
/// How often it is noted that a session is used.
const NOTED_EVERY: Duration = Duration::from_secs(60);

/// Somebody of the staff, as needed to check who they are.
#[derive(Debug, sqlx::FromRow)]
pub struct Member {
    pub id: StaffId,
    pub email: String,
    pub name: String,
    pub password_hash: Option<String>,
    /// Sealed under [`context`].
    pub sealed_secret: Option<Vec<u8>>,
    /// Of the newest code that was used.
    pub last_step: i64,
    /// Wrong codes since the last right one.
    pub failures: i32,
    /// Seconds until codes are looked at again.
    pub locked_for_s: Option<i64>,
}

const MEMBER: &str = "select id, email, name, password_hash, sealed_secret, last_step, failures,
            ceil(extract(epoch from locked_until - ledger_now()))::bigint as locked_for_s
       from staff where deactivated_at is null";

/// What the secret of a second factor is sealed for.
pub fn context(staff: StaffId) -> String {
    format!("staff/{staff}")
}

/// Stores somebody new, with the hash of the token by which they choose a password.
///
/// # Errors
/// `staff_exists` (409).
pub async fn insert(tx: &mut SystemTx, email: &str, name: &str, invite_hash: [u8; 32]) -> Result<StaffId> {
    let id = StaffId::generate();
    sqlx::query(
        "insert into staff (id, email, name, invite_hash, invite_expires_at)
         values ($1, $2, $3, $4, ledger_now() + $5 * interval '1 s')",
    )
    .bind(id)
    .bind(email)
    .bind(name)
    .bind(&invite_hash[..])
    .bind(INVITED_FOR.as_secs_f64())
    .execute(&mut **tx)
    .await
    .on_constraint("staff_email_key", || {
        Error::conflict("staff_exists", "somebody of the staff has this address; `reset-staff` lets them begin anew")
    })?;
    Ok(id)
}

/// Lets somebody choose a password and a second factor anew. What they had is void, and their sessions end.
///
/// # Errors
/// [`Error::NotFound`].
pub async fn reset(tx: &mut SystemTx, email: &str, invite_hash: [u8; 32]) -> Result<StaffId> {
    let id: StaffId = sqlx::query_scalar(
        "update staff set password_hash = null, sealed_secret = null, activated_at = null, last_step = 0, failures = 0,
                locked_until = null, invite_hash = $2, invite_expires_at = ledger_now() + $3 * interval '1 s'
          where lower(email) = lower($1) and deactivated_at is null returning id",
    )
    .bind(email)
    .bind(&invite_hash[..])
    .bind(INVITED_FOR.as_secs_f64())
    .fetch_optional(&mut **tx)
    .await?
    .ok_or(Error::NotFound("member of the staff"))?;
    end_all(tx, id).await?;
    Ok(id)
}

/// Somebody leaves the staff. Their sessions end.
///
/// # Errors
/// [`Error::NotFound`].
pub async fn deactivate(tx: &mut SystemTx, email: &str) -> Result<StaffId> {
    let id: StaffId = sqlx::query_scalar(
        "update staff set deactivated_at = ledger_now() where lower(email) = lower($1) and deactivated_at is null
         returning id",
    )
    .bind(email)
    .fetch_optional(&mut **tx)
    .await?
    .ok_or(Error::NotFound("member of the staff"))?;
    end_all(tx, id).await?;
    Ok(id)
}

async fn end_all(tx: &mut SystemTx, id: StaffId) -> Result<()> {
    sqlx::query("update staff_sessions set ended_at = ledger_now() where staff_id = $1 and ended_at is null")
        .bind(id)
        .execute(&mut **tx)
        .await?;
    Ok(())
}

/// Whose invitation has this hash, if it is good. Held until the end of this transaction.
pub async fn find_invited(tx: &mut IdentityTx, invite_hash: [u8; 32]) -> Result<Option<Member>> {
    let sql = format!("{MEMBER} and invite_hash = $1 and invite_expires_at > ledger_now() for update");
    Ok(sqlx::query_as(sqlx::AssertSqlSafe(sql)).bind(&invite_hash[..]).fetch_optional(&mut **tx).await?)
}

/// Somebody by their address, held until the end of this transaction: of two requests with one code, the second finds
/// it used.
pub async fn find_by_email(tx: &mut IdentityTx, email: &str) -> Result<Option<Member>> {
    let sql = format!("{MEMBER} and lower(email) = lower($1) and activated_at is not null for update");
    Ok(sqlx::query_as(sqlx::AssertSqlSafe(sql)).bind(email).fetch_optional(&mut **tx).await?)
}

/// Stores the secret of a second factor for who has not chosen a password yet.
pub async fn enrol(tx: &mut IdentityTx, staff: StaffId, sealed_secret: &[u8]) -> Result<()> {
    sqlx::query("update staff set sealed_secret = $2, last_step = 0 where id = $1 and activated_at is null")
        .bind(staff)
        .bind(sealed_secret)
        .execute(&mut **tx)
        .await?;
    Ok(())
}

/// Uses up an invitation: from now on this is the password.
pub async fn activate(tx: &mut IdentityTx, staff: StaffId, password_hash: &str) -> Result<()> {
    sqlx::query(
        "update staff set password_hash = $2, activated_at = ledger_now(), invite_hash = null, invite_expires_at = null
          where id = $1",
    )
    .bind(staff)
    .bind(password_hash)
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Notes that the code of `step` was used.
pub async fn used_code(tx: &mut IdentityTx, staff: StaffId, step: i64) -> Result<()> {
    sqlx::query("update staff set last_step = $2, failures = 0, locked_until = null where id = $1")
        .bind(staff)
        .bind(step)
        .execute(&mut **tx)
        .await?;
    Ok(())
}

/// Notes a wrong code, and looks at no more of them for a while, if `lock` says so.
pub async fn failed_code(tx: &mut IdentityTx, staff: StaffId, lock: Option<Duration>) -> Result<()> {
    sqlx::query(
        "update staff set failures = failures + 1, locked_until = ledger_now() + $2 * interval '1 s' where id = $1",
    )
    .bind(staff)
    .bind(lock.map(|lock| lock.as_secs_f64()))
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Opens a session for who has proven who they are.
pub async fn open(
    tx: &mut IdentityTx,
    staff: StaffId,
    token_hash: [u8; 32],
    client: &Client,
) -> Result<StaffSessionId> {
    let id = StaffSessionId::generate();
    sqlx::query(
        "insert into staff_sessions (id, staff_id, token_hash, address, user_agent, expires_at)
         values ($1, $2, $3, $4, $5, ledger_now() + $6 * interval '1 s')",
    )
    .bind(id)
    .bind(staff)
    .bind(&token_hash[..])
    .bind(&client.address)
    .bind(&client.user_agent)
    .bind(LONGEST_LIFE.as_secs_f64())
    .execute(&mut **tx)
    .await?;
    Ok(id)
}

/// Who the token of this hash belongs to, if its session goes on.
pub async fn authenticate(tx: &mut IdentityTx, token_hash: [u8; 32]) -> Result<Option<Staff>> {
    #[derive(sqlx::FromRow)]
    struct Row {
        id: StaffId,
        email: String,
        name: String,
        session: StaffSessionId,
        to_note: bool,
    }
    let row: Option<Row> = sqlx::query_as(
        "select t.id, t.email, t.name, s.id as session, s.used_at < ledger_now() - $3 * interval '1 s' as to_note
           from staff_sessions s join staff t on t.id = s.staff_id
          where s.token_hash = $1 and s.ended_at is null and s.expires_at > ledger_now()
            and s.used_at > ledger_now() - $2 * interval '1 s'
            and t.deactivated_at is null and t.activated_at is not null",
    )
    .bind(&token_hash[..])
    .bind(LONGEST_REST.as_secs_f64())
    .bind(NOTED_EVERY.as_secs_f64())
    .fetch_optional(&mut **tx)
    .await?;
    let Some(Row { id, email, name, session, to_note }) = row else { return Ok(None) };
    if to_note {
        sqlx::query("update staff_sessions set used_at = ledger_now() where id = $1")
            .bind(session)
            .execute(&mut **tx)
            .await?;
    }
    Ok(Some(Staff { id, email, name, session }))
}

/// Ends a session.
pub async fn end(tx: &mut IdentityTx, session: StaffSessionId) -> Result<()> {
    sqlx::query("update staff_sessions set ended_at = ledger_now() where id = $1 and ended_at is null")
        .bind(session)
        .execute(&mut **tx)
        .await?;
    Ok(())
}
