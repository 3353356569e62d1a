//! The kind `webhook.deliver`.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::Result;
use crate::events::queries::NewDelivery;
use crate::infra::ids::{EventId, JobId, WebhookId};
use crate::jobs::{Cause, Job, NewJob, Queue};

/// Sends an event to an endpoint.
///
/// The delivery is the job of the same id. Carries ids only: the rows are read when the job runs, which may be days later.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct DeliverWebhook {
    pub event: EventId,
    pub webhook: WebhookId,
}

impl Job for DeliverWebhook {
    const KIND: &'static str = "webhook.deliver";
    const QUEUE: Queue = Queue::Webhooks;
    /// More than any schedule has: the handler ends the job when its `WEBHOOK_RETRY_SCHEDULE` is used up.
    const MAX_ATTEMPTS: i16 = 100;
    /// More than any attempt takes: the handler keeps `WEBHOOK_TIMEOUT_MS`.
    const TIMEOUT: Duration = Duration::from_secs(120);
}

/// The job of `delivery`.
pub fn deliver(delivery: &NewDelivery, cause: &Cause) -> Result<NewJob> {
    let payload = DeliverWebhook { event: delivery.event, webhook: delivery.webhook };
    let job = NewJob::of(delivery.tenant, &payload)?.caused_by(cause);
    Ok(NewJob { id: JobId(delivery.id.0), ..job })
}
