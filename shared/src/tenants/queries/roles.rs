//! The roles that a tenant makes for itself.

use chrono::{DateTime, Utc};
use uuid::Uuid;

use crate::error::OnConstraint;
use crate::infra::db::TenantTx;
use crate::infra::ids::RoleId;
use crate::tenants::{Permissions, Role};
use crate::{Error, Fault, Result};

/// Roles of its own that a tenant may have.
pub const MOST: i64 = 100;

#[derive(Debug, Clone, sqlx::FromRow)]
pub struct RoleRow {
    pub id: RoleId,
    pub name: String,
    pub description: String,
    pub permissions: Vec<String>,
    pub created_at: DateTime<Utc>,
    pub version: i32,
}

/// A page of them, newest first.
pub async fn list(tx: &mut TenantTx, before: Option<Uuid>, limit: i64) -> Result<Vec<RoleRow>> {
    Ok(sqlx::query_as(
        "select id, name, description, permissions, created_at, version from roles
          where tenant_id = $1 and ($2::uuid is null or id < $2) order by id desc limit $3",
    )
    .bind(tx.tenant())
    .bind(before)
    .bind(limit)
    .fetch_all(&mut **tx)
    .await?)
}

/// # Errors
/// [`Error::NotFound`]
pub async fn get(tx: &mut TenantTx, id: RoleId) -> Result<RoleRow> {
    sqlx::query_as(
        "select id, name, description, permissions, created_at, version from roles where tenant_id = $1 and id = $2",
    )
    .bind(tx.tenant())
    .bind(id)
    .fetch_optional(&mut **tx)
    .await?
    .ok_or(Error::NotFound("role"))
}

/// Those of `names`, in any case of letters. They stay until the end of this transaction.
pub async fn find_named(tx: &mut TenantTx, names: &[&str]) -> Result<Vec<RoleRow>> {
    Ok(sqlx::query_as(
        "select id, name, description, permissions, created_at, version from roles
          where tenant_id = $1 and lower(name) in (select lower(n) from unnest($2::text[]) n) order by id for share",
    )
    .bind(tx.tenant())
    .bind(names)
    .fetch_all(&mut **tx)
    .await?)
}

/// Roles that were asked for by name.
#[derive(Debug, Default)]
pub struct Named {
    /// The one that every tenant has.
    pub built_in: Option<Role>,
    /// The tenant's own.
    pub own: Vec<RoleId>,
    /// Everything they hold.
    pub permissions: Permissions,
}

/// The roles of these names, or what is wrong with those.
pub async fn name(tx: &mut TenantTx, names: &[String]) -> Result<Result<Named, Vec<Fault>>> {
    let wanted: Vec<&str> = names.iter().map(String::as_str).collect();
    let known = find_named(tx, &wanted).await?;
    let (mut found, mut faults) = (Named::default(), Vec::new());
    for (n, name) in names.iter().enumerate() {
        let mut fault = |code, detail: String| faults.push(Fault::new(format!("/roles/{n}"), code, detail));
        if let Ok(role) = name.parse::<Role>() {
            if found.built_in.is_some_and(|other| other != role) {
                fault("exclusive", "a member has one of the roles of every tenant; make one of your own".to_owned());
            }
            found.built_in = Some(role);
            found.permissions = found.permissions.with(role.permissions());
        } else if let Some(row) = known.iter().find(|row| row.name.to_lowercase() == name.to_lowercase()) {
            if !found.own.contains(&row.id) {
                found.own.push(row.id);
            }
            found.permissions = found.permissions.with(Permissions::stored(&row.permissions));
        } else {
            let name: String = name.chars().take(100).collect();
            fault("unknown", format!("there is no role `{name}`; see GET /roles"));
        }
    }
    Ok(if faults.is_empty() { Ok(found) } else { Err(faults) })
}

/// Makes a role. The tenant is [locked](super::members::lock).
///
/// # Errors
/// [`Error::Conflict`] `role_name_taken`, or `too_many_roles` beyond [`MOST`].
pub async fn insert(tx: &mut TenantTx, name: &str, description: &str, permissions: &[&str]) -> Result<RoleRow> {
    let known: i64 = sqlx::query_scalar("select count(*) from roles where tenant_id = $1")
        .bind(tx.tenant())
        .fetch_one(&mut **tx)
        .await?;
    if known >= MOST {
        let detail = format!("a tenant has at most {MOST} roles of its own; delete one first");
        return Err(Error::conflict("too_many_roles", detail));
    }
    sqlx::query_as(
        "insert into roles (id, tenant_id, name, description, permissions) values ($1, $2, $3, $4, $5)
         returning id, name, description, permissions, created_at, version",
    )
    .bind(RoleId::generate())
    .bind(tx.tenant())
    .bind(name)
    .bind(description)
    .bind(permissions)
    .fetch_one(&mut **tx)
    .await
    .on_constraint("roles_name_key", || taken(name))
}

/// Changes a role. None leaves a field as it is.
///
/// # Errors
/// [`Error::Conflict`] `role_name_taken`.
pub async fn update(
    tx: &mut TenantTx,
    id: RoleId,
    (name, description): (Option<&str>, Option<&str>),
    permissions: Option<&[&str]>,
) -> Result<RoleRow> {
    sqlx::query_as(
        "update roles set name = coalesce($3, name), description = coalesce($4, description),
                          permissions = coalesce($5, permissions), version = version + 1
          where tenant_id = $1 and id = $2 returning id, name, description, permissions, created_at, version",
    )
    .bind(tx.tenant())
    .bind(id)
    .bind(name)
    .bind(description)
    .bind(permissions)
    .fetch_optional(&mut **tx)
    .await
    .on_constraint("roles_name_key", || taken(name.unwrap_or_default()))?
    .ok_or(Error::NotFound("role"))
}

/// Deletes a role. The tenant is [locked](super::members::lock).
///
/// # Errors
/// [`Error::Conflict`] `role_in_use` while a member has it, or somebody is invited to it.
pub async fn delete(tx: &mut TenantTx, id: RoleId) -> Result<()> {
    let in_use: bool = sqlx::query_scalar(
        "select exists (select from member_roles where tenant_id = $1 and role_id = $2)
             or exists (select from invitation_roles r
                          join invitations i on i.tenant_id = r.tenant_id and i.id = r.invitation_id
                         where r.tenant_id = $1 and r.role_id = $2
                           and i.accepted_at is null and i.revoked_at is null and i.expires_at > ledger_now())",
    )
    .bind(tx.tenant())
    .bind(id)
    .fetch_one(&mut **tx)
    .await?;
    if in_use {
        let detail = "members have this role, or are invited to it; take it from them first";
        return Err(Error::conflict("role_in_use", detail));
    }
    let deleted = sqlx::query("delete from roles where tenant_id = $1 and id = $2")
        .bind(tx.tenant())
        .bind(id)
        .execute(&mut **tx)
        .await?;
    if deleted.rows_affected() == 0 { Err(Error::NotFound("role")) } else { Ok(()) }
}

fn taken(name: &str) -> Error {
    Error::conflict("role_name_taken", format!("the tenant has a role `{name}` already"))
}
