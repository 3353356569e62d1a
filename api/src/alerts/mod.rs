//! What a tenant wants to be told of: jobs that fail, queues that fall behind.

mod types;

use millwork_shared::alerts::queries::{self, AlertRow, Change};
use millwork_shared::infra::ids::AlertId;
use millwork_shared::jobs::Queue;
use poem::web::Data;
use poem_openapi::OpenApi;
use poem_openapi::param::Path;
use poem_openapi::types::MaybeUndefined;
use uuid::Uuid;

use self::types::{Alert, AlertChange, NewAlert, Notify, Threshold, Wanted};
use crate::App;
use crate::http::types::MailAddress;
use crate::http::{
    Answer, ApiError, Begun, Body, Created, Idempotency, IfMatch, List, NoContent, Page, Permitted, Result, to,
};
use crate::routes::Tag;

pub struct AlertsApi;

#[OpenApi(tag = "Tag::Jobs")]
impl AlertsApi {
    /// Be told of failures
    ///
    /// `job.failed` tells of jobs that failed for good from now on; `queue.backlogged` tells once when a queue falls
    /// behind, and again when it has caught up and falls behind once more. Mails and deliveries of alerts raise none.
    #[oai(path = "/alerts", method = "post", operation_id = "alerts.create")]
    async fn create(
        &self,
        caller: Permitted<to::AlertsWrite>,
        app: Data<&App>,
        key: Idempotency,
        body: Body<NewAlert>,
    ) -> Result<Created<Alert>> {
        let hash = body.hash();
        let NewAlert { on, kind, queue, threshold, notify, enabled } = body.into_inner();
        let wanted = Wanted { cause: on.into(), kind, queue, threshold, notify, enabled: enabled.unwrap_or(true) };
        wanted.check()?;
        let mut tx = match key.begin(&app, &caller, hash).await? {
            Begun::Replay(answer) => return Ok(answer.into()),
            Begun::Work(tx) => tx,
        };
        let (id, cause) = (AlertId::generate(), wanted.cause);
        let Change { kind, queue, depth, age_s, email, event, enabled } = wanted.into();
        let new = queries::NewAlert { id, cause, kind, queue, depth, age_s, email, event, enabled };
        let row = queries::insert(&mut tx, &new).await?;
        tx.finish(Created::at(&Alert::from(row), app.url(&format!("/api/v1/alerts/{id}")))?).await
    }

    /// List alerts
    #[oai(path = "/alerts", method = "get", operation_id = "alerts.list")]
    async fn list(&self, caller: Permitted<to::AlertsRead>, app: Data<&App>, page: Page) -> Result<List<Alert>> {
        let mut tx = app.db.tenant(caller.tenant).await?;
        let rows = queries::list(&mut tx, page.before().map(AlertId), page.fetch()).await?;
        tx.commit().await?;
        List::new(&page, rows.into_iter().map(Alert::from).collect(), |alert| alert.id)
    }

    /// Get an alert
    #[oai(path = "/alerts/:id", method = "get", operation_id = "alerts.get")]
    async fn get(&self, caller: Permitted<to::AlertsRead>, app: Data<&App>, id: Path<Uuid>) -> Result<Answer<Alert>> {
        let mut tx = app.db.tenant(caller.tenant).await?;
        let row = queries::get(&mut tx, AlertId(id.0)).await?;
        tx.commit().await?;
        Answer::new(&Alert::from(row))
    }

    /// Change an alert
    #[oai(path = "/alerts/:id", method = "patch", operation_id = "alerts.update")]
    async fn update(
        &self,
        caller: Permitted<to::AlertsWrite>,
        app: Data<&App>,
        id: Path<Uuid>,
        if_match: IfMatch,
        body: Body<AlertChange>,
    ) -> Result<Answer<Alert>> {
        let (id, change) = (AlertId(id.0), body.into_inner());
        let mut tx = app.db.tenant(caller.tenant).await?;
        let row = queries::lock(&mut tx, id).await?;
        if_match.check(row.version)?;
        let mut wanted = Wanted::of(row)?;
        set(&mut wanted.kind, change.kind);
        set(&mut wanted.queue, change.queue);
        wanted.threshold = change.threshold.or(wanted.threshold);
        wanted.notify = change.notify.unwrap_or(wanted.notify);
        wanted.enabled = change.enabled.unwrap_or(wanted.enabled);
        wanted.check()?;
        let row = queries::update(&mut tx, id, &wanted.into()).await?;
        tx.commit().await?;
        Answer::new(&Alert::from(row))
    }

    /// Delete an alert
    #[oai(path = "/alerts/:id", method = "delete", operation_id = "alerts.delete")]
    async fn delete(&self, caller: Permitted<to::AlertsWrite>, app: Data<&App>, id: Path<Uuid>) -> Result<NoContent> {
        let mut tx = app.db.tenant(caller.tenant).await?;
        queries::delete(&mut tx, AlertId(id.0)).await?;
        tx.commit().await?;
        Ok(NoContent::done())
    }
}

fn set<T>(field: &mut Option<T>, change: MaybeUndefined<T>) {
    match change {
        MaybeUndefined::Undefined => {}
        MaybeUndefined::Null => *field = None,
        MaybeUndefined::Value(value) => *field = Some(value),
    }
}

impl Wanted {
    /// What is stored.
    fn of(row: AlertRow) -> Result<Self> {
        let stored = |fault: String| ApiError::internal(anyhow::anyhow!(fault));
        let queue = row.queue.map(|queue| queue.parse::<Queue>()).transpose().map_err(stored)?;
        let threshold = Threshold { depth: row.depth, age_s: row.age_s };
        Ok(Self {
            cause: row.cause.parse().map_err(stored)?,
            kind: row.kind,
            queue: queue.map(Into::into),
            threshold: (row.depth.is_some() || row.age_s.is_some()).then_some(threshold),
            notify: Notify { email: row.email.map(MailAddress), event: Some(row.event) },
            enabled: row.disabled_at.is_none(),
        })
    }
}

impl From<Wanted> for Change {
    fn from(wanted: Wanted) -> Self {
        Self {
            kind: wanted.kind,
            queue: wanted.queue.map(Into::into),
            depth: wanted.threshold.and_then(|threshold| threshold.depth),
            age_s: wanted.threshold.and_then(|threshold| threshold.age_s),
            email: wanted.notify.email.map(|email| email.0),
            event: wanted.notify.event.unwrap_or(false),
            enabled: wanted.enabled,
        }
    }
}
