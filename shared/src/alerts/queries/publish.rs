//! The events of alerts.

use chrono::{DateTime, Utc};
use serde_json::Value;
use serde_json::value::to_raw_value;
use sqlx::PgConnection;

use crate::Result;
use crate::alerts::{Cause, tagged};
use crate::events::queries::{NewDelivery, NewEvent, Topic, insert_deliveries, insert_events, list_routes};
use crate::infra::ids::{DeliveryId, EventId, TenantId, WebhookId};
use crate::jobs::{self, NewJob};
use crate::webhooks::jobs::deliver;

/// Deliveries stored for one alert at a time.
const DELIVERIES: usize = 2_000;

/// Where a tenant's events of one cause go.
pub(super) struct Way {
    topic: Topic,
    now: DateTime<Utc>,
    webhooks: Vec<WebhookId>,
}

impl Way {
    pub(super) async fn find(conn: &mut PgConnection, tenant: TenantId, cause: Cause) -> Result<Self> {
        let topic = Topic { tenant, event_type: cause.as_str().to_owned() };
        let route = list_routes(conn, &[&topic]).await?.into_iter().next().flatten();
        let (now, webhooks) = route.map_or((DateTime::UNIX_EPOCH, Vec::new()), |route| (route.now, route.webhooks));
        Ok(Self { topic, now, webhooks })
    }

    /// How many events may go this way at a time.
    pub(super) fn room(&self) -> usize {
        (DELIVERIES / self.webhooks.len().max(1)).max(1)
    }

    /// Stores events, and the jobs that deliver them: to be offered after the commit.
    pub(super) async fn publish(&self, conn: &mut PgConnection, payloads: Vec<Value>) -> Result<Vec<NewJob>> {
        let (mut events, mut deliveries, mut carriers) = (Vec::new(), Vec::new(), Vec::new());
        for payload in payloads {
            let event = NewEvent {
                tenant: self.topic.tenant,
                id: EventId::generate(),
                event_type: self.topic.event_type.clone(),
                payload: to_raw_value(&payload)?,
                created_at: self.now,
                cause: jobs::Cause::default(),
            };
            for &webhook in &self.webhooks {
                let delivery = NewDelivery {
                    tenant: event.tenant,
                    id: DeliveryId::generate(),
                    webhook,
                    event: event.id,
                    event_type: event.event_type.clone(),
                };
                carriers.push(tagged(deliver(&delivery, &event.cause)?));
                deliveries.push(delivery);
            }
            events.push(event);
        }
        insert_events(conn, &events).await?;
        insert_deliveries(conn, &deliveries).await?;
        jobs::queries::insert(conn, &carriers).await?;
        Ok(carriers)
    }
}
