//! Bodies of the job routes.

use chrono::SubsecRound;
use millwork_shared::jobs::chains::{OnFailure, Wait};
use millwork_shared::jobs::queries::{
    Attempt as AttemptRow, Followed, JobLog as JobLogRow, JobRow, LogLine as LogLineRow,
};
use millwork_shared::jobs::{self, NewJob, Queue, State};
use poem_openapi::{Enum, Object};
use serde::{Deserialize, Serialize};
use serde_json::value::to_raw_value;
use uuid::Uuid;

use crate::http::types::Line;
use crate::http::{ApiError, RawJson, Result, Time};

/// A job to be done.
#[derive(Debug, Object, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JobRequest {
    /// What to do: `echo`, `http.request`, `email.send`
    pub kind: String,
    /// What to do it with; every kind has its own form
    pub payload: RawJson,
    /// Where it waits; the kind's own queue by default
    pub queue: Option<QueueName>,
    /// 9 is first, 4 by default
    #[oai(validator(minimum(value = "0"), maximum(value = "9")))]
    pub priority: Option<u8>,
    /// Not before this moment, up to a year ahead; not together with `delay_s`
    pub run_at: Option<Time>,
    /// Not before so many seconds have passed, up to a year
    #[oai(validator(minimum(value = "0"), maximum(value = "31622400")))]
    pub delay_s: Option<u32>,
    /// Runs before it fails for good; the kind's own number by default
    #[oai(validator(minimum(value = "1"), maximum(value = "100")))]
    pub max_attempts: Option<i16>,
    /// Longest time one run may take; the kind's own by default
    #[oai(validator(minimum(value = "100"), maximum(value = "3600000")))]
    pub timeout_ms: Option<i32>,
    /// At most one live job of the tenant has this key
    #[oai(validator(min_length = 1, max_length = 255))]
    pub unique_key: Option<String>,
    /// Seconds for which the key is held even when the job ends earlier
    #[oai(validator(minimum(value = "1"), maximum(value = "31622400")))]
    pub unique_for_s: Option<u32>,
    /// Words to find it by
    #[oai(validator(max_items = 20))]
    pub tags: Option<Vec<String>>,
    /// Jobs that must have ended first, by id, or in a batch by the `ref` of an item before this one. Until then it is
    /// `scheduled`; `run_at` or `delay_s`, when given, must have come as well. Jobs that have ended already count
    #[oai(validator(max_items = 100))]
    pub after: Option<Vec<String>>,
    /// What becomes of it when one of those fails or is cancelled: `cancel` (the default) cancels it at once, with
    /// `predecessor_failed` as its `last_error`, and by their policies those after it; `run` runs it when all have ended
    pub on_predecessor_failure: Option<PolicyName>,
    /// In a batch, a name of your own by which later items can say `after`. It is not kept
    #[oai(rename = "ref", validator(min_length = 1, max_length = 64))]
    #[serde(rename = "ref")]
    pub reference: Option<String>,
}

/// What becomes of a job when one that it waits for fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum, Serialize, Deserialize)]
#[oai(rename_all = "snake_case")]
#[serde(rename_all = "snake_case")]
pub enum PolicyName {
    Cancel,
    Run,
}

impl From<PolicyName> for OnFailure {
    fn from(name: PolicyName) -> Self {
        match name {
            PolicyName::Cancel => Self::Cancel,
            PolicyName::Run => Self::Run,
        }
    }
}

/// Jobs of which all are stored, or none.
#[derive(Debug, Object, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BatchRequest {
    #[oai(validator(min_items = 1, max_items = 1000))]
    pub jobs: Vec<JobRequest>,
    /// Counts them together; see `GET /batches/{id}`
    pub batch: Option<BatchOptions>,
}

/// How jobs are counted together.
#[derive(Debug, Object, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BatchOptions {
    #[oai(validator(min_length = 1, max_length = 200))]
    pub name: Option<Line>,
    /// A job that runs once, when all have ended, however they did. In the strings of its payload, `{{batch.id}}`,
    /// `{{batch.total}}`, `{{batch.succeeded}}`, `{{batch.failed}}` and `{{batch.cancelled}}` stand for the figures of then.
    /// It has no `after`
    pub on_complete: Option<JobRequest>,
}

/// A class of work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum, Serialize, Deserialize)]
#[oai(rename_all = "snake_case")]
#[serde(rename_all = "snake_case")]
pub enum QueueName {
    Default,
    Email,
    Webhooks,
    Files,
    Exports,
    Maintenance,
}

impl From<QueueName> for Queue {
    fn from(name: QueueName) -> Self {
        match name {
            QueueName::Default => Self::Default,
            QueueName::Email => Self::Email,
            QueueName::Webhooks => Self::Webhooks,
            QueueName::Files => Self::Files,
            QueueName::Exports => Self::Exports,
            QueueName::Maintenance => Self::Maintenance,
        }
    }
}

impl From<Queue> for QueueName {
    fn from(queue: Queue) -> Self {
        match queue {
            Queue::Default => Self::Default,
            Queue::Email => Self::Email,
            Queue::Webhooks => Self::Webhooks,
            Queue::Files => Self::Files,
            Queue::Exports => Self::Exports,
            Queue::Maintenance => Self::Maintenance,
        }
    }
}

/// Where a job stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum, Deserialize)]
#[oai(rename_all = "snake_case")]
#[serde(rename_all = "snake_case")]
pub enum StateName {
    Scheduled,
    Queued,
    Running,
    Retrying,
    Succeeded,
    Failed,
    Cancelled,
}

impl From<StateName> for State {
    fn from(name: StateName) -> Self {
        match name {
            StateName::Scheduled => Self::Scheduled,
            StateName::Queued => Self::Queued,
            StateName::Running => Self::Running,
            StateName::Retrying => Self::Retrying,
            StateName::Succeeded => Self::Succeeded,
            StateName::Failed => Self::Failed,
            StateName::Cancelled => Self::Cancelled,
        }
    }
}

/// A job.
#[derive(Debug, Object, Serialize)]
pub struct Job {
    pub id: Uuid,
    pub kind: String,
    pub queue: String,
    /// `scheduled`, `queued`, `running`, `retrying`, `succeeded`, `failed` or `cancelled`
    pub state: String,
    pub priority: i16,
    pub payload: RawJson,
    pub result: Option<RawJson>,
    /// How far the handler last said it is: a number from 0 to 100, or what its kind has to say
    pub progress: Option<RawJson>,
    /// Runs so far, the current one included
    pub attempt: i16,
    pub max_attempts: i16,
    /// When it is, or was, due
    pub run_at: Time,
    pub created_at: Time,
    pub started_at: Option<Time>,
    pub finished_at: Option<Time>,
    pub last_error: Option<RawJson>,
    pub unique_key: Option<String>,
    pub schedule_id: Option<Uuid>,
    /// The person or the API key that submitted it
    pub submitted_by: Option<Uuid>,
    /// The request that asked for it
    pub request_id: Option<String>,
    pub tags: Vec<String>,
    /// The jobs that must have ended, or had to, before it runs
    pub after: Vec<Uuid>,
    /// `cancel` or `run`; null when it waits for none
    pub on_predecessor_failure: Option<String>,
    /// The batch that it is counted in
    pub batch_id: Option<Uuid>,
}

impl From<JobRow> for Job {
    fn from(row: JobRow) -> Self {
        Self {
            id: row.id.0,
            state: row.state().as_str().to_owned(),
            created_at: Time(row.id.created_at()),
            kind: row.kind,
            queue: row.queue,
            priority: row.priority,
            payload: RawJson::stored(row.payload),
            result: row.result.map(RawJson::stored),
            progress: row.progress.map(RawJson::stored),
            attempt: row.attempt,
            max_attempts: row.max_attempts,
            run_at: Time(row.run_at),
            started_at: row.started_at.map(Time),
            finished_at: row.finished_at.map(Time),
            last_error: row.error.map(RawJson::stored),
            unique_key: row.unique_key,
            schedule_id: row.schedule_id.map(|id| id.0),
            submitted_by: row.submitted_by.map(|id| id.0),
            request_id: row.request_id,
            tags: row.tags.unwrap_or_default(),
            after: row.after.unwrap_or_default().into_iter().map(|id| id.0).collect(),
            on_predecessor_failure: row.on_predecessor_failure,
            batch_id: row.batch_id.map(|id| id.0),
        }
    }
}

impl From<&NewJob> for Job {
    /// The job as it will be stored.
    fn from(job: &NewJob) -> Self {
        let created_at = job.created_at().trunc_subsecs(3);
        let run_at = match job.due {
            jobs::Due::Now => created_at,
            jobs::Due::In(delay) => created_at + delay,
            jobs::Due::At(at) => at,
        };
        let state = if run_at > created_at { State::Scheduled } else { State::Queued };
        Self {
            id: job.id.0,
            kind: job.kind.clone(),
            queue: job.queue.as_str().to_owned(),
            state: state.as_str().to_owned(),
            priority: job.priority.get().into(),
            payload: RawJson(job.payload.clone()),
            result: None,
            progress: None,
            attempt: 0,
            max_attempts: job.max_attempts,
            run_at: Time(run_at),
            created_at: Time(created_at),
            started_at: None,
            finished_at: None,
            last_error: None,
            unique_key: job.unique.as_ref().map(|unique| unique.key.clone()),
            schedule_id: job.schedule.map(|id| id.0),
            submitted_by: job.submitted_by.map(|id| id.0),
            request_id: job.request_id.clone(),
            tags: job.tags.clone(),
            after: Vec::new(),
            on_predecessor_failure: None,
            batch_id: None,
        }
    }
}

impl Job {
    /// The job, which is to run after others.
    pub fn after(mut self, wait: &Wait, followed: &Followed) -> Result<Self> {
        self.after = wait.after.iter().map(|id| id.0).collect();
        self.on_predecessor_failure = Some(wait.on_failure.as_str().to_owned());
        if followed.waiting.contains(&wait.job) {
            self.state = State::Scheduled.as_str().to_owned();
        } else if let Some(error) = followed.cancelled.get(&wait.job) {
            self.state = State::Cancelled.as_str().to_owned();
            self.finished_at = Some(self.created_at);
            self.last_error = Some(RawJson(to_raw_value(error).map_err(ApiError::internal)?));
        }
        Ok(self)
    }
}

/// One run of a job.
#[derive(Debug, Object, Serialize)]
pub struct Attempt {
    pub attempt: i16,
    /// `running`, how the job ended, or why this attempt was not its last: `retry`, `lost`
    pub ended: String,
    pub worker_id: Option<Uuid>,
    pub started_at: Option<Time>,
    pub finished_at: Option<Time>,
    pub error: Option<RawJson>,
    /// What the handler met, such as a remote party's answer
    pub detail: Option<RawJson>,
}

impl From<AttemptRow> for Attempt {
    fn from(row: AttemptRow) -> Self {
        Self {
            attempt: row.attempt,
            ended: row.ended,
            worker_id: row.worker_id.map(|id| id.0),
            started_at: row.started_at.map(Time),
            finished_at: row.finished_at.map(Time),
            error: row.error.map(RawJson::stored),
            detail: row.detail.map(RawJson::stored),
        }
    }
}

/// What a job's handlers have written while they ran.
#[derive(Debug, Object, Serialize)]
pub struct JobLog {
    /// Oldest first, the newest hundred
    pub lines: Vec<LogLine>,
    /// Lines that were before them
    pub dropped: i64,
}

/// One line of a job's log.
#[derive(Debug, Object, Serialize)]
pub struct LogLine {
    pub at: Time,
    pub attempt: i16,
    /// Up to 500 bytes
    pub message: String,
}

impl From<JobLogRow> for JobLog {
    fn from(row: JobLogRow) -> Self {
        let line = |line: LogLineRow| LogLine { at: Time(line.at), attempt: line.attempt, message: line.message };
        Self { lines: row.lines.into_iter().map(line).collect(), dropped: row.dropped }
    }
}

/// What became of a wish to cancel.
#[derive(Debug, Object, Serialize)]
pub struct Cancellation {
    pub id: Uuid,
    /// `cancelled`, or `running` while its worker is being told
    pub state: String,
}
