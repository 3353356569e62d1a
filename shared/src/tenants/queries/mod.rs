//! Every statement on `tenants`, `users`, `memberships` and `roles`.

/// The members of a tenant.
pub mod members;
/// The roles that a tenant makes for itself.
pub mod roles;

use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::{Plan, Role, Standing};
use crate::error::OnConstraint;
use crate::infra::db::{IdentityTx, TenantTx};
use crate::infra::ids::{TenantId, UserId};
use crate::quotas::Overrides;
use crate::{Error, Result};

/// Selects a [`Standing`] from `memberships m`.
macro_rules! standing {
    () => {
        "m.role,
         array(select r.name from member_roles x join roles r on r.tenant_id = x.tenant_id and r.id = x.role_id
                where x.tenant_id = m.tenant_id and x.user_id = m.user_id order by r.name) as custom,
         array(select distinct p
                 from member_roles x join roles r on r.tenant_id = x.tenant_id and r.id = x.role_id,
                      unnest(r.permissions) p
                where x.tenant_id = m.tenant_id and x.user_id = m.user_id) as extra"
    };
}
pub(crate) use standing;

#[derive(Debug, Clone, sqlx::FromRow)]
pub struct Tenant {
    pub id: TenantId,
    pub name: String,
    pub strict_event_types: bool,
    pub plan: String,
    pub created_at: DateTime<Utc>,
    pub version: i32,
}

const TENANT: &str = "select id, name, strict_event_types, plan, created_at, version from tenants";

/// A person, without the password hash.
#[derive(Debug, Clone, sqlx::FromRow)]
pub struct User {
    pub id: UserId,
    pub email: String,
    pub name: String,
    pub verified_at: Option<DateTime<Utc>>,
    pub created_at: DateTime<Utc>,
}

/// The tenant of this transaction.
pub async fn get_tenant(tx: &mut TenantTx) -> Result<Tenant> {
    sqlx::query_as(TENANT).fetch_optional(&mut **tx).await?.ok_or(Error::NotFound("tenant"))
}

/// Changes the tenant of this transaction. None leaves a field as it is.
pub async fn update_tenant(tx: &mut TenantTx, name: Option<&str>, strict_event_types: Option<bool>) -> Result<Tenant> {
    sqlx::query_as(
        "update tenants set name = coalesce($1, name), strict_event_types = coalesce($2, strict_event_types),
                            version = version + 1
         returning id, name, strict_event_types, plan, created_at, version",
    )
    .bind(name)
    .bind(strict_event_types)
    .fetch_optional(&mut **tx)
    .await?
    .ok_or(Error::NotFound("tenant"))
}

/// As [`get_tenant`], and nobody else changes it, its members or its roles until the end of this transaction.
pub async fn lock_tenant(tx: &mut TenantTx) -> Result<Tenant> {
    let tenant = tx.tenant();
    members::lock(tx, tenant).await?;
    get_tenant(tx).await
}

/// A member of this tenant.
pub async fn get_user(tx: &mut TenantTx, user: UserId) -> Result<User> {
    sqlx::query_as("select id, email, name, verified_at, created_at from users where id = $1")
        .bind(user)
        .fetch_optional(&mut **tx)
        .await?
        .ok_or(Error::NotFound("user"))
}

/// A person as needed to check a password.
#[derive(Debug, sqlx::FromRow)]
pub struct Login {
    pub id: UserId,
    /// argon2id, PHC string.
    pub password_hash: String,
}

#[derive(Debug)]
pub struct NewUser<'a> {
    pub email: &'a str,
    pub name: &'a str,
    pub password_hash: &'a str,
}

/// The active person of that address, in any case of letters.
pub async fn find_login(tx: &mut IdentityTx, email: &str) -> Result<Option<Login>> {
    Ok(sqlx::query_as("select id, password_hash from users where lower(email) = lower($1) and deactivated_at is null")
        .bind(email)
        .fetch_optional(&mut **tx)
        .await?)
}

/// # Errors
/// `email_taken` (409).
pub async fn insert_user(tx: &mut IdentityTx, user: &NewUser<'_>) -> Result<UserId> {
    let id = UserId::generate();
    sqlx::query("insert into users (id, email, name, password_hash) values ($1, $2, $3, $4)")
        .bind(id)
        .bind(user.email)
        .bind(user.name)
        .bind(user.password_hash)
        .execute(&mut **tx)
        .await
        .on_constraint("users_email_key", || {
            Error::conflict("email_taken", "an account with this address exists; sign in instead")
        })?;
    Ok(id)
}

pub async fn insert_tenant(tx: &mut IdentityTx, name: &str) -> Result<TenantId> {
    let id = TenantId::generate();
    sqlx::query("insert into tenants (id, name) values ($1, $2)").bind(id).bind(name).execute(&mut **tx).await?;
    Ok(id)
}

pub async fn insert_membership(tx: &mut IdentityTx, tenant: TenantId, user: UserId, role: Role) -> Result<()> {
    sqlx::query("insert into memberships (tenant_id, user_id, role) values ($1, $2, $3)")
        .bind(tenant)
        .bind(user)
        .bind(role.as_str())
        .execute(&mut **tx)
        .await?;
    Ok(())
}

/// The tenant that `user` signs in to: the one wished for, or the one they have been an active member of for longest;
/// none that is suspended. They are an active member until the end of this transaction.
pub async fn find_membership(
    tx: &mut IdentityTx,
    user: UserId,
    wished: Option<TenantId>,
) -> Result<Option<(TenantId, Standing)>> {
    #[derive(sqlx::FromRow)]
    struct Row {
        tenant_id: TenantId,
        #[sqlx(flatten)]
        standing: Standing,
    }
    let row: Option<Row> = sqlx::query_as(concat!(
        "select m.tenant_id, ",
        standing!(),
        " from memberships m
          where m.user_id = $1 and m.deactivated_at is null and ($2::uuid is null or m.tenant_id = $2)
            and not exists (select from tenants t where t.id = m.tenant_id and t.suspended_at is not null)
          order by m.created_at, m.tenant_id limit 1 for share of m",
    ))
    .bind(user)
    .bind(wished)
    .fetch_optional(&mut **tx)
    .await?;
    Ok(row.map(|row| (row.tenant_id, row.standing)))
}

/// What a person is in one of their tenants.
#[derive(Debug, Clone, sqlx::FromRow)]
pub struct MembershipOf {
    pub tenant_id: TenantId,
    pub tenant_name: String,
    #[sqlx(flatten)]
    pub standing: Standing,
    pub joined_at: DateTime<Utc>,
}

/// A page of the tenants that `user` is active in, the one that was made last first.
pub async fn list_memberships(
    tx: &mut IdentityTx,
    user: UserId,
    before: Option<Uuid>,
    limit: i64,
) -> Result<Vec<MembershipOf>> {
    Ok(sqlx::query_as(concat!(
        "select m.tenant_id, t.name as tenant_name, m.created_at as joined_at, ",
        standing!(),
        " from memberships m join tenants t on t.id = m.tenant_id
              where m.user_id = $1 and m.deactivated_at is null and ($2::uuid is null or m.tenant_id < $2)
              order by m.tenant_id desc limit $3",
    ))
    .bind(user)
    .bind(before)
    .bind(limit)
    .fetch_all(&mut **tx)
    .await?)
}

/// Whether `user` would sign in to a tenant that is suspended: the one wished for, or any.
pub async fn has_suspended(tx: &mut IdentityTx, user: UserId, wished: Option<TenantId>) -> Result<bool> {
    Ok(sqlx::query_scalar(
        "select exists (select from memberships m join tenants t on t.id = m.tenant_id
                         where m.user_id = $1 and m.deactivated_at is null and ($2::uuid is null or m.tenant_id = $2)
                           and t.suspended_at is not null)",
    )
    .bind(user)
    .bind(wished)
    .fetch_one(&mut **tx)
    .await?)
}

/// Whether staff have suspended a tenant.
pub async fn is_suspended(tx: &mut IdentityTx, tenant: TenantId) -> Result<bool> {
    Ok(sqlx::query_scalar("select exists (select from tenants where id = $1 and suspended_at is not null)")
        .bind(tenant)
        .fetch_one(&mut **tx)
        .await?)
}

/// The plan of a tenant, and what it is allowed beside it.
pub async fn find_plan(tx: &mut IdentityTx, tenant: TenantId) -> Result<Option<(Plan, Overrides)>> {
    #[derive(sqlx::FromRow)]
    struct Row {
        plan: String,
        #[sqlx(flatten)]
        overrides: Overrides,
    }
    let row: Option<Row> = sqlx::query_as(
        "select t.plan, q.jobs, q.events, q.members, q.storage
           from tenants t left join tenant_quotas q on q.tenant_id = t.id where t.id = $1",
    )
    .bind(tenant)
    .fetch_optional(&mut **tx)
    .await?;
    let known = row.map(|row| Ok((row.plan.parse()?, row.overrides)));
    known.transpose().map_err(|fault: String| Error::Internal(anyhow::anyhow!(fault)))
}

/// What an active member is.
pub async fn find_standing(tx: &mut IdentityTx, tenant: TenantId, user: UserId) -> Result<Option<Standing>> {
    Ok(sqlx::query_as(concat!(
        "select ",
        standing!(),
        " from memberships m join users u on u.id = m.user_id
          where m.tenant_id = $1 and m.user_id = $2 and m.deactivated_at is null and u.deactivated_at is null",
    ))
    .bind(tenant)
    .bind(user)
    .fetch_optional(&mut **tx)
    .await?)
}
