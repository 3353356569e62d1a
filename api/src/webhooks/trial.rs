//! The event that tries an endpoint.

use chrono::{DateTime, Utc};
use millwork_shared::events::queries::{NewDelivery, NewEvent, Published, insert_deliveries, insert_events};
use millwork_shared::infra::db::TenantTx;
use millwork_shared::infra::ids::{DeliveryId, EventId, WebhookId};
use millwork_shared::jobs::{self, Cause, NewJob};
use millwork_shared::webhooks::jobs::deliver;
use millwork_shared::webhooks::{TEST_EVENT_TYPE, queries};
use serde_json::json;
use serde_json::value::to_raw_value;

use crate::http::{ApiError, Result};

/// Stores a `webhook.test` for one endpoint, and the job that delivers it.
pub async fn publish(
    tx: &mut TenantTx,
    webhook: WebhookId,
    cause: &Cause,
    now: DateTime<Utc>,
) -> Result<(Published, NewJob)> {
    if queries::get(tx, webhook).await?.disabled_at.is_some() {
        return Err(ApiError::conflict("webhook_disabled", "the webhook is disabled; enable it first"));
    }
    let event = NewEvent {
        tenant: tx.tenant(),
        id: EventId::generate(),
        event_type: TEST_EVENT_TYPE.to_owned(),
        payload: to_raw_value(&json!({ "webhook_id": webhook })).map_err(ApiError::internal)?,
        created_at: now,
        cause: cause.clone(),
    };
    let delivery = NewDelivery {
        tenant: event.tenant,
        id: DeliveryId::generate(),
        webhook,
        event: event.id,
        event_type: event.event_type.clone(),
    };
    let job = deliver(&delivery, cause)?;
    insert_events(tx, std::slice::from_ref(&event)).await?;
    insert_deliveries(tx, std::slice::from_ref(&delivery)).await?;
    jobs::queries::enqueue(tx, std::slice::from_ref(&job)).await?;
    let published = Published {
        tenant: event.tenant,
        id: event.id,
        event_type: event.event_type,
        payload: event.payload.get().to_owned(),
        created_at: event.created_at,
        request_id: event.cause.request_id,
        deliveries: vec![(delivery.id, webhook)],
    };
    Ok((published, job))
}
