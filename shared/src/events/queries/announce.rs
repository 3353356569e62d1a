//! Events of our own, published with what they tell of.

use serde_json::Value;
use serde_json::value::to_raw_value;

use super::{NewDelivery, NewEvent, Topic, insert_deliveries, insert_events, list_routes};
use crate::Result;
use crate::infra::db::TenantTx;
use crate::infra::ids::{DeliveryId, EventId};
use crate::jobs::{self, Cause, NewJob};
use crate::webhooks::jobs::deliver;

/// Publishes an event in the transaction of what it tells of. Answers the jobs that deliver it, to be offered after the commit.
pub async fn announce(tx: &mut TenantTx, event_type: &str, payload: &Value, cause: &Cause) -> Result<Vec<NewJob>> {
    let topic = Topic { tenant: tx.tenant(), event_type: event_type.to_owned() };
    let Some(route) = list_routes(tx, &[&topic]).await?.into_iter().next().flatten() else { return Ok(Vec::new()) };
    let event = NewEvent {
        tenant: topic.tenant,
        id: EventId::generate(),
        event_type: topic.event_type,
        payload: to_raw_value(payload)?,
        created_at: route.now,
        cause: cause.clone(),
    };
    let (mut deliveries, mut carriers) = (Vec::new(), Vec::new());
    for webhook in route.webhooks {
        let delivery = NewDelivery {
            tenant: event.tenant,
            id: DeliveryId::generate(),
            webhook,
            event: event.id,
            event_type: event.event_type.clone(),
        };
        carriers.push(deliver(&delivery, cause)?);
        deliveries.push(delivery);
    }
    insert_events(tx, &[event]).await?;
    insert_deliveries(tx, &deliveries).await?;
    jobs::queries::enqueue(tx, &carriers).await?;
    Ok(carriers)
}
