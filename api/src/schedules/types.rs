//! Bodies of the routes of schedules.

use std::time::Duration;

use millwork_shared::schedules::queries::ScheduleRow;
use millwork_shared::schedules::{self, Rhythm};
use poem_openapi::{Enum, Object};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::http::types::Line;
use crate::http::{RawJson, Time};
use crate::jobs::types::{JobRequest, QueueName};

/// Next times shown of a schedule.
const UPCOMING: usize = 5;

/// A job that comes again.
#[derive(Debug, Object, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewSchedule {
    #[oai(validator(min_length = 1, max_length = 100))]
    pub name: Line,
    /// Five fields: minute (0-59), hour (0-23), day of month (1-31), month (1-12 or JAN-DEC), day of week (0-7 or
    /// SUN-SAT; 0 and 7 are Sunday). Each is `*`, a value, a range `1-5`, a step `*/15` or `10-40/10`, or a list of
    /// those, `0,30`. If neither day is `*`, either suffices. A day of month may also be `L`, the last, or `15W`, the
    /// weekday nearest to the 15th; a day of week also `MON#1`, the first Monday of the month, or `FRI#L`, the last
    /// Friday.
    #[oai(validator(max_length = 100))]
    pub cron: String,
    /// An IANA time zone, such as `Europe/Berlin`; `UTC` unless given.
    #[oai(validator(max_length = 64))]
    pub timezone: Option<String>,
    pub job: ScheduledJob,
    /// False unless given.
    pub paused: Option<bool>,
    /// `skip` unless given.
    pub misfire: Option<MisfireName>,
}

/// What changes of a schedule; what is left out stays.
#[derive(Debug, Object, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScheduleChange {
    #[oai(validator(min_length = 1, max_length = 100))]
    pub name: Option<Line>,
    #[oai(validator(max_length = 100))]
    pub cron: Option<String>,
    #[oai(validator(max_length = 64))]
    pub timezone: Option<String>,
    /// Replaces all of it.
    pub job: Option<ScheduledJob>,
    /// A schedule that is resumed goes on with its next time; what it would have run meanwhile is not made up for.
    pub paused: Option<bool>,
    pub misfire: Option<MisfireName>,
}

/// What a schedule submits: as a job is submitted, but for its time.
#[derive(Debug, Clone, Object, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScheduledJob {
    /// What to do: `echo`, `http.request`, `email.send`
    pub kind: String,
    /// What to do it with; every kind has its own form
    pub payload: RawJson,
    /// Where it waits; the kind's own queue by default
    pub queue: Option<QueueName>,
    /// 9 is first, 4 by default
    #[oai(validator(minimum(value = "0"), maximum(value = "9")))]
    pub priority: Option<u8>,
    /// Runs before it fails for good; the kind's own number by default
    #[oai(validator(minimum(value = "1"), maximum(value = "100")))]
    pub max_attempts: Option<i16>,
    /// Longest time one run may take; the kind's own by default
    #[oai(validator(minimum(value = "100"), maximum(value = "3600000")))]
    pub timeout_ms: Option<i32>,
    /// At most one live job of the tenant has this key: with it, a schedule leaves out a time at which the job before
    /// still lives
    #[oai(validator(min_length = 1, max_length = 255))]
    pub unique_key: Option<String>,
    /// Seconds for which the key is held even when the job ends earlier
    #[oai(validator(minimum(value = "1"), maximum(value = "31622400")))]
    pub unique_for_s: Option<u32>,
    /// Words to find it by
    #[oai(validator(max_items = 20))]
    pub tags: Option<Vec<String>>,
}

impl From<ScheduledJob> for JobRequest {
    fn from(job: ScheduledJob) -> Self {
        Self {
            kind: job.kind,
            payload: job.payload,
            queue: job.queue,
            priority: job.priority,
            run_at: None,
            delay_s: None,
            max_attempts: job.max_attempts,
            timeout_ms: job.timeout_ms,
            unique_key: job.unique_key,
            unique_for_s: job.unique_for_s,
            tags: job.tags,
            after: None,
            on_predecessor_failure: None,
            reference: None,
        }
    }
}

/// What becomes of times that passed while no scheduler ran, by more than a minute.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum, Serialize, Deserialize)]
#[oai(rename_all = "snake_case")]
#[serde(rename_all = "snake_case")]
pub enum MisfireName {
    /// They are left out
    Skip,
    /// One job makes up for all of them
    Once,
}

impl From<MisfireName> for schedules::Misfire {
    fn from(name: MisfireName) -> Self {
        match name {
            MisfireName::Skip => Self::Skip,
            MisfireName::Once => Self::Once,
        }
    }
}

impl From<schedules::Misfire> for MisfireName {
    fn from(misfire: schedules::Misfire) -> Self {
        match misfire {
            schedules::Misfire::Skip => Self::Skip,
            schedules::Misfire::Once => Self::Once,
        }
    }
}

/// A job that comes again by the clock of a place.
#[derive(Debug, Object, Serialize)]
pub struct Schedule {
    pub id: Uuid,
    pub name: String,
    pub cron: String,
    pub timezone: String,
    pub job: ScheduleJob,
    pub paused: bool,
    pub paused_at: Option<Time>,
    pub misfire: MisfireName,
    /// Null while it is paused.
    pub next_run_at: Option<Time>,
    /// The next five times; none while it is paused.
    pub next_runs: Vec<Time>,
    /// When it last made a job by the clock.
    pub last_run_at: Option<Time>,
    pub last_job_id: Option<Uuid>,
    pub created_at: Time,
    /// When it was last changed; its runs do not count.
    pub updated_at: Time,
    pub version: i32,
}

/// What a schedule submits, with the defaults of its kind.
#[derive(Debug, Object, Serialize)]
pub struct ScheduleJob {
    pub kind: String,
    pub payload: RawJson,
    pub queue: String,
    pub priority: i16,
    pub max_attempts: i16,
    pub timeout_ms: i32,
    pub unique_key: Option<String>,
    pub unique_for_s: Option<u64>,
    pub tags: Vec<String>,
}

impl From<ScheduleRow> for Schedule {
    fn from(row: ScheduleRow) -> Self {
        let upcoming = |rhythm: Rhythm| row.next_run_at.map(|first| rhythm.upcoming(first, UPCOMING));
        let next_runs = row.rhythm().ok().and_then(upcoming).unwrap_or_default();
        Self {
            id: row.id.0,
            misfire: row.misfire().into(),
            name: row.name,
            cron: row.cron,
            timezone: row.timezone,
            job: ScheduleJob {
                kind: row.kind,
                payload: RawJson::stored(row.payload),
                queue: row.queue,
                priority: row.priority,
                max_attempts: row.max_attempts,
                timeout_ms: row.timeout_ms,
                unique_key: row.unique_key,
                unique_for_s: row
                    .unique_hold_ms
                    .and_then(|ms| u64::try_from(ms).ok())
                    .map(|ms| Duration::from_millis(ms).as_secs()),
                tags: row.tags.unwrap_or_default(),
            },
            paused: row.paused_at.is_some(),
            paused_at: row.paused_at.map(Time),
            next_run_at: row.next_run_at.map(Time),
            next_runs: next_runs.into_iter().map(Time).collect(),
            last_run_at: row.last_run_at.map(Time),
            last_job_id: row.last_job_id.map(|id| id.0),
            created_at: Time(row.created_at),
            updated_at: Time(row.updated_at),
            version: row.version,
        }
    }
}
