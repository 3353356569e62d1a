//! Bodies of the routes of events and their types.

use millwork_shared::events::queries::{EventRow, EventTypeRow, Published as PublishedRow};
use poem_openapi::Object;
use poem_openapi::types::MaybeUndefined;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::http::{RawJson, Time};

/// An event to publish.
#[derive(Debug, Object, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewEvent {
    /// Words of letters, digits, `_` and `-`, joined by dots: `order.created`.
    #[oai(
        rename = "type",
        validator(min_length = 1, max_length = 128, pattern = "^[A-Za-z0-9_-]+([.][A-Za-z0-9_-]+)*$")
    )]
    #[serde(rename = "type")]
    pub event_type: String,
    /// Any JSON of at most 256 KiB; it reaches the receivers as it is written here.
    pub payload: RawJson,
    /// A UUIDv7 of the last or next 24 hours. An event is accepted once under an id; again, the first is answered.
    pub id: Option<Uuid>,
}

/// Something that happened.
#[derive(Debug, Object, Serialize)]
pub struct Event {
    /// Also the `webhook-id` of its deliveries.
    pub id: Uuid,
    #[oai(rename = "type")]
    #[serde(rename = "type")]
    pub event_type: String,
    pub payload: RawJson,
    pub created_at: Time,
    /// The request that published it.
    pub request_id: Option<String>,
}

impl From<EventRow> for Event {
    fn from(row: EventRow) -> Self {
        Self {
            id: row.id.0,
            event_type: row.event_type,
            payload: RawJson::stored(row.payload),
            created_at: Time(row.created_at),
            request_id: row.request_id,
        }
    }
}

/// Where an event goes.
#[derive(Debug, Object, Serialize)]
pub struct EventDelivery {
    /// Of the delivery and of the job that carries it.
    pub id: Uuid,
    pub webhook_id: Uuid,
}

/// An event that is committed, with its deliveries.
#[derive(Debug, Object, Serialize)]
pub struct Published {
    pub event: Event,
    pub deliveries: Vec<EventDelivery>,
}

impl From<PublishedRow> for Published {
    fn from(row: PublishedRow) -> Self {
        let deliveries = row.deliveries.into_iter();
        Self {
            event: Event {
                id: row.id.0,
                event_type: row.event_type,
                payload: RawJson::stored(row.payload),
                created_at: Time(row.created_at),
                request_id: row.request_id,
            },
            deliveries: deliveries.map(|(id, webhook)| EventDelivery { id: id.0, webhook_id: webhook.0 }).collect(),
        }
    }
}

/// An event type to declare.
#[derive(Debug, Object, Deserialize)]
pub struct NewEventType {
    /// Words of letters, digits, `_` and `-`, joined by dots: `order.created`.
    #[oai(validator(min_length = 1, max_length = 128, pattern = "^[A-Za-z0-9_-]+([.][A-Za-z0-9_-]+)*$"))]
    pub name: String,
    #[oai(validator(max_length = 1000))]
    pub description: Option<String>,
    /// JSON Schema (2020-12, 2019-09 or draft 07) that payloads must fit. References stay within it and do not recurse.
    pub schema: Option<RawJson>,
}

/// What changes of an event type; what is left out stays.
#[derive(Debug, Object, Deserialize)]
pub struct EventTypeChange {
    #[oai(validator(max_length = 1000))]
    pub description: Option<String>,
    /// Null takes the schema away.
    #[serde(default)]
    pub schema: MaybeUndefined<RawJson>,
}

/// A declared kind of event.
#[derive(Debug, Object, Serialize)]
pub struct EventType {
    pub name: String,
    pub description: String,
    pub schema: Option<RawJson>,
    pub created_at: Time,
    pub version: i32,
}

impl From<EventTypeRow> for EventType {
    fn from(row: EventTypeRow) -> Self {
        Self {
            name: row.name,
            description: row.description,
            schema: row.schema.map(RawJson::stored),
            created_at: Time(row.created_at),
            version: row.version,
        }
    }
}
