//! Events that tenants publish, and the types they declare for them.

use std::sync::Arc;

use millwork_shared::events::queries::{self, Filter, Topic, TypeChange};
use millwork_shared::events::schema::EventSchema;
use millwork_shared::events::{PAYLOAD_MAX_BYTES, id_fault, is_type_name};
use millwork_shared::infra::ids::{EventId, EventTypeId};
use millwork_shared::quotas::Metric;
use poem::http::StatusCode;
use poem::web::Data;
use poem_openapi::OpenApi;
use poem_openapi::param::{Path, Query};
use poem_openapi::types::MaybeUndefined;
use uuid::Uuid;

use crate::App;
use crate::http::{
    Accepted, Answer, ApiError, Begun, Body, Created, Fault, Idempotency, IfMatch, List, NoContent, Page, Permitted,
    QuickBody, RequestInfo, Result, Time, body, to,
};
use crate::quotas;
use crate::routes::Tag;

/// Stores events, many in one transaction.
pub mod publish;
/// Compiled schemas of event types.
pub mod schemas;
/// Bodies.
pub mod types;

use publish::{Draft, Key, Reply};
use types::{Event, EventType, EventTypeChange, NewEvent, NewEventType, Published};

/// The largest payload and what surrounds it.
const EVENT_BODY: usize = PAYLOAD_MAX_BYTES + 4 * 1024;
/// How often an event is checked again because its type changes meanwhile.
const CHECKS: usize = 4;

pub struct EventsApi;

#[OpenApi(tag = "Tag::Webhooks")]
impl EventsApi {
    /// Publish an event
    ///
    /// Answers when the event, its deliveries and their jobs are committed. They go to the webhooks that want the type
    /// at this moment.
    #[oai(path = "/events", method = "post", operation_id = "events.publish")]
    async fn publish(
        &self,
        caller: Permitted<to::EventsPublish>,
        app: Data<&App>,
        request: RequestInfo,
        key: Idempotency,
        body: QuickBody<NewEvent, EVENT_BODY>,
    ) -> Result<Accepted<Published>> {
        let (body, raw) = body.into_parts();
        let id = body.id.map(EventId);
        check_event(&app, &body, id, &raw)?;
        let (route, name) = (key.route.clone(), key.key.clone());
        let draft = Draft {
            topic: Topic { tenant: caller.tenant, event_type: body.event_type },
            id,
            payload: body.payload.0,
            cause: request.cause(),
            key: name.map(|key| Key { route, key, body_hash: body::hash(&raw) }),
        };
        let units = quotas::take(&app, caller.tenant, Metric::Events, 1).await?;
        let published = publish_checked(&app, draft).await;
        if published.as_ref().is_ok_and(|answer| !answer.rendered().replayed) {
            units.keep();
        }
        match published {
            // What was accepted once under this key is not refused because its type has changed since.
            Err(error) if error.status() == StatusCode::UNPROCESSABLE_ENTITY && key.key.is_some() => {
                match key.begin(&app, &caller, body::hash(&raw)).await? {
                    Begun::Replay(answer) => Ok(answer.into()),
                    Begun::Work(_) => Err(error),
                }
            }
            other => other,
        }
    }

    /// List events
    ///
    /// Newest first, by the time in their ids.
    #[oai(path = "/events", method = "get", operation_id = "events.list")]
    async fn list(
        &self,
        caller: Permitted<to::EventsRead>,
        app: Data<&App>,
        page: Page,
        /// Only of this type
        r#type: Query<Option<String>>,
        /// Only since this time
        from: Query<Option<Time>>,
        /// Only before this time
        to: Query<Option<Time>>,
    ) -> Result<List<Event>> {
        let filter = Filter {
            event_type: r#type.0,
            from: from.0.map(|time| time.0),
            to: to.0.map(|time| time.0),
            before: page.before().map(EventId),
        };
        let mut tx = app.db.tenant(caller.tenant).await?;
        let rows = queries::list(&mut tx, &filter, page.fetch()).await?;
        tx.commit().await?;
        List::new(&page, rows.into_iter().map(Event::from).collect(), |event| event.id)
    }

    /// Get an event
    #[oai(path = "/events/:id", method = "get", operation_id = "events.get")]
    async fn get(&self, caller: Permitted<to::EventsRead>, app: Data<&App>, id: Path<Uuid>) -> Result<Answer<Event>> {
        let mut tx = app.db.tenant(caller.tenant).await?;
        let row = queries::get(&mut tx, EventId(id.0)).await?;
        tx.commit().await?;
        Answer::new(&row.into())
    }

    /// Declare an event type
    ///
    /// With a schema, payloads of this type are refused when they do not fit it.
    #[oai(path = "/event-types", method = "post", operation_id = "event_types.create")]
    async fn create_type(
        &self,
        caller: Permitted<to::EventTypesWrite>,
        app: Data<&App>,
        key: Idempotency,
        body: Body<NewEventType>,
    ) -> Result<Created<EventType>> {
        let schema = body.schema.as_ref().map(|schema| schema.text());
        check_schema(schema)?;
        let mut tx = match key.begin(&app, &caller, body.hash()).await? {
            Begun::Replay(answer) => return Ok(answer.into()),
            Begun::Work(tx) => tx,
        };
        let description = body.description.as_deref().unwrap_or_default();
        let row = queries::insert_type(&mut tx, &body.name, description, schema).await?;
        let location = app.url(&format!("/api/v1/event-types/{}", row.name));
        tx.finish(Created::at(&row.into(), location)?).await
    }

    /// List event types
    #[oai(path = "/event-types", method = "get", operation_id = "event_types.list")]
    async fn list_types(
        &self,
        caller: Permitted<to::EventTypesRead>,
        app: Data<&App>,
        page: Page,
    ) -> Result<List<EventType>> {
        let mut tx = app.db.tenant(caller.tenant).await?;
        let mut rows = queries::list_types(&mut tx, page.before().map(EventTypeId), page.fetch()).await?;
        tx.commit().await?;
        let last = rows.get(page.limit().saturating_sub(1)).map_or(Uuid::nil(), |row| row.id.0);
        List::new(&page, rows.drain(..).map(EventType::from).collect(), |_| last)
    }

    /// Get an event type
    #[oai(path = "/event-types/:name", method = "get", operation_id = "event_types.get")]
    async fn get_type(
        &self,
        caller: Permitted<to::EventTypesRead>,
        app: Data<&App>,
        name: Path<String>,
    ) -> Result<Answer<EventType>> {
        let mut tx = app.db.tenant(caller.tenant).await?;
        let row = queries::get_type(&mut tx, known_name(&name)?).await?;
        tx.commit().await?;
        Answer::new(&row.into())
    }

    /// Change an event type
    #[oai(path = "/event-types/:name", method = "patch", operation_id = "event_types.update")]
    async fn update_type(
        &self,
        caller: Permitted<to::EventTypesWrite>,
        app: Data<&App>,
        name: Path<String>,
        if_match: IfMatch,
        body: Body<EventTypeChange>,
    ) -> Result<Answer<EventType>> {
        let body = body.into_inner();
        let schema = match body.schema {
            MaybeUndefined::Undefined => None,
            MaybeUndefined::Null => Some(None),
            MaybeUndefined::Value(schema) => {
                check_schema(Some(schema.text()))?;
                Some(Some(schema.text().to_owned()))
            }
        };
        let name = known_name(&name)?;
        let mut tx = app.db.tenant(caller.tenant).await?;
        if_match.check(queries::lock_type(&mut tx, name).await?.version)?;
        let change = TypeChange { description: body.description, schema };
        let row = queries::update_type(&mut tx, name, &change).await?;
        tx.commit().await?;
        Answer::new(&row.into())
    }

    /// Delete an event type
    ///
    /// Its events stay. Events of this type are accepted without a schema, unless the tenant wants every type declared.
    #[oai(path = "/event-types/:name", method = "delete", operation_id = "event_types.delete")]
    async fn delete_type(
        &self,
        caller: Permitted<to::EventTypesWrite>,
        app: Data<&App>,
        name: Path<String>,
    ) -> Result<NoContent> {
        let mut tx = app.db.tenant(caller.tenant).await?;
        queries::delete_type(&mut tx, known_name(&name)?).await?;
        tx.commit().await?;
        Ok(NoContent::done())
    }
}

/// Publishes the event once its payload fits the schema that its type has then.
async fn publish_checked(app: &App, draft: Draft) -> Result<Accepted<Published>> {
    let draft = Arc::new(draft);
    for _ in 0..CHECKS {
        let checked = app.schemas.check(&app.db, &draft.topic, &draft.payload).await?;
        match app.publisher.publish(draft.clone(), checked).await? {
            Reply::Answered(rendered) => return Ok(rendered.into()),
            Reply::OtherSchema => app.schemas.reload(&app.db, &draft.topic).await?,
        }
    }
    Err(ApiError::conflict("event_type_changing", "the event's type is being changed; try again in a moment"))
}

/// What serde alone does not know of an event.
fn check_event(app: &App, body: &NewEvent, id: Option<EventId>, raw: &[u8]) -> Result<()> {
    let mut faults = Vec::new();
    if !is_type_name(&body.event_type) {
        faults = body::faults::<NewEvent>(raw)?;
    }
    if body.payload.text().len() > PAYLOAD_MAX_BYTES {
        let detail = format!("must have at most {PAYLOAD_MAX_BYTES} bytes");
        faults.push(Fault::new("/payload", "too_large", detail));
    }
    if let Some(fault) = id.and_then(|id| id_fault(id, app.clock.now())) {
        faults.push(Fault::new("/id", "event_id_invalid", fault));
    }
    if faults.is_empty() { Ok(()) } else { Err(ApiError::invalid(faults)) }
}

fn check_schema(schema: Option<&str>) -> Result<()> {
    let Some(Err(faults)) = schema.map(EventSchema::compile) else { return Ok(()) };
    let within = |fault: Fault| Fault { pointer: format!("/schema{}", fault.pointer), ..fault };
    Err(ApiError::invalid(faults.into_iter().map(within).collect()))
}

/// A name that no type can have belongs to none.
fn known_name(name: &str) -> Result<&str> {
    if is_type_name(name) { Ok(name) } else { Err(millwork_shared::Error::NotFound("event type").into()) }
}
