//! Endpoints of a tenant. A deleted one stays for its deliveries' sake and is absent to everyone else.

use std::time::Duration;

use chrono::{DateTime, Utc};
use sqlx::{Postgres, QueryBuilder};

use crate::infra::db::TenantTx;
use crate::infra::ids::WebhookId;
use crate::webhooks::WEBHOOKS_PER_TENANT;
use crate::{Error, Result};

#[derive(Debug, Clone, sqlx::FromRow)]
pub struct WebhookRow {
    pub id: WebhookId,
    pub url: String,
    pub description: String,
    pub event_types: Vec<String>,
    pub disabled_at: Option<DateTime<Utc>>,
    /// Null when a person did it.
    pub disabled_reason: Option<String>,
    pub rate_limit_per_s: Option<i32>,
    pub sealed_headers: Option<Vec<u8>>,
    /// A JSON object, as text.
    pub metadata: Option<String>,
    pub created_at: DateTime<Utc>,
    pub updated_at: DateTime<Utc>,
    pub version: i32,
}

const COLUMNS: &str = "id, url, description, event_types, disabled_at, disabled_reason, rate_limit_per_s, \
                       sealed_headers, metadata, created_at, updated_at, version";

/// An endpoint to be stored. Its id is made before, because secrets are sealed for it.
#[derive(Debug, Clone)]
pub struct NewWebhook {
    pub id: WebhookId,
    pub url: String,
    pub description: String,
    pub event_types: Vec<String>,
    pub enabled: bool,
    pub rate_limit_per_s: Option<i32>,
    pub sealed_headers: Option<Vec<u8>>,
    pub metadata: Option<String>,
    pub sealed_secret: Vec<u8>,
}

/// # Errors
/// [`Error::Conflict`] `too_many_webhooks`.
pub async fn insert(tx: &mut TenantTx, new: &NewWebhook) -> Result<WebhookRow> {
    // Creations of one tenant queue up here, so that the count below is exact.
    sqlx::query("select from tenants where id = $1 for no key update").bind(tx.tenant()).execute(&mut **tx).await?;
    let mut query = QueryBuilder::<Postgres>::new(
        "insert into webhooks (tenant_id, id, url, description, event_types, disabled_at, rate_limit_per_s, \
         sealed_headers, metadata, sealed_secret) select ",
    );
    let mut values = query.separated(", ");
    values.push_bind(tx.tenant()).push_bind(new.id).push_bind(&new.url).push_bind(&new.description);
    values.push_bind(&new.event_types).push(if new.enabled { "null" } else { "ledger_now()" });
    values.push_bind(new.rate_limit_per_s).push_bind(&new.sealed_headers).push_bind(&new.metadata);
    values.push_bind(&new.sealed_secret);
    query.push(" where (select count(*) from webhooks where deleted_at is null and tenant_id = ");
    query.push_bind(tx.tenant()).push(") < ").push_bind(WEBHOOKS_PER_TENANT);
    query.push(" returning ").push(COLUMNS);
    let row: Option<WebhookRow> = query.build_query_as().fetch_optional(&mut **tx).await?;
    row.ok_or_else(|| {
        Error::conflict("too_many_webhooks", format!("a tenant has at most {WEBHOOKS_PER_TENANT} webhooks"))
    })
}

/// Whether there is an endpoint of this URL that wants the same events.
pub async fn exists_alike(tx: &mut TenantTx, url: &str, event_types: &[String]) -> Result<bool> {
    let sql = "select exists (select from webhooks where tenant_id = $1 and url = $2 and deleted_at is null
                                 and event_types @> $3 and event_types <@ $3)";
    Ok(sqlx::query_scalar(sql).bind(tx.tenant()).bind(url).bind(event_types).fetch_one(&mut **tx).await?)
}

pub async fn find(tx: &mut TenantTx, id: WebhookId) -> Result<Option<WebhookRow>> {
    let mut query = QueryBuilder::<Postgres>::new("select ");
    query.push(COLUMNS).push(" from webhooks where deleted_at is null and tenant_id = ").push_bind(tx.tenant());
    query.push(" and id = ").push_bind(id);
    Ok(query.build_query_as().fetch_optional(&mut **tx).await?)
}

/// # Errors
/// [`Error::NotFound`]
pub async fn get(tx: &mut TenantTx, id: WebhookId) -> Result<WebhookRow> {
    find(tx, id).await?.ok_or(Error::NotFound("webhook"))
}

/// The endpoint, held until the transaction ends, so that its version is still true when it is changed.
///
/// # Errors
/// [`Error::NotFound`]
pub async fn lock(tx: &mut TenantTx, id: WebhookId) -> Result<WebhookRow> {
    let mut query = QueryBuilder::<Postgres>::new("select ");
    query.push(COLUMNS).push(" from webhooks where deleted_at is null and tenant_id = ").push_bind(tx.tenant());
    query.push(" and id = ").push_bind(id).push(" for no key update");
    query.build_query_as().fetch_optional(&mut **tx).await?.ok_or(Error::NotFound("webhook"))
}

/// A page of endpoints, newest first.
pub async fn list(tx: &mut TenantTx, before: Option<WebhookId>, limit: i64) -> Result<Vec<WebhookRow>> {
    let mut query = QueryBuilder::<Postgres>::new("select ");
    query.push(COLUMNS).push(" from webhooks where deleted_at is null and tenant_id = ").push_bind(tx.tenant());
    if let Some(before) = before {
        query.push(" and id < ").push_bind(before);
    }
    query.push(" order by id desc limit ").push_bind(limit);
    Ok(query.build_query_as().fetch_all(&mut **tx).await?)
}

/// What changes of an endpoint; None leaves it, `Some(None)` takes it away.
#[derive(Debug, Clone, Default)]
pub struct Change {
    pub url: Option<String>,
    pub description: Option<String>,
    pub event_types: Option<Vec<String>>,
    /// True also forgets why it was disabled.
    pub enabled: Option<bool>,
    pub rate_limit_per_s: Option<Option<i32>>,
    pub sealed_headers: Option<Option<Vec<u8>>>,
    pub metadata: Option<Option<String>>,
}

/// Changes the endpoint.
///
/// # Errors
/// [`Error::NotFound`]
pub async fn update(tx: &mut TenantTx, id: WebhookId, change: &Change) -> Result<WebhookRow> {
    let mut query =
        QueryBuilder::<Postgres>::new("update webhooks set version = version + 1, updated_at = ledger_now()");
    if let Some(url) = &change.url {
        query.push(", url = ").push_bind(url);
    }
    if let Some(description) = &change.description {
        query.push(", description = ").push_bind(description);
    }
    if let Some(event_types) = &change.event_types {
        query.push(", event_types = ").push_bind(event_types);
    }
    match change.enabled {
        Some(true) => query.push(", disabled_at = null, disabled_reason = null"),
        Some(false) => query.push(", disabled_at = coalesce(disabled_at, ledger_now())"),
        None => &mut query,
    };
    if let Some(rate) = change.rate_limit_per_s {
        query.push(", rate_limit_per_s = ").push_bind(rate);
    }
    if let Some(headers) = &change.sealed_headers {
        query.push(", sealed_headers = ").push_bind(headers);
    }
    if let Some(metadata) = &change.metadata {
        query.push(", metadata = ").push_bind(metadata);
    }
    query.push(" where deleted_at is null and tenant_id = ").push_bind(tx.tenant());
    query.push(" and id = ").push_bind(id).push(" returning ").push(COLUMNS);
    query.build_query_as().fetch_optional(&mut **tx).await?.ok_or(Error::NotFound("webhook"))
}

/// Deletes the endpoint. What waits for it fails when its time comes.
///
/// # Errors
/// [`Error::NotFound`]
pub async fn delete(tx: &mut TenantTx, id: WebhookId) -> Result<()> {
    let deleted = sqlx::query(
        r#"update webhooks set deleted_at = ledger_now(), updated_at = ledger_now(), version = version + 1
            where deleted_at is null and tenant_id = $1 and id = $2"#,
    )
    .bind(tx.tenant())
    .bind(id)
    .execute(&mut **tx)
    .await?;
    if deleted.rows_affected() == 0 { Err(Error::NotFound("webhook")) } else { Ok(()) }
}

/// Disables an endpoint because of what it answered. False when it is disabled or deleted already.
pub async fn disable(tx: &mut TenantTx, id: WebhookId, reason: &str) -> Result<bool> {
    let disabled = sqlx::query(
        r#"update webhooks
              set disabled_at = ledger_now(), disabled_reason = $3, updated_at = ledger_now(), version = version + 1
            where disabled_at is null and deleted_at is null and tenant_id = $1 and id = $2"#,
    )
    .bind(tx.tenant())
    .bind(id)
    .bind(reason)
    .execute(&mut **tx)
    .await?;
    Ok(disabled.rows_affected() == 1)
}

/// The signing secrets of an endpoint, sealed.
#[derive(Debug, Clone, sqlx::FromRow)]
pub struct SealedSecret {
    pub sealed_secret: Vec<u8>,
    /// Null unless it still signs.
    pub sealed_old_secret: Option<Vec<u8>>,
    pub old_secret_until: Option<DateTime<Utc>>,
}

/// # Errors
/// [`Error::NotFound`]
pub async fn get_secret(tx: &mut TenantTx, id: WebhookId) -> Result<SealedSecret> {
    sqlx::query_as(
        r#"select sealed_secret, case when old_secret_until > ledger_now() then sealed_old_secret end as sealed_old_secret,
                  case when old_secret_until > ledger_now() then old_secret_until end as old_secret_until
             from webhooks where deleted_at is null and tenant_id = $1 and id = $2"#,
    )
    .bind(tx.tenant())
    .bind(id)
    .fetch_optional(&mut **tx)
    .await?
    .ok_or(Error::NotFound("webhook"))
}

/// Replaces the secret; the one it had signs too for `grace`, whatever older one there was no longer does.
///
/// # Errors
/// [`Error::NotFound`]
pub async fn rotate_secret(tx: &mut TenantTx, id: WebhookId, sealed: &[u8], grace: Duration) -> Result<()> {
    let rotated = sqlx::query(
        r#"update webhooks
              set sealed_old_secret = sealed_secret, old_secret_until = ledger_now() + $4 * interval '1 ms',
                  sealed_secret = $3, updated_at = ledger_now(), version = version + 1
            where deleted_at is null and tenant_id = $1 and id = $2"#,
    )
    .bind(tx.tenant())
    .bind(id)
    .bind(sealed)
    .bind(i64::try_from(grace.as_millis()).unwrap_or(i64::MAX))
    .execute(&mut **tx)
    .await?;
    if rotated.rows_affected() == 0 { Err(Error::NotFound("webhook")) } else { Ok(()) }
}
