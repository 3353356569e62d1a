//! Storing events, many at a time and of many tenants: the steps of one batch.

use chrono::{DateTime, Utc};
use serde_json::value::RawValue;
use sqlx::PgConnection;

use crate::Result;
use crate::events::patterns_of;
use crate::infra::ids::{DeliveryId, EventId, EventTypeId, TenantId, WebhookId};
use crate::jobs::Cause;

/// Events of one tenant and type: they all go the same way.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Topic {
    pub tenant: TenantId,
    pub event_type: String,
}

/// The way of a topic at this moment.
#[derive(Debug, Clone, sqlx::FromRow)]
pub struct Route {
    pub now: DateTime<Utc>,
    /// Whether the tenant refuses events of types that it did not declare.
    pub strict: bool,
    /// Whether it declared this one.
    pub declared: bool,
    /// The declaration whose schema a payload must fit; null without a schema.
    schema_of: Option<EventTypeId>,
    schema_version: i32,
    /// Endpoints that want the topic.
    pub webhooks: Vec<WebhookId>,
}

impl Route {
    /// Which schema, in which version, a payload must fit.
    pub fn schema(&self) -> Option<(EventTypeId, i32)> {
        Some((self.schema_of?, self.schema_version))
    }
}

/// The ways of `topics`, in their order; none for a tenant that does not exist.
pub async fn list_routes(conn: &mut PgConnection, topics: &[&Topic]) -> Result<Vec<Option<Route>>> {
    #[derive(sqlx::FromRow)]
    struct Row {
        n: i64,
        #[sqlx(flatten)]
        route: Route,
    }
    let tenants: Vec<TenantId> = topics.iter().map(|topic| topic.tenant).collect();
    let types: Vec<&str> = topics.iter().map(|topic| topic.event_type.as_str()).collect();
    let patterns: Vec<String> = topics.iter().map(|topic| patterns_of(&topic.event_type).join(" ")).collect();
    let rows: Vec<Row> = sqlx::query_as(
        r#"select u.n - 1 as n, ledger_now() as now, t.strict_event_types as strict, et.id is not null as declared,
                  case when et.schema is not null then et.id end as schema_of, coalesce(et.version, 0) as schema_version,
                  array(select w.id from webhooks w
                         where w.tenant_id = u.tenant_id and w.deleted_at is null and w.disabled_at is null
                           and w.event_types && string_to_array(u.patterns, ' ')
                         order by w.id) as webhooks
             from unnest($1::uuid[], $2::text[], $3::text[]) with ordinality u(tenant_id, type, patterns, n)
             join tenants t on t.id = u.tenant_id
             left join event_types et on et.tenant_id = u.tenant_id and et.name = u.type"#,
    )
    .bind(tenants)
    .bind(types)
    .bind(patterns)
    .fetch_all(conn)
    .await?;
    let mut routes = vec![None; topics.len()];
    for row in rows {
        if let Some(slot) = usize::try_from(row.n).ok().and_then(|n| routes.get_mut(n)) {
            *slot = Some(row.route);
        }
    }
    Ok(routes)
}

/// An event to be stored.
#[derive(Debug, Clone)]
pub struct NewEvent {
    pub tenant: TenantId,
    pub id: EventId,
    pub event_type: String,
    pub payload: Box<RawValue>,
    pub created_at: DateTime<Utc>,
    pub cause: Cause,
}

/// Stores events and answers how many: fewer than given when another transaction stored one of the same id meanwhile.
///
/// No (tenant, id) may appear twice.
pub async fn insert_events(conn: &mut PgConnection, events: &[NewEvent]) -> Result<u64> {
    let mut events: Vec<&NewEvent> = events.iter().collect();
    events.sort_unstable_by_key(|event| (event.tenant, event.id));
    let tenants: Vec<TenantId> = events.iter().map(|e| e.tenant).collect();
    let ids: Vec<EventId> = events.iter().map(|e| e.id).collect();
    let types: Vec<&str> = events.iter().map(|e| e.event_type.as_str()).collect();
    let payloads: Vec<&str> = events.iter().map(|e| e.payload.get()).collect();
    let created_at: Vec<DateTime<Utc>> = events.iter().map(|e| e.created_at).collect();
    let request_ids: Vec<Option<&str>> = events.iter().map(|e| e.cause.request_id.as_deref()).collect();
    let traceparents: Vec<Option<&str>> = events.iter().map(|e| e.cause.traceparent.as_deref()).collect();
    let inserted = sqlx::query(
        r#"insert into events (tenant_id, id, type, payload, created_at, request_id, traceparent)
           select * from unnest($1::uuid[], $2::uuid[], $3::text[], $4::text[], $5::timestamptz[], $6::text[], $7::text[])
           on conflict do nothing"#,
    )
    .bind(tenants)
    .bind(ids)
    .bind(types)
    .bind(payloads)
    .bind(created_at)
    .bind(request_ids)
    .bind(traceparents)
    .execute(conn)
    .await?;
    Ok(inserted.rows_affected())
}

/// An event's way to one endpoint; the job of the same id goes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewDelivery {
    pub tenant: TenantId,
    pub id: DeliveryId,
    pub webhook: WebhookId,
    pub event: EventId,
    pub event_type: String,
}

/// Stores deliveries. Their jobs are the caller's to store, in the same transaction.
pub async fn insert_deliveries(conn: &mut PgConnection, deliveries: &[NewDelivery]) -> Result<()> {
    if deliveries.is_empty() {
        return Ok(());
    }
    let mut deliveries: Vec<&NewDelivery> = deliveries.iter().collect();
    deliveries.sort_unstable_by_key(|delivery| (delivery.tenant, delivery.id));
    let tenants: Vec<TenantId> = deliveries.iter().map(|d| d.tenant).collect();
    let ids: Vec<DeliveryId> = deliveries.iter().map(|d| d.id).collect();
    let webhooks: Vec<WebhookId> = deliveries.iter().map(|d| d.webhook).collect();
    let events: Vec<EventId> = deliveries.iter().map(|d| d.event).collect();
    let types: Vec<&str> = deliveries.iter().map(|d| d.event_type.as_str()).collect();
    sqlx::query(
        r#"insert into webhook_deliveries (tenant_id, id, webhook_id, event_id, event_type)
           select * from unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::uuid[], $5::text[])"#,
    )
    .bind(tenants)
    .bind(ids)
    .bind(webhooks)
    .bind(events)
    .bind(types)
    .execute(conn)
    .await?;
    Ok(())
}

/// An event that was published before under an id that comes again.
#[derive(Debug, Clone)]
pub struct Published {
    pub tenant: TenantId,
    pub id: EventId,
    pub event_type: String,
    /// JSON text.
    pub payload: String,
    pub created_at: DateTime<Utc>,
    pub request_id: Option<String>,
    /// Delivery and endpoint.
    pub deliveries: Vec<(DeliveryId, WebhookId)>,
}

/// Those of `ids` that are stored already.
pub async fn list_published(conn: &mut PgConnection, ids: &[(TenantId, EventId)]) -> Result<Vec<Published>> {
    #[derive(sqlx::FromRow)]
    struct Row {
        tenant_id: TenantId,
        id: EventId,
        #[sqlx(rename = "type")]
        event_type: String,
        payload: String,
        created_at: DateTime<Utc>,
        request_id: Option<String>,
        deliveries: Vec<DeliveryId>,
        webhooks: Vec<WebhookId>,
    }
    let (tenants, ids): (Vec<_>, Vec<_>) = ids.iter().copied().unzip();
    let rows: Vec<Row> = sqlx::query_as(
        r#"select e.tenant_id, e.id, e.type, e.payload, e.created_at, e.request_id, d.deliveries, d.webhooks
             from unnest($1::uuid[], $2::uuid[]) u(tenant_id, id)
             join events e on e.tenant_id = u.tenant_id and e.id = u.id
             cross join lateral (
                 select coalesce(array_agg(id order by id), '{}') as deliveries,
                        coalesce(array_agg(webhook_id order by id), '{}') as webhooks
                   from webhook_deliveries
                  where tenant_id = e.tenant_id and event_id = e.id
             ) d"#,
    )
    .bind(tenants)
    .bind(ids)
    .fetch_all(conn)
    .await?;
    let published = |row: Row| Published {
        tenant: row.tenant_id,
        id: row.id,
        event_type: row.event_type,
        payload: row.payload,
        created_at: row.created_at,
        request_id: row.request_id,
        deliveries: row.deliveries.into_iter().zip(row.webhooks).collect(),
    };
    Ok(rows.into_iter().map(published).collect())
}
