//! What the worker needs to deliver, read for many deliveries at once.

use chrono::{DateTime, Utc};
use sqlx::PgConnection;

use crate::Result;
use crate::infra::ids::{EventId, TenantId, WebhookId};

/// Names what one delivery sends where.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OutgoingKey {
    pub tenant: TenantId,
    pub event: EventId,
    pub webhook: WebhookId,
}

/// An event and the endpoint it goes to.
#[derive(Debug, Clone, sqlx::FromRow)]
pub struct Outgoing {
    /// None when the event's retention is over.
    #[sqlx(rename = "type")]
    pub event_type: Option<String>,
    /// JSON text as published; none together with the type.
    pub payload: Option<String>,
    pub created_at: Option<DateTime<Utc>>,
    /// Null when the endpoint is deleted.
    pub url: Option<String>,
    pub disabled: bool,
    pub rate_limit_per_s: Option<i32>,
    #[sqlx(flatten)]
    pub sender: Sender,
}

/// The sealed part of an endpoint: who the request comes from.
#[derive(Debug, Clone, Default, sqlx::FromRow)]
pub struct Sender {
    pub sealed_secret: Option<Vec<u8>>,
    /// Null unless it still signs.
    pub sealed_old_secret: Option<Vec<u8>>,
    pub sealed_headers: Option<Vec<u8>>,
}

/// What `keys` name, in their order.
///
/// The lateral joins are looked up one by one: whatever the planner believes of these tables, it must not scan them.
pub async fn list_outgoing(conn: &mut PgConnection, keys: &[OutgoingKey]) -> Result<Vec<Outgoing>> {
    let tenants: Vec<TenantId> = keys.iter().map(|key| key.tenant).collect();
    let events: Vec<EventId> = keys.iter().map(|key| key.event).collect();
    let webhooks: Vec<WebhookId> = keys.iter().map(|key| key.webhook).collect();
    Ok(sqlx::query_as(
        r#"select e.type, e.payload, e.created_at, w.url, coalesce(w.disabled, false) as disabled,
                  w.rate_limit_per_s, w.sealed_secret, w.sealed_old_secret, w.sealed_headers
             from unnest($1::uuid[], $2::uuid[], $3::uuid[]) with ordinality u(tenant_id, event_id, webhook_id, n)
             left join lateral (
                 select type, payload, created_at from events
                  where tenant_id = u.tenant_id and id = u.event_id limit 1
             ) e on true
             left join lateral (
                 select url, disabled_at is not null as disabled, rate_limit_per_s, sealed_secret, sealed_headers,
                        case when old_secret_until > ledger_now() then sealed_old_secret end as sealed_old_secret
                   from webhooks
                  where tenant_id = u.tenant_id and id = u.webhook_id and deleted_at is null limit 1
             ) w on true
            order by u.n"#,
    )
    .bind(tenants)
    .bind(events)
    .bind(webhooks)
    .fetch_all(conn)
    .await?)
}
