//! Endpoints that want a tenant's events, and the deliveries to them.

use std::time::Duration;

use millwork_shared::audit::queries as audit;
use millwork_shared::infra::ids::WebhookId;
use millwork_shared::webhooks::queries::{self, Change};
use millwork_shared::webhooks::{check, generate_secret, sealed};
use poem::web::Data;
use poem_openapi::OpenApi;
use poem_openapi::param::Path;
use poem_openapi::types::MaybeUndefined;
use uuid::Uuid;

use crate::App;
use crate::events::types::Published;
use crate::http::idempotency::no_body;
use crate::http::{
    Accepted, Answer, ApiError, Begun, Body, Created, Idempotency, IfMatch, List, NoContent, Page, Permitted,
    RequestInfo, Result, Time, to,
};
use crate::routes::Tag;

/// Deliveries and their attempts.
pub mod deliveries;
mod show;
mod trial;
/// Bodies.
pub mod types;

use types::{CreatedWebhook, NewWebhook, SecretRotation, Webhook, WebhookChange, WebhookSecret};

/// How long a replaced secret also signs, unless the client says.
const GRACE_S: u32 = 86_400;

pub struct WebhooksApi;

#[OpenApi(tag = "Tag::Webhooks")]
impl WebhooksApi {
    /// Register a webhook
    ///
    /// Deliveries begin with the next matching event; past events are not replayed. The secret verifies them.
    #[oai(path = "/webhooks", method = "post", operation_id = "webhooks.create")]
    async fn create(
        &self,
        caller: Permitted<to::WebhooksWrite>,
        app: Data<&App>,
        key: Idempotency,
        body: Body<NewWebhook>,
    ) -> Result<Created<CreatedWebhook>> {
        let mut faults = check::Faults::default();
        faults.url(&body.url, &app.settings.nets);
        faults.event_types(body.event_types.as_deref().unwrap_or_default());
        body.headers.iter().for_each(|headers| faults.headers(headers));
        body.metadata.iter().for_each(|metadata| faults.metadata(metadata.text()));
        faults.finish().map_err(ApiError::invalid)?;
        let mut tx = match key.begin(&app, &caller, body.hash()).await? {
            Begun::Replay(answer) => return Ok(answer.into()),
            Begun::Work(tx) => tx,
        };
        let body = body.into_inner();
        let (id, secret) = (WebhookId::generate(), generate_secret());
        let new = queries::NewWebhook {
            id,
            url: body.url,
            description: body.description.unwrap_or_default(),
            event_types: body.event_types.unwrap_or_else(|| vec!["*".to_owned()]),
            enabled: body.enabled.unwrap_or(true),
            rate_limit_per_s: body.rate_limit_per_s,
            sealed_headers: sealed::seal_headers(&app.keys, id, &body.headers.unwrap_or_default())?,
            metadata: body.metadata.map(|metadata| metadata.text().to_owned()),
            sealed_secret: sealed::seal_secret(&app.keys, id, secret.expose())?,
        };
        let row = queries::insert(&mut tx, &new).await?;
        let created = CreatedWebhook { webhook: show::show(&app.keys, row)?, secret: secret.expose().clone() };
        tx.finish(Created::at(&created, app.url(&format!("/api/v1/webhooks/{id}")))?).await
    }

    /// List webhooks
    #[oai(path = "/webhooks", method = "get", operation_id = "webhooks.list")]
    async fn list(&self, caller: Permitted<to::WebhooksRead>, app: Data<&App>, page: Page) -> Result<List<Webhook>> {
        let mut tx = app.db.tenant(caller.tenant).await?;
        let rows = queries::list(&mut tx, page.before().map(WebhookId), page.fetch()).await?;
        tx.commit().await?;
        let webhooks: Result<Vec<_>> = rows.into_iter().map(|row| show::show(&app.keys, row)).collect();
        List::new(&page, webhooks?, |webhook| webhook.id)
    }

    /// Get a webhook
    #[oai(path = "/webhooks/:id", method = "get", operation_id = "webhooks.get")]
    async fn get(
        &self,
        caller: Permitted<to::WebhooksRead>,
        app: Data<&App>,
        id: Path<Uuid>,
    ) -> Result<Answer<Webhook>> {
        let mut tx = app.db.tenant(caller.tenant).await?;
        let row = queries::get(&mut tx, WebhookId(id.0)).await?;
        tx.commit().await?;
        Answer::new(&show::show(&app.keys, row)?)
    }

    /// Change a webhook
    ///
    /// What waits for it is sent by what it is when its time comes.
    #[oai(path = "/webhooks/:id", method = "patch", operation_id = "webhooks.update")]
    async fn update(
        &self,
        caller: Permitted<to::WebhooksWrite>,
        app: Data<&App>,
        id: Path<Uuid>,
        if_match: IfMatch,
        body: Body<WebhookChange>,
    ) -> Result<Answer<Webhook>> {
        let (id, body) = (WebhookId(id.0), body.into_inner());
        let mut faults = check::Faults::default();
        body.url.iter().for_each(|url| faults.url(url, &app.settings.nets));
        body.event_types.iter().for_each(|patterns| faults.event_types(patterns));
        body.headers.value().into_iter().for_each(|headers| faults.headers(headers));
        body.metadata.value().into_iter().for_each(|metadata| faults.metadata(metadata.text()));
        faults.finish().map_err(ApiError::invalid)?;
        let change = Change {
            url: body.url,
            description: body.description,
            event_types: body.event_types,
            enabled: body.enabled,
            rate_limit_per_s: changed(body.rate_limit_per_s),
            sealed_headers: match changed(body.headers) {
                Some(headers) => Some(sealed::seal_headers(&app.keys, id, &headers.unwrap_or_default())?),
                None => None,
            },
            metadata: changed(body.metadata).map(|metadata| metadata.map(|m| m.text().to_owned())),
        };
        let mut tx = app.db.tenant(caller.tenant).await?;
        if_match.check(queries::lock(&mut tx, id).await?.version)?;
        let row = queries::update(&mut tx, id, &change).await?;
        tx.commit().await?;
        Answer::new(&show::show(&app.keys, row)?)
    }

    /// Delete a webhook
    ///
    /// What waits for it fails when its time comes; its deliveries can still be looked at.
    #[oai(path = "/webhooks/:id", method = "delete", operation_id = "webhooks.delete")]
    async fn delete(&self, caller: Permitted<to::WebhooksWrite>, app: Data<&App>, id: Path<Uuid>) -> Result<NoContent> {
        let mut tx = app.db.tenant(caller.tenant).await?;
        queries::delete(&mut tx, WebhookId(id.0)).await?;
        tx.commit().await?;
        Ok(NoContent::done())
    }

    /// Show the secret of a webhook
    #[oai(path = "/webhooks/:id/secret", method = "get", operation_id = "webhooks.secret")]
    async fn secret(
        &self,
        caller: Permitted<to::WebhooksSecret>,
        app: Data<&App>,
        id: Path<Uuid>,
    ) -> Result<Answer<WebhookSecret>> {
        let id = WebhookId(id.0);
        let mut tx = app.db.tenant(caller.tenant).await?;
        let row = queries::get_secret(&mut tx, id).await?;
        audit::record(&mut tx, "webhook.secret_shown", ("webhook", &id.to_string()), None).await?;
        tx.commit().await?;
        let secret = sealed::open_secret(&app.keys, id, &row.sealed_secret)?;
        Answer::new(&WebhookSecret { secret, old_secret_until: row.old_secret_until.map(Time) })
    }

    /// Replace the secret of a webhook
    ///
    /// The old one also signs for a while, so that receivers can change over.
    #[oai(path = "/webhooks/:id/rotate-secret", method = "post", operation_id = "webhooks.rotate_secret")]
    async fn rotate_secret(
        &self,
        caller: Permitted<to::WebhooksSecret>,
        app: Data<&App>,
        id: Path<Uuid>,
        key: Idempotency,
        body: Body<SecretRotation>,
    ) -> Result<Answer<WebhookSecret>> {
        let (id, secret) = (WebhookId(id.0), generate_secret());
        let mut tx = match key.begin(&app, &caller, body.hash()).await? {
            Begun::Replay(answer) => return Ok(answer.into()),
            Begun::Work(tx) => tx,
        };
        let grace = Duration::from_secs(body.grace_s.unwrap_or(GRACE_S).into());
        let sealed = sealed::seal_secret(&app.keys, id, secret.expose())?;
        queries::rotate_secret(&mut tx, id, &sealed, grace).await?;
        let until = queries::get_secret(&mut tx, id).await?.old_secret_until;
        let answer = WebhookSecret { secret: secret.expose().clone(), old_secret_until: until.map(Time) };
        tx.finish(Answer::new(&answer)?).await
    }

    /// Try a webhook
    ///
    /// Sends it, and it alone, an event `webhook.test` now.
    #[oai(path = "/webhooks/:id/test", method = "post", operation_id = "webhooks.test")]
    async fn test(
        &self,
        caller: Permitted<to::WebhooksWrite>,
        app: Data<&App>,
        request: RequestInfo,
        id: Path<Uuid>,
        key: Idempotency,
    ) -> Result<Accepted<Published>> {
        let mut tx = match key.begin(&app, &caller, no_body()).await? {
            Begun::Replay(answer) => return Ok(answer.into()),
            Begun::Work(tx) => tx,
        };
        let (event, job) = trial::publish(&mut tx, WebhookId(id.0), &request.cause(), app.clock.now()).await?;
        let location = app.url(&format!("/api/v1/deliveries/{}", job.id));
        let answer = tx.finish(Accepted::at(&Published::from(event), location)?).await?;
        app.dispatcher.offer(&[job]);
        Ok(answer)
    }
}

/// As queries take it: None leaves a field, `Some(None)` takes it away.
fn changed<T>(field: MaybeUndefined<T>) -> Option<Option<T>> {
    match field {
        MaybeUndefined::Undefined => None,
        MaybeUndefined::Null => Some(None),
        MaybeUndefined::Value(value) => Some(Some(value)),
    }
}
