//! Every statement on `invitations`, their roles and their tokens.

use chrono::{DateTime, Utc};
use sqlx::PgConnection;
use uuid::Uuid;

use super::{MAIL_AGAIN_AFTER, MOST_A_DAY, MOST_A_DAY_FOR_ONE, MOST_MAILS, MOST_OPEN, VALID_FOR};
use crate::infra::db::{IdentityTx, SystemTx, TenantTx};
use crate::infra::ids::{InvitationId, RoleId, TenantId, UserId};
use crate::tenants::{Role, Standing};
use crate::{Error, Result};

/// An open invitation: neither accepted nor taken back. It may have expired.
#[derive(Debug, Clone, sqlx::FromRow)]
pub struct Invitation {
    pub id: InvitationId,
    pub email: String,
    /// What who accepts it will be.
    #[sqlx(flatten)]
    pub standing: Standing,
    pub invited_by: UserId,
    pub created_at: DateTime<Utc>,
    pub mailed_at: DateTime<Utc>,
    pub expires_at: DateTime<Utc>,
}

macro_rules! promised {
    () => {
        "i.role,
         array(select r.name from invitation_roles x join roles r on r.tenant_id = x.tenant_id and r.id = x.role_id
                where x.tenant_id = i.tenant_id and x.invitation_id = i.id order by r.name) as custom,
         array(select distinct p
                 from invitation_roles x join roles r on r.tenant_id = x.tenant_id and r.id = x.role_id,
                      unnest(r.permissions) p
                where x.tenant_id = i.tenant_id and x.invitation_id = i.id) as extra"
    };
}

macro_rules! select {
    ($rest:literal) => {
        concat!(
            "select i.id, i.email, i.invited_by, i.created_at, i.mailed_at, i.expires_at, ",
            promised!(),
            " from invitations i where i.accepted_at is null and i.revoked_at is null ",
            $rest
        )
    };
}

/// A page of the open ones, newest first.
pub async fn list(tx: &mut TenantTx, before: Option<Uuid>, limit: i64) -> Result<Vec<Invitation>> {
    Ok(sqlx::query_as(select!("and i.tenant_id = $1 and ($2::uuid is null or i.id < $2) order by i.id desc limit $3"))
        .bind(tx.tenant())
        .bind(before)
        .bind(limit)
        .fetch_all(&mut **tx)
        .await?)
}

/// # Errors
/// [`Error::NotFound`]
pub async fn get(tx: &mut TenantTx, id: InvitationId) -> Result<Invitation> {
    sqlx::query_as(select!("and i.tenant_id = $1 and i.id = $2"))
        .bind(tx.tenant())
        .bind(id)
        .fetch_optional(&mut **tx)
        .await?
        .ok_or(Error::NotFound("invitation"))
}

#[derive(Debug)]
pub struct NewInvitation<'a> {
    pub email: &'a str,
    pub role: Option<Role>,
    /// The tenant's own roles.
    pub own: &'a [RoleId],
    pub invited_by: UserId,
}

/// Invites somebody. The tenant is [locked](crate::tenants::queries::members::lock).
///
/// # Errors
/// [`Error::Conflict`]: `already_member`, `already_invited`, `too_many_invitations`.
pub async fn insert(tx: &mut TenantTx, new: &NewInvitation<'_>) -> Result<InvitationId> {
    let tenant = tx.tenant();
    may_invite(tx, new.email).await?;
    let id = InvitationId::generate();
    sqlx::query(
        "insert into invitations (id, tenant_id, email, role, invited_by, expires_at)
         values ($1, $2, $3, $4, $5, ledger_now() + $6 * interval '1 s')",
    )
    .bind(id)
    .bind(tenant)
    .bind(new.email)
    .bind(new.role.map(Role::as_str))
    .bind(new.invited_by)
    .bind(VALID_FOR.as_secs_f64())
    .execute(&mut **tx)
    .await?;
    sqlx::query("insert into invitation_roles (tenant_id, invitation_id, role_id) select $1, $2, unnest($3::uuid[])")
        .bind(tenant)
        .bind(id)
        .bind(new.own)
        .execute(&mut **tx)
        .await?;
    Ok(id)
}

async fn may_invite(tx: &mut TenantTx, email: &str) -> Result<()> {
    let is_member: bool = sqlx::query_scalar(
        "select exists (select from memberships m join users u on u.id = m.user_id
                         where m.tenant_id = $1 and lower(u.email) = lower($2))",
    )
    .bind(tx.tenant())
    .bind(email)
    .fetch_one(&mut **tx)
    .await?;
    if is_member {
        return Err(Error::conflict("already_member", "somebody of this address is a member already"));
    }
    let (open, open_for_one, a_day, a_day_for_one): (i64, i64, i64, i64) = sqlx::query_as(
        "select count(*) filter (where open), count(*) filter (where open and same),
                count(*) filter (where fresh), count(*) filter (where fresh and same)
           from (select accepted_at is null and revoked_at is null and expires_at > ledger_now() as open,
                        created_at > ledger_now() - interval '1 day' as fresh, lower(email) = lower($2) as same
                   from invitations where tenant_id = $1) i",
    )
    .bind(tx.tenant())
    .bind(email)
    .fetch_one(&mut **tx)
    .await?;
    if open_for_one > 0 {
        let detail = "this address is invited already; mail that invitation again, or take it back first";
        return Err(Error::conflict("already_invited", detail));
    }
    let detail = if open >= MOST_OPEN {
        format!("a tenant has at most {MOST_OPEN} open invitations; take one back first")
    } else if a_day >= MOST_A_DAY {
        format!("a tenant invites at most {MOST_A_DAY} times a day; try again tomorrow")
    } else if a_day_for_one >= MOST_A_DAY_FOR_ONE {
        format!("an address is invited at most {MOST_A_DAY_FOR_ONE} times a day; try again tomorrow")
    } else {
        return Ok(());
    };
    Err(Error::conflict("too_many_invitations", detail))
}

/// Notes that an open invitation is mailed once more, and is good for longer.
///
/// # Errors
/// [`Error::NotFound`]; [`Error::Conflict`] `mailed_already` when that was asked for a moment ago, or too often.
pub async fn mail_again(tx: &mut TenantTx, id: InvitationId) -> Result<()> {
    get(tx, id).await?;
    let noted = sqlx::query(
        "update invitations
            set mails = mails + 1, mailed_at = ledger_now(), expires_at = ledger_now() + $5 * interval '1 s'
          where tenant_id = $1 and id = $2 and accepted_at is null and revoked_at is null
            and mails < $3 and mailed_at <= ledger_now() - $4 * interval '1 s'",
    )
    .bind(tx.tenant())
    .bind(id)
    .bind(MOST_MAILS)
    .bind(MAIL_AGAIN_AFTER.as_secs_f64())
    .bind(VALID_FOR.as_secs_f64())
    .execute(&mut **tx)
    .await?;
    if noted.rows_affected() > 0 {
        return Ok(());
    }
    let minutes = MAIL_AGAIN_AFTER.as_secs() / 60;
    let detail = format!("an invitation is mailed at most {MOST_MAILS} times, and not twice within {minutes} minutes");
    Err(Error::conflict("mailed_already", detail))
}

/// Takes an open invitation back: its links stop.
///
/// # Errors
/// [`Error::NotFound`]
pub async fn revoke(tx: &mut TenantTx, id: InvitationId) -> Result<()> {
    let revoked = sqlx::query(
        "update invitations set revoked_at = ledger_now()
          where tenant_id = $1 and id = $2 and accepted_at is null and revoked_at is null",
    )
    .bind(tx.tenant())
    .bind(id)
    .execute(&mut **tx)
    .await?;
    if revoked.rows_affected() == 0 { Err(Error::NotFound("invitation")) } else { Ok(()) }
}

/// Hands the open invitations of one member over to another one. Answers how many.
pub async fn hand_over(tx: &mut TenantTx, from: UserId, to: UserId) -> Result<u64> {
    let moved = sqlx::query(
        "update invitations set invited_by = $3
          where tenant_id = $1 and invited_by = $2 and accepted_at is null and revoked_at is null",
    )
    .bind(tx.tenant())
    .bind(from)
    .bind(to)
    .execute(&mut **tx)
    .await?;
    Ok(moved.rows_affected())
}

/// An invitation as its mail needs it.
#[derive(Debug, sqlx::FromRow)]
pub struct Letter {
    pub email: String,
    pub inviter: String,
    pub tenant_name: String,
}

/// Stores the hash of a token made for an invitation, and answers what its mail says; none when it is not open any
/// more. Earlier tokens stay good: the mail that carries them may be late.
pub async fn address(
    tx: &mut SystemTx,
    tenant: TenantId,
    id: InvitationId,
    token_hash: &[u8; 32],
) -> Result<Option<Letter>> {
    Ok(sqlx::query_as(
        "with open as (
             select i.tenant_id, i.id, i.email, coalesce(m.name, u.name) as inviter, t.name as tenant_name
               from invitations i
               join memberships m on m.tenant_id = i.tenant_id and m.user_id = i.invited_by
               join users u on u.id = i.invited_by
               join tenants t on t.id = i.tenant_id
              where i.tenant_id = $1 and i.id = $2 and i.accepted_at is null and i.revoked_at is null
                and i.expires_at > ledger_now() and m.deactivated_at is null and u.deactivated_at is null
         ), stored as (
             insert into invitation_tokens (tenant_id, invitation_id, token_hash) select tenant_id, id, $3 from open
         )
         select email, inviter, tenant_name from open",
    )
    .bind(tenant)
    .bind(id)
    .bind(&token_hash[..])
    .fetch_optional(&mut **tx)
    .await?)
}

/// An invitation that a token belongs to.
#[derive(Debug, sqlx::FromRow)]
pub struct Presented {
    pub id: InvitationId,
    pub tenant_id: TenantId,
    pub email: String,
    pub invited_by: UserId,
    /// Neither accepted, nor taken back, nor expired.
    pub good: bool,
    #[sqlx(flatten)]
    pub standing: Standing,
}

/// The invitation that a token belongs to.
pub async fn find(tx: &mut IdentityTx, token_hash: [u8; 32]) -> Result<Option<Presented>> {
    Ok(sqlx::query_as(concat!(
        "select i.id, i.tenant_id, i.email, i.invited_by,
                i.accepted_at is null and i.revoked_at is null and i.expires_at > ledger_now() as good, ",
        promised!(),
        " from invitation_tokens k join invitations i on i.tenant_id = k.tenant_id and i.id = k.invitation_id
          where k.token_hash = $1",
    ))
    .bind(&token_hash[..])
    .fetch_optional(&mut **tx)
    .await?)
}

/// Spends an invitation; false when somebody did, or it was taken back, meanwhile.
pub async fn spend(tx: &mut IdentityTx, id: InvitationId) -> Result<bool> {
    let spent = sqlx::query(
        "update invitations set accepted_at = ledger_now()
          where id = $1 and accepted_at is null and revoked_at is null and expires_at > ledger_now()",
    )
    .bind(id)
    .execute(&mut **tx)
    .await?;
    Ok(spent.rows_affected() > 0)
}

/// Makes `user` a member with what an invitation promises. The tenant is
/// [locked](crate::tenants::queries::members::lock).
///
/// # Errors
/// [`Error::Conflict`] `already_member`.
pub async fn join(conn: &mut PgConnection, tenant: TenantId, id: InvitationId, user: UserId) -> Result<()> {
    let joined = sqlx::query(
        "insert into memberships (tenant_id, user_id, role)
         select tenant_id, $3, role from invitations where tenant_id = $1 and id = $2 on conflict do nothing",
    )
    .bind(tenant)
    .bind(id)
    .bind(user)
    .execute(&mut *conn)
    .await?;
    if joined.rows_affected() == 0 {
        return Err(Error::conflict("already_member", "the account belongs to this tenant already"));
    }
    sqlx::query(
        "insert into member_roles (tenant_id, user_id, role_id)
         select tenant_id, $3, role_id from invitation_roles where tenant_id = $1 and invitation_id = $2",
    )
    .bind(tenant)
    .bind(id)
    .bind(user)
    .execute(conn)
    .await?;
    Ok(())
}
