//! Jobs that come again by the clock of a place.

mod check;
/// Bodies.
pub mod types;

use millwork_shared::infra::ids::ScheduleId;
use millwork_shared::jobs::queries as jobs;
use millwork_shared::schedules::queries::{self, Change, ScheduleRow};
use millwork_shared::schedules::{Misfire, Rhythm};
use poem::web::Data;
use poem_openapi::OpenApi;
use poem_openapi::param::Path;
use uuid::Uuid;

use self::types::{NewSchedule, Schedule, ScheduleChange};
use crate::App;
use crate::http::idempotency::no_body;
use crate::http::{
    Accepted, Answer, ApiError, Begun, Created, Idempotency, IfMatch, List, NoContent, Page, Permitted, RawBody,
    RequestInfo, Result, body, to,
};
use crate::jobs::types::Job;
use crate::jobs::{not_unique, submitter};
use crate::routes::Tag;

pub struct SchedulesApi;

#[OpenApi(tag = "Tag::Jobs")]
impl SchedulesApi {
    /// Create a schedule
    ///
    /// It submits its job whenever the clock of its time zone shows what `cron` says. On days when clocks change, an
    /// expression of one minute and one hour comes once: at the first moment after the gap if that day does not have
    /// the time, at the first of the two if it has it twice. Any other expression follows what the clock shows: nothing
    /// comes in the gap, and what the clock shows twice comes twice. A tenant has at most 1,000 schedules.
    #[oai(path = "/schedules", method = "post", operation_id = "schedules.create")]
    async fn create(
        &self,
        caller: Permitted<to::SchedulesWrite>,
        app: Data<&App>,
        info: RequestInfo,
        key: Idempotency,
        body: RawBody<NewSchedule>,
    ) -> Result<Created<Schedule>> {
        let raw = body.into_bytes();
        let (new, job) = check::new(&raw, &submitter(&caller, &app, &info.cause()))?;
        let timezone = new.timezone.as_deref().unwrap_or(check::ZONE);
        let mut tx = match key.begin(&app, &caller, body::hash(&raw)).await? {
            Begun::Replay(answer) => return Ok(answer.into()),
            Begun::Work(tx) => tx,
        };
        let now = queries::now(&mut tx).await?;
        let rhythm = Rhythm::parse(&new.cron, timezone).ok().filter(|_| new.paused != Some(true));
        let new = queries::NewSchedule {
            name: &new.name.0,
            cron: &new.cron,
            timezone,
            misfire: new.misfire.map_or(Misfire::Skip, Misfire::from),
            job: &job,
            next_run_at: rhythm.and_then(|rhythm| rhythm.next_after(now)),
        };
        let row = queries::insert(&mut tx, &new).await?;
        let location = app.url(&format!("/api/v1/schedules/{}", row.id));
        tx.finish(Created::at(&Schedule::from(row), location)?).await
    }

    /// List schedules, newest first
    #[oai(path = "/schedules", method = "get", operation_id = "schedules.list")]
    async fn list(&self, caller: Permitted<to::SchedulesRead>, app: Data<&App>, page: Page) -> Result<List<Schedule>> {
        let mut tx = app.db.tenant(caller.tenant).await?;
        let rows = queries::list(&mut tx, page.before().map(ScheduleId), page.fetch()).await?;
        tx.commit().await?;
        List::new(&page, rows.into_iter().map(Schedule::from).collect(), |schedule| schedule.id)
    }

    /// Get a schedule
    #[oai(path = "/schedules/:id", method = "get", operation_id = "schedules.get")]
    async fn get(
        &self,
        caller: Permitted<to::SchedulesRead>,
        app: Data<&App>,
        id: Path<Uuid>,
    ) -> Result<Answer<Schedule>> {
        let mut tx = app.db.tenant(caller.tenant).await?;
        let row = queries::get(&mut tx, ScheduleId(id.0)).await?;
        tx.commit().await?;
        Answer::new(&row.into())
    }

    /// Change a schedule
    ///
    /// Jobs that it made already stay as they are.
    #[oai(path = "/schedules/:id", method = "patch", operation_id = "schedules.update")]
    async fn update(
        &self,
        caller: Permitted<to::SchedulesWrite>,
        app: Data<&App>,
        info: RequestInfo,
        id: Path<Uuid>,
        if_match: IfMatch,
        body: RawBody<ScheduleChange>,
    ) -> Result<Answer<Schedule>> {
        let (asked, job) = check::change(&body.into_bytes(), &submitter(&caller, &app, &info.cause()))?;
        let mut tx = app.db.tenant(caller.tenant).await?;
        let row = queries::lock(&mut tx, ScheduleId(id.0)).await?;
        if_match.check(row.version)?;
        let now = queries::now(&mut tx).await?;
        let next_run_at = changed_next(&row, &asked)?.map(|rhythm| rhythm.and_then(|rhythm| rhythm.next_after(now)));
        let change = Change {
            name: asked.name.as_ref().map(|name| name.0.as_str()),
            cron: asked.cron.as_deref(),
            timezone: asked.timezone.as_deref(),
            misfire: asked.misfire.map(Misfire::from),
            job: job.as_ref(),
            paused: asked.paused,
            next_run_at,
        };
        let row = queries::update(&mut tx, row.id, &change).await?;
        tx.commit().await?;
        Answer::new(&row.into())
    }

    /// Delete a schedule
    ///
    /// Jobs that it made stay and run.
    #[oai(path = "/schedules/:id", method = "delete", operation_id = "schedules.delete")]
    async fn delete(
        &self,
        caller: Permitted<to::SchedulesWrite>,
        app: Data<&App>,
        id: Path<Uuid>,
    ) -> Result<NoContent> {
        let mut tx = app.db.tenant(caller.tenant).await?;
        queries::delete(&mut tx, ScheduleId(id.0)).await?;
        tx.commit().await?;
        Ok(NoContent::done())
    }

    /// Run a schedule's job now
    ///
    /// Submits it once more, whether or not the schedule is paused; when it comes next does not change.
    #[oai(path = "/schedules/:id/run", method = "post", operation_id = "schedules.run")]
    async fn run(
        &self,
        caller: Permitted<to::SchedulesWrite>,
        app: Data<&App>,
        info: RequestInfo,
        id: Path<Uuid>,
        key: Idempotency,
    ) -> Result<Accepted<Job>> {
        let mut tx = match key.begin(&app, &caller, no_body()).await? {
            Begun::Replay(answer) => return Ok(answer.into()),
            Begun::Work(tx) => tx,
        };
        let mut job = queries::get(&mut tx, ScheduleId(id.0)).await?.job()?.caused_by(&info.cause());
        job.submitted_by = Some(caller.actor());
        if let Some((_, holder)) = jobs::enqueue_free(&mut tx, std::slice::from_ref(&job)).await? {
            return Err(not_unique(None, holder));
        }
        let location = app.url(&format!("/api/v1/jobs/{}", job.id));
        let answer = tx.finish(Accepted::at(&Job::from(&job), location)?).await?;
        app.dispatcher.offer(std::slice::from_ref(&job));
        Ok(answer)
    }
}

/// By what `row` comes next after a change: None if as before, `Some(None)` if not at all.
fn changed_next(row: &ScheduleRow, change: &ScheduleChange) -> Result<Option<Option<Rhythm>>> {
    let (was_paused, is_paused) = (row.paused_at.is_some(), change.paused.unwrap_or(row.paused_at.is_some()));
    if is_paused {
        return Ok(Some(None));
    }
    if !was_paused && change.cron.is_none() && change.timezone.is_none() {
        return Ok(None);
    }
    let cron = change.cron.as_deref().unwrap_or(&row.cron);
    let timezone = change.timezone.as_deref().unwrap_or(&row.timezone);
    let rhythm = Rhythm::parse(cron, timezone);
    let unreadable = |faults| ApiError::internal(anyhow::anyhow!("schedule {} has no rhythm: {faults:?}", row.id));
    Ok(Some(Some(rhythm.map_err(unreadable)?)))
}
