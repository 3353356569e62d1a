//! Looking at events.

use chrono::{DateTime, Utc};
use sqlx::{Postgres, QueryBuilder};

use crate::infra::db::TenantTx;
use crate::infra::ids::{DeliveryId, EventId, WebhookId};
use crate::{Error, Result};

#[derive(Debug, Clone, sqlx::FromRow)]
pub struct EventRow {
    pub id: EventId,
    #[sqlx(rename = "type")]
    pub event_type: String,
    /// JSON text as the client sent it.
    pub payload: String,
    pub created_at: DateTime<Utc>,
    pub request_id: Option<String>,
}

const SELECT: &str = "select id, type, payload, created_at, request_id from events where tenant_id = ";

pub async fn find(tx: &mut TenantTx, id: EventId) -> Result<Option<EventRow>> {
    let mut query = QueryBuilder::<Postgres>::new(SELECT);
    query.push_bind(tx.tenant()).push(" and id = ").push_bind(id);
    Ok(query.build_query_as().fetch_optional(&mut **tx).await?)
}

/// # Errors
/// [`Error::NotFound`]
pub async fn get(tx: &mut TenantTx, id: EventId) -> Result<EventRow> {
    find(tx, id).await?.ok_or(Error::NotFound("event"))
}

/// What to list.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    pub event_type: Option<String>,
    /// By the time in the id: at or after.
    pub from: Option<DateTime<Utc>>,
    /// Before.
    pub to: Option<DateTime<Utc>>,
    /// The last event of the page before.
    pub before: Option<EventId>,
}

/// A page of events, newest first.
pub async fn list(tx: &mut TenantTx, filter: &Filter, limit: i64) -> Result<Vec<EventRow>> {
    let mut query = QueryBuilder::<Postgres>::new(SELECT);
    query.push_bind(tx.tenant());
    if let Some(event_type) = &filter.event_type {
        query.push(" and type = ").push_bind(event_type.clone());
    }
    if let Some(from) = filter.from {
        query.push(" and id >= uuid_floor(").push_bind(from).push(")");
    }
    if let Some(to) = filter.to {
        query.push(" and id < uuid_floor(").push_bind(to).push(")");
    }
    if let Some(before) = filter.before {
        query.push(" and id < ").push_bind(before);
    }
    query.push(" order by id desc limit ").push_bind(limit);
    Ok(query.build_query_as().fetch_all(&mut **tx).await?)
}

/// Where an event went, in the order of the deliveries' ids.
pub async fn list_deliveries_of(tx: &mut TenantTx, id: EventId) -> Result<Vec<(DeliveryId, WebhookId)>> {
    Ok(sqlx::query_as(
        "select id, webhook_id from webhook_deliveries where tenant_id = $1 and event_id = $2 order by id limit 1000",
    )
    .bind(tx.tenant())
    .bind(id)
    .fetch_all(&mut **tx)
    .await?)
}
