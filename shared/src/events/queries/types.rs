//! Event types of a tenant.

use chrono::{DateTime, Utc};

use crate::error::OnConstraint;
use crate::events::TYPES_PER_TENANT;
use crate::infra::db::TenantTx;
use crate::infra::ids::EventTypeId;
use crate::{Error, Result};

#[derive(Debug, Clone, sqlx::FromRow)]
pub struct EventTypeRow {
    pub id: EventTypeId,
    pub name: String,
    pub description: String,
    /// JSON Schema, as JSON text.
    pub schema: Option<String>,
    pub created_at: DateTime<Utc>,
    pub version: i32,
}

/// Declares a type.
///
/// # Errors
/// [`Error::Conflict`] `event_type_exists`, or `too_many_event_types`.
pub async fn insert_type(
    tx: &mut TenantTx,
    name: &str,
    description: &str,
    schema: Option<&str>,
) -> Result<EventTypeRow> {
    let row: Option<EventTypeRow> = sqlx::query_as(
        r#"insert into event_types (id, tenant_id, name, description, schema)
           select $1, $2, $3, $4, $5
            where (select count(*) from event_types where tenant_id = $2) < $6
           returning id, name, description, schema, created_at, version"#,
    )
    .bind(EventTypeId::generate())
    .bind(tx.tenant())
    .bind(name)
    .bind(description)
    .bind(schema)
    .bind(TYPES_PER_TENANT)
    .fetch_optional(&mut **tx)
    .await
    .on_constraint("event_types_tenant_name_key", || {
        Error::conflict("event_type_exists", format!("an event type `{name}` exists already"))
    })?;
    row.ok_or_else(|| {
        Error::conflict("too_many_event_types", format!("a tenant declares at most {TYPES_PER_TENANT} event types"))
    })
}

pub async fn find_type(tx: &mut TenantTx, name: &str) -> Result<Option<EventTypeRow>> {
    Ok(sqlx::query_as(
        "select id, name, description, schema, created_at, version from event_types where tenant_id = $1 and name = $2",
    )
    .bind(tx.tenant())
    .bind(name)
    .fetch_optional(&mut **tx)
    .await?)
}

/// # Errors
/// [`Error::NotFound`]
pub async fn get_type(tx: &mut TenantTx, name: &str) -> Result<EventTypeRow> {
    find_type(tx, name).await?.ok_or(Error::NotFound("event type"))
}

/// The type, held until the transaction ends, so that its version is still true when it is changed.
///
/// # Errors
/// [`Error::NotFound`]
pub async fn lock_type(tx: &mut TenantTx, name: &str) -> Result<EventTypeRow> {
    sqlx::query_as(
        r#"select id, name, description, schema, created_at, version from event_types
            where tenant_id = $1 and name = $2 for update"#,
    )
    .bind(tx.tenant())
    .bind(name)
    .fetch_optional(&mut **tx)
    .await?
    .ok_or(Error::NotFound("event type"))
}

/// A page of types, newest first.
pub async fn list_types(tx: &mut TenantTx, before: Option<EventTypeId>, limit: i64) -> Result<Vec<EventTypeRow>> {
    Ok(sqlx::query_as(
        r#"select id, name, description, schema, created_at, version from event_types
            where tenant_id = $1 and ($2::uuid is null or id < $2)
            order by id desc limit $3"#,
    )
    .bind(tx.tenant())
    .bind(before)
    .bind(limit)
    .fetch_all(&mut **tx)
    .await?)
}

/// What changes of a type; None leaves it.
#[derive(Debug, Clone, Default)]
pub struct TypeChange {
    pub description: Option<String>,
    /// `Some(None)` takes the schema away.
    pub schema: Option<Option<String>>,
}

/// Changes the type.
///
/// # Errors
/// [`Error::NotFound`]
pub async fn update_type(tx: &mut TenantTx, name: &str, change: &TypeChange) -> Result<EventTypeRow> {
    sqlx::query_as(
        r#"update event_types
              set description = coalesce($3, description),
                  schema = case when $4 then $5 else schema end,
                  version = version + 1
            where tenant_id = $1 and name = $2
           returning id, name, description, schema, created_at, version"#,
    )
    .bind(tx.tenant())
    .bind(name)
    .bind(&change.description)
    .bind(change.schema.is_some())
    .bind(change.schema.clone().flatten())
    .fetch_optional(&mut **tx)
    .await?
    .ok_or(Error::NotFound("event type"))
}

/// # Errors
/// [`Error::NotFound`]
pub async fn delete_type(tx: &mut TenantTx, name: &str) -> Result<()> {
    let deleted = sqlx::query("delete from event_types where tenant_id = $1 and name = $2")
        .bind(tx.tenant())
        .bind(name)
        .execute(&mut **tx)
        .await?;
    if deleted.rows_affected() == 0 { Err(Error::NotFound("event type")) } else { Ok(()) }
}
