//! The alerts that tenants keep.

use chrono::{DateTime, Utc};
use sqlx::{Postgres, QueryBuilder};

use crate::alerts::{ALERTS_PER_TENANT, Cause};
use crate::infra::db::TenantTx;
use crate::infra::ids::AlertId;
use crate::jobs::Queue;
use crate::{Error, Result};

#[derive(Debug, Clone, sqlx::FromRow)]
pub struct AlertRow {
    pub id: AlertId,
    pub cause: String,
    pub kind: Option<String>,
    pub queue: Option<String>,
    pub depth: Option<i32>,
    pub age_s: Option<i32>,
    pub email: Option<String>,
    pub event: bool,
    pub disabled_at: Option<DateTime<Utc>>,
    /// When its queue fell behind; null once it has caught up.
    pub behind_since: Option<DateTime<Utc>>,
    pub updated_at: DateTime<Utc>,
    pub version: i32,
}

const COLUMNS: &str =
    "id, cause, kind, queue, depth, age_s, email, event, disabled_at, behind_since, updated_at, version";

/// An alert to be stored.
#[derive(Debug, Clone)]
pub struct NewAlert {
    pub id: AlertId,
    pub cause: Cause,
    pub kind: Option<String>,
    pub queue: Option<Queue>,
    pub depth: Option<i32>,
    pub age_s: Option<i32>,
    pub email: Option<String>,
    pub event: bool,
    pub enabled: bool,
}

/// # Errors
/// [`Error::Conflict`] `too_many_alerts`.
pub async fn insert(tx: &mut TenantTx, new: &NewAlert) -> Result<AlertRow> {
    // Creations of one tenant queue up here, so that the count below is exact.
    sqlx::query("select from tenants where id = $1 for no key update").bind(tx.tenant()).execute(&mut **tx).await?;
    let row = sqlx::query_as(
        r#"insert into alerts (tenant_id, id, cause, kind, queue, depth, age_s, email, event, disabled_at)
           select $1, $2, $3, $4, $5, $6, $7, $8, $9, case when $10 then null else ledger_now() end
            where (select count(*) from alerts where tenant_id = $1) < $11
           returning id, cause, kind, queue, depth, age_s, email, event, disabled_at, behind_since, updated_at, version"#,
    )
    .bind(tx.tenant())
    .bind(new.id)
    .bind(new.cause.as_str())
    .bind(&new.kind)
    .bind(new.queue.map(Queue::as_str))
    .bind(new.depth)
    .bind(new.age_s)
    .bind(&new.email)
    .bind(new.event)
    .bind(new.enabled)
    .bind(ALERTS_PER_TENANT)
    .fetch_optional(&mut **tx)
    .await?;
    row.ok_or_else(|| Error::conflict("too_many_alerts", format!("a tenant has at most {ALERTS_PER_TENANT} alerts")))
}

/// A page of alerts, newest first.
pub async fn list(tx: &mut TenantTx, before: Option<AlertId>, limit: i64) -> Result<Vec<AlertRow>> {
    let mut query = QueryBuilder::<Postgres>::new("select ");
    query.push(COLUMNS).push(" from alerts where tenant_id = ").push_bind(tx.tenant());
    if let Some(before) = before {
        query.push(" and id < ").push_bind(before);
    }
    query.push(" order by id desc limit ").push_bind(limit);
    Ok(query.build_query_as().fetch_all(&mut **tx).await?)
}

/// The alert of that id.
///
/// # Errors
/// [`Error::NotFound`]
pub async fn get(tx: &mut TenantTx, id: AlertId) -> Result<AlertRow> {
    find(tx, id, "").await
}

/// As [`get`], and nobody changes it until the end of the transaction.
///
/// # Errors
/// [`Error::NotFound`]
pub async fn lock(tx: &mut TenantTx, id: AlertId) -> Result<AlertRow> {
    find(tx, id, " for no key update").await
}

async fn find(tx: &mut TenantTx, id: AlertId, how: &'static str) -> Result<AlertRow> {
    let mut query = QueryBuilder::<Postgres>::new("select ");
    query.push(COLUMNS).push(" from alerts where tenant_id = ").push_bind(tx.tenant());
    query.push(" and id = ").push_bind(id).push(how);
    query.build_query_as().fetch_optional(&mut **tx).await?.ok_or(Error::NotFound("alert"))
}

/// What an alert becomes.
#[derive(Debug, Clone)]
pub struct Change {
    pub kind: Option<String>,
    pub queue: Option<Queue>,
    pub depth: Option<i32>,
    pub age_s: Option<i32>,
    pub email: Option<String>,
    pub event: bool,
    pub enabled: bool,
}

/// Changes an alert. What it had to tell by mail still is told, but not to an address that it has no more.
///
/// # Errors
/// [`Error::NotFound`]
pub async fn update(tx: &mut TenantTx, id: AlertId, change: &Change) -> Result<AlertRow> {
    sqlx::query_as(
        r#"update alerts
              set kind = $3, queue = $4, depth = $5, age_s = $6, email = $7, event = $8,
                  disabled_at = case when $9 then null else coalesce(disabled_at, ledger_now()) end,
                  unmailed = case when $7::text is null or not $9 then 0 else unmailed end,
                  behind_since = case when ($4, $5, $6) is not distinct from (queue, depth, age_s) and $9
                                      then behind_since end,
                  version = version + 1, updated_at = ledger_now()
            where tenant_id = $1 and id = $2
           returning id, cause, kind, queue, depth, age_s, email, event, disabled_at, behind_since, updated_at, version"#,
    )
    .bind(tx.tenant())
    .bind(id)
    .bind(&change.kind)
    .bind(change.queue.map(Queue::as_str))
    .bind(change.depth)
    .bind(change.age_s)
    .bind(&change.email)
    .bind(change.event)
    .bind(change.enabled)
    .fetch_optional(&mut **tx)
    .await?
    .ok_or(Error::NotFound("alert"))
}

/// Deletes an alert.
///
/// # Errors
/// [`Error::NotFound`]
pub async fn delete(tx: &mut TenantTx, id: AlertId) -> Result<()> {
    let deleted = sqlx::query("delete from alerts where tenant_id = $1 and id = $2")
        .bind(tx.tenant())
        .bind(id)
        .execute(&mut **tx)
        .await?;
    if deleted.rows_affected() == 0 { Err(Error::NotFound("alert")) } else { Ok(()) }
}
