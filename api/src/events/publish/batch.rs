//! One transaction: everything that a batch of publications reads and writes.

use std::collections::HashMap;
use std::sync::Arc;

use millwork_shared::Error;
use millwork_shared::events::queries::{
    NewDelivery, NewEvent, Published as PublishedRow, Route, Topic, insert_deliveries, insert_events, list_published,
    list_routes,
};
use millwork_shared::idempotency::IdempotencyRecord;
use millwork_shared::idempotency::queries::{Claimed, claim_all, store_all};
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

/// Deliveries of one transaction, beyond which the rest of its events waits for the next. The first always goes.
const DELIVERIES: usize = 5_000;

pub(super) struct Writer {
    pub db: SystemDb,
    pub dispatcher: Dispatcher,
    pub keys: Arc<KeyRing>,
    pub public_url: String,
}

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
    /// Another transaction stored one of our ids or keys since we looked; what it stored shows the next time.
    Raced,
    Failed(Error),
}

impl<E: Into<Error>> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::Failed(error.into())
    }
}

/// What the transaction will write.
#[derive(Default)]
struct Writes {
    events: Vec<NewEvent>,
    deliveries: Vec<NewDelivery>,
    jobs: Vec<NewJob>,
    records: Vec<IdempotencyRecord>,
}

impl Writer {
    /// Reads, decides, writes and commits. No id and no key may appear twice among `drafts`.
    pub async fn store(&self, drafts: &[(Arc<Draft>, SchemaVersion)]) -> Result<Vec<Answer>, Failure> {
        let mut tx = self.db.system().await?;
        let mut answers: Vec<Option<Answer>> = self.claim(&mut tx, drafts).await?;
        let open = |answers: &[Option<Answer>]| -> Vec<usize> {
            answers.iter().enumerate().filter(|(_, answer)| answer.is_none()).map(|(n, _)| n).collect()
        };
        let routes = routes(&mut tx, drafts, &open(&answers)).await?;
        let published = published(&mut tx, drafts, &open(&answers)).await?;

        let mut writes = Writes::default();
        for n in open(&answers) {
            let (draft, checked) = &drafts[n];
            let before = draft.id.and_then(|id| published.get(&(draft.topic.tenant, id)));
            let answer = match (before, routes.get(&draft.topic).and_then(Option::as_ref)) {
                (Some(before), _) => self.given(&mut writes, draft, before.clone())?,
                (None, None) => Answer::Refused(Error::NotFound("tenant").into()),
                (None, Some(route)) => match refusal(route, *checked) {
                    Some(refusal) => refusal,
                    None if is_full(&writes, route) => Answer::Later,
                    None => {
                        let event = add(&mut writes, draft, route)?;
                        self.given(&mut writes, draft, event)?
                    }
                },
            };
            answers[n] = Some(answer);
        }

        if insert_events(&mut tx, &writes.events).await? < writes.events.len() as u64 {
            return Err(Failure::Raced);
        }
        insert_deliveries(&mut tx, &writes.deliveries).await?;
        jobs::queries::insert(&mut tx, &writes.jobs).await?;
        if store_all(&mut tx, &writes.records).await? < writes.records.len() as u64 {
            return Err(Failure::Raced);
        }
        tx.commit().await?;
        self.dispatcher.offer(&writes.jobs);
        Ok(answers.into_iter().map(|answer| answer.unwrap_or(Answer::Later)).collect())
    }

    /// The answers that idempotency keys have already; none for what is still to be done.
    async fn claim(
        &self,
        tx: &mut SystemTx,
        drafts: &[(Arc<Draft>, SchemaVersion)],
    ) -> Result<Vec<Option<Answer>>, Failure> {
        let keyed: Vec<_> = drafts.iter().enumerate().filter_map(|(n, (d, _))| Some((n, d, d.key.as_ref()?))).collect();
        let names: Vec<_> =
            keyed.iter().map(|(_, d, key)| (d.topic.tenant, key.route.as_str(), key.key.as_str())).collect();
        let claimed = claim_all(tx, &names).await?;
        let mut answers: Vec<Option<Answer>> = drafts.iter().map(|_| None).collect();
        for ((n, _, key), claimed) in keyed.into_iter().zip(claimed) {
            answers[n] = match claimed {
                Claimed::Free => None,
                Claimed::Answered(record) => {
                    Some(replay(&record, key.body_hash, &self.keys).map_or_else(Answer::Refused, Answer::Given))
                }
                Claimed::InProgress => Some(Answer::Refused(ApiError::conflict(
                    "idempotency_in_progress",
                    "a request with this Idempotency-Key is still running; ask again in a moment",
                ))),
            };
        }
        Ok(answers)
    }

    /// Renders the answer, and keeps it under the idempotency key if there is one.
    fn given(&self, writes: &mut Writes, draft: &Draft, event: PublishedRow) -> Result<Answer, Failure> {
        let location = format!("{}/api/v1/events/{}", self.public_url, event.id);
        let rendered = match Accepted::at(&Published::from(event), location) {
            Ok(answer) => answer.into_rendered(),
            Err(error) => return Ok(Answer::Refused(error)),
        };
        if let Some(key) = &draft.key {
            let headers = match stored_headers(&rendered) {
                Ok(headers) => headers,
                Err(error) => return Ok(Answer::Refused(error)),
            };
            writes.records.push(IdempotencyRecord::seal(
                &self.keys,
                (draft.topic.tenant, &key.route, &key.key),
                key.body_hash,
                (rendered.status, headers, &rendered.body),
            )?);
        }
        Ok(Answer::Given(rendered))
    }
}

async fn routes(
    tx: &mut SystemTx,
    drafts: &[(Arc<Draft>, SchemaVersion)],
    open: &[usize],
) -> Result<HashMap<Topic, Option<Route>>, Failure> {
    let mut topics: Vec<&Topic> = open.iter().map(|&n| &drafts[n].0.topic).collect();
    topics.sort_unstable();
    topics.dedup();
    let routes = list_routes(tx, &topics).await?;
    Ok(topics.into_iter().cloned().zip(routes).collect())
}

async fn published(
    tx: &mut SystemTx,
    drafts: &[(Arc<Draft>, SchemaVersion)],
    open: &[usize],
) -> Result<HashMap<(TenantId, EventId), PublishedRow>, Failure> {
    let ids: Vec<_> = open.iter().filter_map(|&n| Some((drafts[n].0.topic.tenant, drafts[n].0.id?))).collect();
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

fn is_full(writes: &Writes, route: &Route) -> bool {
    !writes.events.is_empty() && writes.deliveries.len() + route.webhooks.len() > DELIVERIES
}

/// Adds an event and its deliveries to what will be written.
fn add(writes: &mut Writes, draft: &Draft, route: &Route) -> Result<PublishedRow, Error> {
    let Topic { tenant, event_type } = draft.topic.clone();
    let id = draft.id.unwrap_or_else(EventId::generate);
    let mut deliveries = Vec::with_capacity(route.webhooks.len());
    for &webhook in &route.webhooks {
        let delivery =
            NewDelivery { tenant, id: DeliveryId::generate(), webhook, event: id, event_type: event_type.clone() };
        deliveries.push((delivery.id, webhook));
        writes.jobs.push(deliver(&delivery, &draft.cause)?);
        writes.deliveries.push(delivery);
    }
    let published = PublishedRow {
        tenant,
        id,
        event_type: event_type.clone(),
        payload: draft.payload.get().to_owned(),
        created_at: route.now,
        request_id: draft.cause.request_id.clone(),
        deliveries,
    };
    writes.events.push(NewEvent {
        tenant,
        id,
        event_type,
        payload: draft.payload.clone(),
        created_at: route.now,
        cause: draft.cause.clone(),
    });
    Ok(published)
}
