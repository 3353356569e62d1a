//! Deliveries and their attempts.

use millwork_shared::infra::db::TenantTx;
use millwork_shared::infra::ids::{DeliveryId, EventId, JobId, WebhookId};
use millwork_shared::jobs::State;
use millwork_shared::jobs::queries::{list_attempts, retry_now};
use millwork_shared::webhooks::queries::{self, Filter};
use poem::web::Data;
use poem_openapi::OpenApi;
use poem_openapi::param::{Path, Query};
use uuid::Uuid;

use super::types::{Delivery, DeliveryAttempt, DeliveryDetail};
use crate::App;
use crate::http::idempotency::no_body;
use crate::http::{Accepted, Answer, ApiError, Begun, Idempotency, List, Page, Permitted, Result, to};
use crate::routes::Tag;

pub struct DeliveriesApi;

#[OpenApi(tag = "Tag::Webhooks")]
impl DeliveriesApi {
    /// List the deliveries to a webhook
    ///
    /// Newest first.
    #[oai(path = "/webhooks/:id/deliveries", method = "get", operation_id = "deliveries.list")]
    async fn list(
        &self,
        caller: Permitted<to::WebhooksRead>,
        app: Data<&App>,
        id: Path<Uuid>,
        page: Page,
        /// Only in this state: scheduled, queued, running, retrying, succeeded, failed, cancelled
        state: Query<Option<String>>,
        /// Only of this event
        event_id: Query<Option<Uuid>>,
    ) -> Result<List<Delivery>> {
        let state = state
            .0
            .map(|text| text.parse::<State>())
            .transpose()
            .map_err(|detail| ApiError::malformed("parameter_invalid", format!("parameter `state`: {detail}")))?;
        let filter = Filter {
            webhook: Some(WebhookId(id.0)),
            event: event_id.0.map(EventId),
            state,
            before: page.before().map(DeliveryId),
        };
        let mut tx = app.db.tenant(caller.tenant).await?;
        queries::get(&mut tx, WebhookId(id.0)).await?;
        let rows = queries::list_deliveries(&mut tx, &filter, page.fetch()).await?;
        tx.commit().await?;
        List::new(&page, rows.into_iter().map(Delivery::from).collect(), |delivery| delivery.id)
    }

    /// Get a delivery
    ///
    /// With every attempt: when, what was answered, how long it took.
    #[oai(path = "/deliveries/:id", method = "get", operation_id = "deliveries.get")]
    async fn get(
        &self,
        caller: Permitted<to::WebhooksRead>,
        app: Data<&App>,
        id: Path<Uuid>,
    ) -> Result<Answer<DeliveryDetail>> {
        let mut tx = app.db.tenant(caller.tenant).await?;
        let detail = read(&mut tx, id.0).await?;
        tx.commit().await?;
        Answer::new(&detail)
    }

    /// Retry a delivery
    ///
    /// One that failed or was cancelled is sent again now, and follows the schedule anew if it fails again.
    #[oai(path = "/deliveries/:id/retry", method = "post", operation_id = "deliveries.retry")]
    async fn retry(
        &self,
        caller: Permitted<to::JobsRetry>,
        app: Data<&App>,
        id: Path<Uuid>,
        key: Idempotency,
    ) -> Result<Accepted<DeliveryDetail>> {
        let mut tx = match key.begin(&app, &caller, no_body()).await? {
            Begun::Replay(answer) => return Ok(answer.into()),
            Begun::Work(tx) => tx,
        };
        queries::get_delivery(&mut tx, DeliveryId(id.0)).await?;
        let ticket = retry_now(&mut tx, JobId(id.0)).await?;
        let detail = read(&mut tx, id.0).await?;
        let answer = tx.finish(Accepted::at(&detail, app.url(&format!("/api/v1/deliveries/{}", id.0)))?).await?;
        app.dispatcher.offer_soon(vec![ticket]);
        Ok(answer)
    }
}

async fn read(tx: &mut TenantTx, id: Uuid) -> Result<DeliveryDetail> {
    let delivery = queries::get_delivery(tx, DeliveryId(id)).await?;
    let attempts = list_attempts(tx, JobId(id)).await?;
    Ok(DeliveryDetail {
        delivery: delivery.into(),
        attempts: attempts.into_iter().map(DeliveryAttempt::from).collect(),
    })
}
