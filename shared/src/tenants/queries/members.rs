//! The members of a tenant. Whatever changes who they are, and what they may do, first takes `lock`, so that of two who
//! demote the last two owners, or join for the last place, one wins.

use chrono::{DateTime, Utc};
use sqlx::PgConnection;
use uuid::Uuid;

use super::standing;
use crate::infra::db::TenantTx;
use crate::infra::ids::{RoleId, TenantId, UserId};
use crate::tenants::{Role, Standing};
use crate::{Error, Result};

/// A person as a member of this tenant.
#[derive(Debug, Clone, sqlx::FromRow)]
pub struct Member {
    pub id: UserId,
    pub email: String,
    /// As the tenant calls them, or else as they call themselves.
    pub name: String,
    pub verified_at: Option<DateTime<Utc>>,
    pub joined_at: DateTime<Utc>,
    pub deactivated_at: Option<DateTime<Utc>>,
    pub version: i32,
    #[sqlx(flatten)]
    pub standing: Standing,
}

macro_rules! select {
    ($rest:literal) => {
        concat!(
            "select u.id, u.email, coalesce(m.name, u.name) as name, u.verified_at, m.created_at as joined_at,
                    m.deactivated_at, m.version, ",
            standing!(),
            " from memberships m join users u on u.id = m.user_id ",
            $rest
        )
    };
}

/// Holds the members and roles of `tenant` as they are until the end of this transaction. It does not stand in the way
/// of rows that only refer to the tenant.
pub async fn lock(conn: &mut PgConnection, tenant: TenantId) -> Result<()> {
    let held: Option<i32> = sqlx::query_scalar("select 1 from tenants where id = $1 for no key update")
        .bind(tenant)
        .fetch_optional(conn)
        .await?;
    held.map(|_| ()).ok_or(Error::NotFound("tenant"))
}

/// [Locks](lock) the tenant, and finds a place for one more active member among the `quota` of its plan.
///
/// # Errors
/// [`Error::Conflict`] `member_quota_reached`.
pub async fn claim_place(conn: &mut PgConnection, tenant: TenantId, quota: i64) -> Result<()> {
    lock(conn, tenant).await?;
    let sql = "select count(*) from memberships where tenant_id = $1 and deactivated_at is null";
    let active: i64 = sqlx::query_scalar(sql).bind(tenant).fetch_one(conn).await?;
    if active < quota {
        return Ok(());
    }
    let detail = format!("the plan has places for {quota} members, and they are taken; remove or deactivate one");
    Err(Error::conflict("member_quota_reached", detail))
}

/// A page of the members, the account that was made last first.
pub async fn list(tx: &mut TenantTx, before: Option<Uuid>, limit: i64) -> Result<Vec<Member>> {
    Ok(sqlx::query_as(select!(
        "where m.tenant_id = $1 and ($2::uuid is null or m.user_id < $2) order by m.user_id desc limit $3"
    ))
    .bind(tx.tenant())
    .bind(before)
    .bind(limit)
    .fetch_all(&mut **tx)
    .await?)
}

/// # Errors
/// [`Error::NotFound`]
pub async fn get(tx: &mut TenantTx, user: UserId) -> Result<Member> {
    sqlx::query_as(select!("where m.tenant_id = $1 and m.user_id = $2"))
        .bind(tx.tenant())
        .bind(user)
        .fetch_optional(&mut **tx)
        .await?
        .ok_or(Error::NotFound("user"))
}

/// # Errors
/// [`Error::Conflict`] `last_owner` when `user` is the only active owner. The tenant is [locked](lock).
pub async fn keep_an_owner(tx: &mut TenantTx, user: UserId) -> Result<()> {
    let (is_owner, others): (bool, bool) = sqlx::query_as(
        "select coalesce(bool_or(m.user_id = $2), false), coalesce(bool_or(m.user_id <> $2), false)
           from memberships m join users u on u.id = m.user_id
          where m.tenant_id = $1 and m.role = 'owner' and m.deactivated_at is null and u.deactivated_at is null",
    )
    .bind(tx.tenant())
    .bind(user)
    .fetch_one(&mut **tx)
    .await?;
    if is_owner && !others {
        return Err(Error::conflict("last_owner", "a tenant keeps an active owner; make another one first"));
    }
    Ok(())
}

/// Says what the tenant calls a member; none, as they call themselves.
pub async fn rename(tx: &mut TenantTx, user: UserId, name: Option<&str>) -> Result<()> {
    change(
        tx,
        user,
        "update memberships set name = $3, version = version + 1 where tenant_id = $1 and user_id = $2",
        name,
    )
    .await
}

/// Replaces what a member is.
pub async fn set_roles(tx: &mut TenantTx, user: UserId, role: Option<Role>, own: &[RoleId]) -> Result<()> {
    let tenant = tx.tenant();
    sqlx::query("delete from member_roles where tenant_id = $1 and user_id = $2 and role_id <> all ($3)")
        .bind(tenant)
        .bind(user)
        .bind(own)
        .execute(&mut **tx)
        .await?;
    give(tx, tenant, user, own).await?;
    let sql = "update memberships set role = $3, version = version + 1 where tenant_id = $1 and user_id = $2";
    change(tx, user, sql, role.map(Role::as_str)).await
}

/// Gives a member roles of the tenant's own, beside those they have.
pub async fn give(conn: &mut PgConnection, tenant: TenantId, user: UserId, own: &[RoleId]) -> Result<()> {
    sqlx::query(
        "insert into member_roles (tenant_id, user_id, role_id) select $1, $2, unnest($3::uuid[])
         on conflict do nothing",
    )
    .bind(tenant)
    .bind(user)
    .bind(own)
    .execute(conn)
    .await?;
    Ok(())
}

/// Shuts a member out, or lets them in again. Sessions are [ended](crate::auth::queries::sessions::end_of_member)
/// apart.
pub async fn set_active(tx: &mut TenantTx, user: UserId, active: bool) -> Result<()> {
    sqlx::query(
        "update memberships
            set deactivated_at = case when $3 then null else coalesce(deactivated_at, ledger_now()) end,
                version = version + 1
          where tenant_id = $1 and user_id = $2 and (deactivated_at is null) <> $3",
    )
    .bind(tx.tenant())
    .bind(user)
    .bind(active)
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Takes a member out of the tenant. Their account stays.
pub async fn remove(tx: &mut TenantTx, user: UserId) -> Result<()> {
    sqlx::query("delete from memberships where tenant_id = $1 and user_id = $2")
        .bind(tx.tenant())
        .bind(user)
        .execute(&mut **tx)
        .await?;
    Ok(())
}

async fn change(tx: &mut TenantTx, user: UserId, sql: &'static str, value: Option<&str>) -> Result<()> {
    sqlx::query(sql).bind(tx.tenant()).bind(user).bind(value).execute(&mut **tx).await?;
    Ok(())
}
