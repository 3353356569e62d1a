//! Bodies of the routes of webhooks and deliveries.

use std::collections::BTreeMap;

use millwork_shared::jobs::queries::Attempt as AttemptRow;
use millwork_shared::webhooks::AttemptDetail;
use millwork_shared::webhooks::queries::{DeliveryRow, WebhookRow};
use poem_openapi::Object;
use poem_openapi::types::MaybeUndefined;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::http::{RawJson, Time};

/// An endpoint to register.
#[derive(Debug, Object, Deserialize)]
pub struct NewWebhook {
    /// http or https, without credentials, not private.
    #[oai(validator(min_length = 1, max_length = 2048))]
    pub url: String,
    #[oai(validator(max_length = 1000))]
    pub description: Option<String>,
    /// Types by name, by prefix (`order.*`), or all (`*`). All unless given.
    #[oai(validator(min_items = 1, max_items = 100))]
    pub event_types: Option<Vec<String>>,
    /// True unless given.
    pub enabled: Option<bool>,
    /// Deliveries per second that the receiver wants at most.
    #[oai(validator(minimum(value = "1"), maximum(value = "10000")))]
    pub rate_limit_per_s: Option<i32>,
    /// Sent with every delivery; kept sealed, and shown by name alone.
    pub headers: Option<BTreeMap<String, String>>,
    /// A JSON object of your own, up to 4 KiB.
    pub metadata: Option<RawJson>,
}

/// What changes of an endpoint; what is left out stays.
#[derive(Debug, Object, Deserialize)]
pub struct WebhookChange {
    #[oai(validator(min_length = 1, max_length = 2048))]
    pub url: Option<String>,
    #[oai(validator(max_length = 1000))]
    pub description: Option<String>,
    #[oai(validator(min_items = 1, max_items = 100))]
    pub event_types: Option<Vec<String>>,
    /// True also enables an endpoint that was disabled because it answered 410.
    pub enabled: Option<bool>,
    /// Null takes the limit away.
    #[oai(validator(minimum(value = "1"), maximum(value = "10000")))]
    #[serde(default)]
    pub rate_limit_per_s: MaybeUndefined<i32>,
    /// Replaces all of them; null takes them away.
    #[serde(default)]
    pub headers: MaybeUndefined<BTreeMap<String, String>>,
    /// Null takes it away.
    #[serde(default)]
    pub metadata: MaybeUndefined<RawJson>,
}

/// An endpoint that wants events.
#[derive(Debug, Object, Serialize)]
pub struct Webhook {
    pub id: Uuid,
    pub url: String,
    pub description: String,
    pub event_types: Vec<String>,
    pub enabled: bool,
    pub disabled_at: Option<Time>,
    /// Why Millwork disabled it; null when a person did.
    pub disabled_reason: Option<String>,
    pub rate_limit_per_s: Option<i32>,
    /// The names of its headers; values are not shown.
    pub headers: BTreeMap<String, String>,
    pub metadata: Option<RawJson>,
    pub created_at: Time,
    pub updated_at: Time,
    pub version: i32,
}

/// What stands for the value of a header.
const HIDDEN: &str = "********";

impl Webhook {
    /// `headers` are the names of the sealed ones.
    pub fn new(row: WebhookRow, headers: impl IntoIterator<Item = String>) -> Self {
        Self {
            id: row.id.0,
            url: row.url,
            description: row.description,
            event_types: row.event_types,
            enabled: row.disabled_at.is_none(),
            disabled_at: row.disabled_at.map(Time),
            disabled_reason: row.disabled_reason,
            rate_limit_per_s: row.rate_limit_per_s,
            headers: headers.into_iter().map(|name| (name, HIDDEN.to_owned())).collect(),
            metadata: row.metadata.map(RawJson::stored),
            created_at: Time(row.created_at),
            updated_at: Time(row.updated_at),
            version: row.version,
        }
    }
}

/// An endpoint as registered, with its secret.
#[derive(Debug, Object, Serialize)]
pub struct CreatedWebhook {
    #[oai(flatten)]
    #[serde(flatten)]
    pub webhook: Webhook,
    /// Verifies its deliveries, by Standard Webhooks.
    pub secret: String,
}

/// What verifies the deliveries of an endpoint.
#[derive(Debug, Object, Serialize)]
pub struct WebhookSecret {
    pub secret: String,
    /// Until when the secret before this one also signs.
    pub old_secret_until: Option<Time>,
}

/// How a secret is replaced.
#[derive(Debug, Object, Deserialize)]
pub struct SecretRotation {
    /// How long the old secret also signs; 86400 unless given, a week at most.
    #[oai(validator(minimum(value = "0"), maximum(value = "604800")))]
    pub grace_s: Option<u32>,
}

/// Why an attempt failed.
#[derive(Debug, Object, Serialize, Deserialize)]
pub struct DeliveryError {
    /// Stable, for programs.
    pub code: String,
    pub message: String,
}

/// An event on its way to an endpoint; the job of the same id carries it.
#[derive(Debug, Object, Serialize)]
pub struct Delivery {
    pub id: Uuid,
    pub webhook_id: Uuid,
    /// Also the `webhook-id` of its requests.
    pub event_id: Uuid,
    pub event_type: String,
    /// As a job's: `scheduled`, `queued`, `running`, `retrying`, `succeeded`, `failed`, `cancelled`.
    pub state: String,
    /// Attempts so far.
    pub attempt: i16,
    pub created_at: Time,
    /// When it is tried next; null unless it waits.
    pub next_attempt_at: Option<Time>,
    pub finished_at: Option<Time>,
    pub last_error: Option<DeliveryError>,
}

impl From<DeliveryRow> for Delivery {
    fn from(row: DeliveryRow) -> Self {
        Self {
            id: row.id.0,
            webhook_id: row.webhook_id.0,
            event_id: row.event_id.0,
            state: row.state().as_str().to_owned(),
            event_type: row.event_type,
            attempt: row.attempt,
            created_at: Time(row.id.created_at()),
            next_attempt_at: row.next_attempt_at.map(Time),
            finished_at: row.finished_at.map(Time),
            last_error: row.error.as_deref().and_then(error),
        }
    }
}

/// A delivery with all that was tried.
#[derive(Debug, Object, Serialize)]
pub struct DeliveryDetail {
    #[oai(flatten)]
    #[serde(flatten)]
    pub delivery: Delivery,
    /// Newest first, at most 200.
    pub attempts: Vec<DeliveryAttempt>,
}

/// One request to an endpoint, and what came of it.
#[derive(Debug, Object, Serialize)]
pub struct DeliveryAttempt {
    pub attempt: i16,
    /// How it ended: `running`, `succeeded`, `retry`, `failed`, `cancelled`, `lost` (with its worker), `snoozed`.
    pub outcome: String,
    pub started_at: Option<Time>,
    pub finished_at: Option<Time>,
    /// Null when there was no answer.
    pub status: Option<u16>,
    pub latency_ms: Option<u64>,
    pub response_headers: BTreeMap<String, String>,
    /// The first 4 KiB.
    pub response_body: Option<String>,
    /// `http_status`, or what kept it from an answer: `timeout`, `dns`, `refused_address`, `connect`, `tls`, `reset`,
    /// `protocol`, `invalid_url`, or `circuit_open`: not tried, because the receiver timed out lately.
    pub error_class: Option<String>,
    pub error: Option<DeliveryError>,
}

impl From<AttemptRow> for DeliveryAttempt {
    fn from(row: AttemptRow) -> Self {
        let detail: Option<AttemptDetail> = row.detail.as_deref().and_then(|text| serde_json::from_str(text).ok());
        let latency_ms = detail.as_ref().map(|detail| detail.latency_ms);
        let detail = detail.unwrap_or_default();
        Self {
            attempt: row.attempt,
            outcome: row.ended,
            started_at: row.started_at.map(Time),
            finished_at: row.finished_at.map(Time),
            status: detail.status,
            latency_ms,
            response_headers: detail.headers,
            response_body: detail.body,
            error_class: detail.error_class,
            error: row.error.as_deref().and_then(error),
        }
    }
}

fn error(text: &str) -> Option<DeliveryError> {
    serde_json::from_str(text).ok()
}
