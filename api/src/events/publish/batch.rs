//! One transaction: everything that a batch of publications reads and writes.

use std::collections::HashMap;
use std::sync::Arc;

use millwork_shared::Error;
use millwork_shared::events::queries::{
    NewDelivery, NewEvent, Published as PublishedRow, Route, Topic, insert_deliveries, insert_events, list_published,
    list_routes,
};
use millwork_shared::idempotency::{self, IdempotencyRecord};
use millwork_shared::infra::crypto::KeyRing;
use millwork_shared::infra::db::{SystemDb, SystemTx};
use millwork_shared::infra::ids::{DeliveryId, EventId, TenantId};
use millwork_shared::jobs::dispatch::Dispatcher;
use millwork_shared::jobs::{self, NewJob};
use millwork_shared::webhooks::jobs::deliver;

use super::super::schemas::SchemaVersion;
use super::super::types::Published;
use super::Draft;
use crate::http::idempotency::{replay, stored_headers};
use crate::http::{Accepted, ApiError, Fault, Rendered, Result};
use crate::metrics::METRICS;

/// Deliveries of one transaction, beyond which the rest of its events waits for the next. The first always goes.
const DELIVERIES: usize = 5_000;

pub(super) struct Writer {
    pub db: SystemDb,
    pub dispatcher: Dispatcher,
    pub keys: Arc<KeyRing>,
    pub public_url: String,
}

/// A publication, and the schema that its payload was found to fit.
pub(super) type Checked = (Arc<Draft>, SchemaVersion);

/// What a batch answers one of its publications.
#[derive(Debug)]
pub(super) enum Answer {
    Given(Rendered),
    OtherSchema,
    Refused(ApiError),
    /// Not this time.
    Later,
}

pub(super) enum Failure {
    /// Another transaction stored one of our ids since we looked; what it stored shows the next time.
    Raced,
    Failed(ApiError),
}

impl<E: Into<ApiError>> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::Failed(error.into())
    }
}

/// What one publication writes, if its idempotency key is new.
#[derive(Default)]
struct Writes {
    /// None when the event is stored already.
    event: Option<NewEvent>,
    deliveries: Vec<NewDelivery>,
    jobs: Vec<NewJob>,
}

impl Writer {
    /// Reads, decides, writes and commits. No id may appear twice among `drafts`.
    pub async fn store(&self, drafts: &[Checked]) -> Result<Vec<Answer>, Failure> {
        let mut tx = self.db.system_by_index().await?;
        let (mut answers, mut writes) = self.decide(&mut tx, drafts).await?;
        self.claim(&mut tx, drafts, &mut answers, &mut writes).await?;

        let events: Vec<NewEvent> = writes.iter_mut().filter_map(|w| w.event.take()).collect();
        let deliveries: Vec<NewDelivery> = writes.iter_mut().flat_map(|w| std::mem::take(&mut w.deliveries)).collect();
        let jobs: Vec<NewJob> = writes.into_iter().flat_map(|w| w.jobs).collect();
        if insert_events(&mut tx, &events).await? < events.len() as u64 {
            return Err(Failure::Raced);
        }
        insert_deliveries(&mut tx, &deliveries).await?;
        jobs::queries::insert(&mut tx, &jobs).await?;
        tx.commit().await?;
        METRICS.events.jobs.inc_by(jobs.len() as u64);
        self.dispatcher.offer(&jobs);
        Ok(answers)
    }

    /// What each publication is answered, and what it writes.
    async fn decide(&self, tx: &mut SystemTx, drafts: &[Checked]) -> Result<(Vec<Answer>, Vec<Writes>), Failure> {
        let routes = routes(tx, drafts).await?;
        let published = published(tx, drafts).await?;
        let (mut answers, mut writes) = (Vec::new(), Vec::new());
        let (mut events, mut deliveries) = (0, 0);
        for (draft, checked) in drafts {
            let before = draft.id.and_then(|id| published.get(&(draft.topic.tenant, id)));
            let mut own = Writes::default();
            answers.push(match (before, routes.get(&draft.topic).and_then(Option::as_ref)) {
                (Some(before), _) => self.render(before.clone())?,
                (None, None) => Answer::Refused(Error::NotFound("tenant").into()),
                (None, Some(route)) => match refusal(route, *checked) {
                    Some(refusal) => refusal,
                    None if events > 0 && deliveries + route.webhooks.len() > DELIVERIES => Answer::Later,
                    None => {
                        events += 1;
                        deliveries += route.webhooks.len();
                        self.render(own.add(draft, route)?)?
                    }
                },
            });
            writes.push(own);
        }
        Ok((answers, writes))
    }

    fn render(&self, event: PublishedRow) -> Result<Answer> {
        let location = format!("{}/api/v1/events/{}", self.public_url, event.id);
        Ok(Answer::Given(Accepted::at(&Published::from(event), location)?.into_rendered()))
    }

    /// Keeps the answers of idempotency keys; one that has an answer already gives that instead, and writes nothing.
    async fn claim(
        &self,
        tx: &mut SystemTx,
        drafts: &[Checked],
        answers: &mut [Answer],
        writes: &mut [Writes],
    ) -> Result<(), Failure> {
        let records: Result<Vec<_>> =
            drafts.iter().zip(&*answers).map(|((d, _), answer)| self.record(d, answer)).collect();
        let records = records?;
        let known = idempotency::queries::store_many(tx, &records).await?;
        for (n, record) in records.iter().enumerate().filter(|(n, _)| known[*n]) {
            let (Some(record), Some(key)) = (record, &drafts[n].0.key) else { continue };
            let stored = idempotency::queries::get(tx, record).await?;
            answers[n] = replay(&stored, key.body_hash, &self.keys).map_or_else(Answer::Refused, Answer::Given);
            writes[n] = Writes::default();
        }
        Ok(())
    }

    fn record(&self, draft: &Draft, answer: &Answer) -> Result<Option<IdempotencyRecord>> {
        let (Some(key), Answer::Given(rendered)) = (&draft.key, answer) else { return Ok(None) };
        Ok(Some(IdempotencyRecord::seal(
            &self.keys,
            (draft.topic.tenant, &key.route, &key.key),
            key.body_hash,
            (rendered.status, stored_headers(rendered)?, &rendered.body),
        )?))
    }
}

async fn routes(tx: &mut SystemTx, drafts: &[Checked]) -> Result<HashMap<Topic, Option<Route>>, Failure> {
    let mut topics: Vec<&Topic> = drafts.iter().map(|(draft, _)| &draft.topic).collect();
    topics.sort_unstable();
    topics.dedup();
    let routes = list_routes(tx, &topics).await?;
    Ok(topics.into_iter().cloned().zip(routes).collect())
}

async fn published(
    tx: &mut SystemTx,
    drafts: &[Checked],
) -> Result<HashMap<(TenantId, EventId), PublishedRow>, Failure> {
    let ids: Vec<_> = drafts.iter().filter_map(|(draft, _)| Some((draft.topic.tenant, draft.id?))).collect();
    if ids.is_empty() {
        return Ok(HashMap::new());
    }
    let rows = list_published(tx, &ids).await?;
    Ok(rows.into_iter().map(|row| ((row.tenant, row.id), row)).collect())
}

/// Why an event must not go this way.
fn refusal(route: &Route, checked: SchemaVersion) -> Option<Answer> {
    if route.strict && !route.declared {
        let detail = "is not declared; declare it by POST /api/v1/event-types, or turn strict_event_types off";
        return Some(Answer::Refused(ApiError::invalid(vec![Fault::new("/type", "event_type_unknown", detail)])));
    }
    (route.schema() != checked).then_some(Answer::OtherSchema)
}

impl Writes {
    /// Adds an event and its deliveries.
    fn add(&mut self, draft: &Draft, route: &Route) -> Result<PublishedRow> {
        let Topic { tenant, event_type } = draft.topic.clone();
        let id = draft.id.unwrap_or_else(EventId::generate);
        for &webhook in &route.webhooks {
            let delivery =
                NewDelivery { tenant, id: DeliveryId::generate(), webhook, event: id, event_type: event_type.clone() };
            self.jobs.push(deliver(&delivery, &draft.cause)?);
            self.deliveries.push(delivery);
        }
        let published = PublishedRow {
            tenant,
            id,
            event_type: event_type.clone(),
            payload: draft.payload.get().to_owned(),
            created_at: route.now,
            request_id: draft.cause.request_id.clone(),
            deliveries: self.deliveries.iter().map(|delivery| (delivery.id, delivery.webhook)).collect(),
        };
        self.event = Some(NewEvent {
            tenant,
            id,
            event_type,
            payload: draft.payload.clone(),
            created_at: route.now,
            cause: draft.cause.clone(),
        });
        Ok(published)
    }
}
