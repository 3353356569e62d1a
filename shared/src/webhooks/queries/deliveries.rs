//! Looking at deliveries. Where one stands is where its job stands.

use chrono::{DateTime, Utc};
use sqlx::{Postgres, QueryBuilder};

use crate::infra::db::TenantTx;
use crate::infra::ids::{DeliveryId, EventId, WebhookId};
use crate::jobs::State;
use crate::{Error, Result};

#[derive(Debug, Clone, sqlx::FromRow)]
pub struct DeliveryRow {
    pub id: DeliveryId,
    pub webhook_id: WebhookId,
    pub event_id: EventId,
    pub event_type: String,
    pub attempt: i16,
    /// Null once the job has ended.
    running: Option<bool>,
    due: bool,
    ended: Option<String>,
    /// When it is tried next; null unless it waits.
    pub next_attempt_at: Option<DateTime<Utc>>,
    pub finished_at: Option<DateTime<Utc>>,
    /// JSON `{code, message}` of the last failed attempt.
    pub error: Option<String>,
}

impl DeliveryRow {
    pub fn state(&self) -> State {
        State::of(self.ended.as_deref(), self.running, self.due, self.attempt)
    }
}

const SELECT: &str = r#"
    select d.id, d.webhook_id, d.event_id, d.event_type, coalesce(l.attempt, o.attempt, 0::smallint) as attempt,
           l.running, coalesce(l.run_at <= ledger_now(), true) as due, o.state::text as ended,
           case when not l.running then l.run_at end as next_attempt_at, o.finished_at,
           coalesce(o.error, (select a.error from job_attempts a
                               where a.tenant_id = d.tenant_id and a.id = d.id and l.attempt > 0
                               order by a.attempt desc limit 1)) as error
      from webhook_deliveries d
      left join job_live l on l.tenant_id = d.tenant_id and l.id = d.id
      left join job_outcomes o on o.tenant_id = d.tenant_id and o.id = d.id
     where d.tenant_id = "#;

/// The delivery of that id.
///
/// # Errors
/// [`Error::NotFound`]
pub async fn get_delivery(tx: &mut TenantTx, id: DeliveryId) -> Result<DeliveryRow> {
    let mut query = QueryBuilder::<Postgres>::new(SELECT);
    query.push_bind(tx.tenant()).push(" and d.id = ").push_bind(id);
    query.build_query_as().fetch_optional(&mut **tx).await?.ok_or(Error::NotFound("delivery"))
}

/// What to list.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    pub webhook: Option<WebhookId>,
    pub event: Option<EventId>,
    pub state: Option<State>,
    /// The last delivery of the page before.
    pub before: Option<DeliveryId>,
}

/// A page of deliveries, newest first.
pub async fn list_deliveries(tx: &mut TenantTx, filter: &Filter, limit: i64) -> Result<Vec<DeliveryRow>> {
    let mut query = QueryBuilder::<Postgres>::new(SELECT);
    query.push_bind(tx.tenant());
    if let Some(webhook) = filter.webhook {
        query.push(" and d.webhook_id = ").push_bind(webhook);
    }
    if let Some(event) = filter.event {
        query.push(" and d.event_id = ").push_bind(event);
    }
    match filter.state {
        Some(State::Scheduled) => query.push(" and not l.running and l.run_at > ledger_now() and l.attempt = 0"),
        Some(State::Retrying) => query.push(" and not l.running and l.run_at > ledger_now() and l.attempt > 0"),
        Some(State::Queued) => query.push(" and not l.running and l.run_at <= ledger_now()"),
        Some(State::Running) => query.push(" and l.running"),
        Some(end) => query.push(" and o.state = ").push_bind(end.as_str()).push("::job_end"),
        None => &mut query,
    };
    if let Some(before) = filter.before {
        query.push(" and d.id < ").push_bind(before);
    }
    query.push(" order by d.id desc limit ").push_bind(limit);
    Ok(query.build_query_as().fetch_all(&mut **tx).await?)
}
