//! Jobs: what they are, what may become of them, and the rules between.
//!
//! A job exists when its row is committed (`queries`); Redis carries its id to an idle worker (`dispatch`).

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::Category;
use crate::infra::ids::{ActorId, JobId, ScheduleId, TenantId};

/// Replaying and cancelling many.
pub mod bulk;
/// Things that a job carries out.
pub mod carrier;
/// Jobs that wait for others.
pub mod chains;
/// How many jobs each queue holds, for a scrape.
pub mod depths;
/// Ids to and from Redis.
pub mod dispatch;
/// Telling ends to those who wait for them.
pub mod followers;
/// What a client may submit, and how a payload is checked.
pub mod kinds;
/// The ledger: every statement on the tables of jobs.
pub mod queries;
/// When to try again.
pub mod retry;

/// A class of work, with its own concurrency.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Queue {
    Default,
    Email,
    Webhooks,
    Files,
    Exports,
    Maintenance,
}

impl Queue {
    pub const ALL: [Self; 6] =
        [Self::Default, Self::Email, Self::Webhooks, Self::Files, Self::Exports, Self::Maintenance];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Default => "default",
            Self::Email => "email",
            Self::Webhooks => "webhooks",
            Self::Files => "files",
            Self::Exports => "exports",
            Self::Maintenance => "maintenance",
        }
    }
}

impl fmt::Display for Queue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Queue {
    type Err = String;

    fn from_str(s: &str) -> Result<Self, String> {
        Self::ALL
            .into_iter()
            .find(|q| q.as_str() == s)
            .ok_or_else(|| format!("`{s}` is not a queue; the queues are {}", Self::ALL.map(Self::as_str).join(", ")))
    }
}

/// 0 to 9, nine first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Priority(u8);

impl Priority {
    pub const DEFAULT: Self = Self(4);
    pub const MAX: Self = Self(9);

    /// None above nine.
    pub fn new(value: u8) -> Option<Self> {
        (value <= 9).then_some(Self(value))
    }

    pub fn get(self) -> u8 {
        self.0
    }
}

/// Where a job stands, as clients see it.
///
/// The first four live, the last three are ends. Of a live job that does not run, the state follows from its due time
/// and the attempts it has behind it; nothing has to be written when a job becomes due.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    Scheduled,
    Queued,
    Running,
    Retrying,
    Succeeded,
    Failed,
    Cancelled,
}

impl State {
    pub const ALL: [Self; 7] =
        [Self::Scheduled, Self::Queued, Self::Running, Self::Retrying, Self::Succeeded, Self::Failed, Self::Cancelled];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Scheduled => "scheduled",
            Self::Queued => "queued",
            Self::Running => "running",
            Self::Retrying => "retrying",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }

    /// From the ledger's columns: how it ended, whether it runs, whether its time has come, the attempts behind it.
    pub fn of(ended: Option<&str>, running: Option<bool>, due: bool, attempt: i16) -> Self {
        match (ended, running) {
            (Some("succeeded"), _) => Self::Succeeded,
            (Some("cancelled"), _) => Self::Cancelled,
            (Some(_), _) | (None, None) => Self::Failed,
            (None, Some(true)) => Self::Running,
            (None, Some(false)) if due => Self::Queued,
            (None, Some(false)) if attempt > 0 => Self::Retrying,
            (None, Some(false)) => Self::Scheduled,
        }
    }

    pub const fn is_end(self) -> bool {
        matches!(self, Self::Succeeded | Self::Failed | Self::Cancelled)
    }
}

impl FromStr for State {
    type Err = String;

    fn from_str(s: &str) -> Result<Self, String> {
        Self::ALL
            .into_iter()
            .find(|state| state.as_str() == s)
            .ok_or_else(|| format!("`{s}` is not a state; the states are {}", Self::ALL.map(Self::as_str).join(", ")))
    }
}

/// What a handler's payload is: how it is named in the ledger and treated by default.
pub trait Job: Serialize + for<'de> Deserialize<'de> {
    /// Lives in the ledger: to rename it, keep the old name as an alias in the worker's registry.
    const KIND: &'static str;
    const QUEUE: Queue;
    /// Runs before the job fails for good.
    const MAX_ATTEMPTS: i16 = 25;
    /// Longest time one run may take.
    const TIMEOUT: Duration = Duration::from_secs(60);
}

/// A job to be stored.
#[derive(Debug, Clone)]
pub struct NewJob {
    pub id: JobId,
    pub tenant: TenantId,
    pub kind: String,
    pub queue: Queue,
    pub priority: Priority,
    /// JSON text.
    pub payload: Box<RawValue>,
    pub max_attempts: i16,
    pub timeout_ms: i32,
    pub due: Due,
    pub unique: Option<Unique>,
    pub tags: Vec<String>,
    /// The schedule that made it.
    pub schedule: Option<ScheduleId>,
    /// Who asked for it. They may cancel it, and run it again.
    pub submitted_by: Option<ActorId>,
    pub request_id: Option<String>,
    pub traceparent: Option<String>,
}

impl NewJob {
    /// A job of a known kind with that kind's defaults, due now.
    ///
    /// # Errors
    /// Fails when the payload does not serialise.
    pub fn of<J: Job>(tenant: TenantId, payload: &J) -> crate::Result<Self> {
        Ok(Self {
            id: JobId::generate(),
            tenant,
            kind: J::KIND.to_owned(),
            queue: J::QUEUE,
            priority: Priority::DEFAULT,
            payload: serde_json::value::to_raw_value(payload)?,
            max_attempts: J::MAX_ATTEMPTS,
            timeout_ms: i32::try_from(J::TIMEOUT.as_millis()).unwrap_or(i32::MAX),
            due: Due::Now,
            unique: None,
            tags: Vec::new(),
            schedule: None,
            submitted_by: None,
            request_id: None,
            traceparent: None,
        })
    }

    /// When the job was made: the time in its id, to the millisecond.
    pub fn created_at(&self) -> DateTime<Utc> {
        self.id.created_at()
    }

    /// Says which request asked for the job.
    pub fn caused_by(mut self, cause: &Cause) -> Self {
        self.request_id.clone_from(&cause.request_id);
        self.traceparent.clone_from(&cause.traceparent);
        self
    }
}

/// The request that something follows from, carried through the queue.
#[derive(Debug, Clone, Default)]
pub struct Cause {
    pub request_id: Option<String>,
    /// W3C Trace Context.
    pub traceparent: Option<String>,
}

/// When a job should run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Due {
    Now,
    /// By the database's clock.
    In(Duration),
    At(DateTime<Utc>),
}

/// At most one live job of a tenant has a given key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unique {
    pub key: String,
    /// How long the key is held even when the job ends earlier.
    pub hold: Option<Duration>,
}

/// Why an attempt failed, for people and programs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobError {
    /// Stable, snake_case.
    pub code: String,
    pub message: String,
}

impl JobError {
    /// The attempt's worker died or stopped renewing its lease.
    pub const WORKER_LOST: &str = "worker_lost";
    /// A job that this one waited for failed or was cancelled.
    pub const PREDECESSOR_FAILED: &str = "predecessor_failed";

    pub fn new(code: &str, message: impl Into<String>) -> Self {
        let mut message: String = message.into();
        if message.len() > 2_000 {
            let cut = (0..=2_000).rev().find(|&i| message.is_char_boundary(i)).unwrap_or(0);
            message.truncate(cut);
        }
        message.retain(|c| c != '\0'); // PostgreSQL's text cannot hold it
        Self { code: code.to_owned(), message }
    }
}

impl JobError {
    /// As [`Error::category`](crate::Error::category), from what handlers and the runtime say. A code that is not known is
    /// of the job: its payload, or the state of what it is about.
    pub fn category(&self) -> Category {
        match self.code.as_str() {
            "internal" | "panic" | "kind_unknown" | "outcome_not_storable" | "result_too_large" | Self::WORKER_LOST => {
                Category::Server
            }
            "unavailable" | "http_status" | "dns" | "connect" | "tls" | "timeout" | "reset" | "protocol"
            | "circuit_open" => Category::Dependency,
            "mail_address" | "mail_template" => Category::Client,
            code if code.starts_with("mail_") || code.starts_with("smtp_") => Category::Dependency,
            _ => Category::Client,
        }
    }
}

impl fmt::Display for JobError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code, self.message)
    }
}

/// Largest result of a job, as JSON text: as large as a payload may be, which `echo` returns.
pub const RESULT_MAX_BYTES: usize = 1024 * 1024;

/// What a handler says of its attempt. The runtime stores it; nothing waits in a worker slot.
#[derive(Debug)]
pub enum Outcome {
    /// Succeeded, with a result that the job shows; one above [`RESULT_MAX_BYTES`] fails the job.
    Done(Option<Box<RawValue>>),
    /// Failed for now: again after the backoff, or after `after` where the remote party or the kind's schedule says so.
    Retry { error: JobError, after: Option<Duration> },
    /// Failed for good.
    Fail(JobError),
    /// Stopped because its cancellation was asked for.
    Cancelled,
    /// Not now, and no fault of the job: again after the time ([`retry::LONGEST`] at most), at no cost of an attempt.
    Snooze(Duration),
}
