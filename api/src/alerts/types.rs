//! Bodies of the routes of alerts.

use millwork_shared::alerts::queries::AlertRow;
use millwork_shared::alerts::{Cause, DEEPEST, OLDEST_S};
use poem_openapi::types::MaybeUndefined;
use poem_openapi::{Enum, Object};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::http::types::MailAddress;
use crate::http::{ApiError, Fault, Result, Time};
use crate::jobs::QueueName;

/// What an alert is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum, Serialize, Deserialize)]
pub enum CauseName {
    #[oai(rename = "job.failed")]
    #[serde(rename = "job.failed")]
    JobFailed,
    #[oai(rename = "queue.backlogged")]
    #[serde(rename = "queue.backlogged")]
    QueueBacklogged,
}

impl From<CauseName> for Cause {
    fn from(name: CauseName) -> Self {
        match name {
            CauseName::JobFailed => Self::JobFailed,
            CauseName::QueueBacklogged => Self::QueueBacklogged,
        }
    }
}

/// From where a queue is behind: at either, when both are given. It has caught up below half of both.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Object, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Threshold {
    /// Jobs that are due and do not run yet
    #[oai(validator(minimum(value = "1"), maximum(value = "100000")))]
    pub depth: Option<i32>,
    /// How long the oldest of them has been due
    #[oai(validator(minimum(value = "1"), maximum(value = "604800")))]
    pub age_s: Option<i32>,
}

/// How it is told; one of them at least.
#[derive(Debug, Clone, PartialEq, Eq, Object, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Notify {
    /// A mail there, at most one a minute, with the number of failures since the last
    pub email: Option<MailAddress>,
    /// An event of the alert's type to the webhooks that want it, at most 60 a minute
    pub event: Option<bool>,
}

/// An alert to be kept.
#[derive(Debug, Object, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewAlert {
    /// `job.failed`: a job failed for good, its attempts used up; `queue.backlogged`: a queue has fallen behind
    pub on: CauseName,
    /// `job.failed`: jobs of this kind alone
    #[oai(validator(min_length = 1, max_length = 128))]
    pub kind: Option<String>,
    /// `job.failed`: jobs of this queue alone; `queue.backlogged`: this queue, required
    pub queue: Option<QueueName>,
    /// `queue.backlogged`: required
    pub threshold: Option<Threshold>,
    pub notify: Notify,
    /// True unless given
    pub enabled: Option<bool>,
}

/// What changes of an alert; what is left out stays.
#[derive(Debug, Object, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AlertChange {
    /// Null takes it away
    #[oai(validator(min_length = 1, max_length = 128))]
    #[serde(default)]
    pub kind: MaybeUndefined<String>,
    /// Null takes it away
    #[serde(default)]
    pub queue: MaybeUndefined<QueueName>,
    /// Replaces both
    pub threshold: Option<Threshold>,
    /// Replaces both
    pub notify: Option<Notify>,
    pub enabled: Option<bool>,
}

/// What a tenant wants to be told of.
#[derive(Debug, Object, Serialize)]
pub struct Alert {
    pub id: Uuid,
    /// `job.failed` or `queue.backlogged`
    pub on: String,
    pub kind: Option<String>,
    pub queue: Option<String>,
    pub threshold: Option<Threshold>,
    pub notify: Notify,
    pub enabled: bool,
    /// Since when its queue is behind; null when it is not
    pub behind_since: Option<Time>,
    pub created_at: Time,
    pub updated_at: Time,
    pub version: i32,
}

impl From<AlertRow> for Alert {
    fn from(row: AlertRow) -> Self {
        let threshold = Threshold { depth: row.depth, age_s: row.age_s };
        Self {
            id: row.id.0,
            on: row.cause,
            kind: row.kind,
            queue: row.queue,
            threshold: (threshold != Threshold { depth: None, age_s: None }).then_some(threshold),
            notify: Notify { email: row.email.map(MailAddress), event: Some(row.event) },
            enabled: row.disabled_at.is_none(),
            behind_since: row.behind_since.map(Time),
            created_at: Time(row.id.created_at()),
            updated_at: Time(row.updated_at),
            version: row.version,
        }
    }
}

/// An alert as a whole, however it came about.
#[derive(Debug)]
pub struct Wanted {
    pub cause: Cause,
    pub kind: Option<String>,
    pub queue: Option<QueueName>,
    pub threshold: Option<Threshold>,
    pub notify: Notify,
    pub enabled: bool,
}

impl Wanted {
    /// What no schema can say: which parts go together.
    ///
    /// # Errors
    /// 422 with every fault.
    pub fn check(&self) -> Result<()> {
        let mut faults = Vec::new();
        let mut fault = |pointer: &str, code, detail: &str| faults.push(Fault::new(pointer, code, detail));
        match self.cause {
            Cause::JobFailed if self.threshold.is_some() => {
                fault("/threshold", "forbidden", "an alert on `job.failed` has no threshold");
            }
            Cause::JobFailed => {}
            Cause::QueueBacklogged => {
                if self.kind.is_some() {
                    fault("/kind", "forbidden", "an alert on `queue.backlogged` is about a whole queue");
                }
                if self.queue.is_none() {
                    fault("/queue", "required", "say which queue");
                }
                match self.threshold {
                    None => fault("/threshold", "required", "say from where the queue is behind"),
                    Some(Threshold { depth: None, age_s: None }) => {
                        fault("/threshold", "required", "give `depth`, `age_s` or both");
                    }
                    Some(Threshold { depth, age_s }) => {
                        if depth.is_some_and(|depth| !(1..=DEEPEST).contains(&depth)) {
                            fault("/threshold/depth", "out_of_range", "1 to 100000 jobs");
                        }
                        if age_s.is_some_and(|age_s| !(1..=OLDEST_S).contains(&age_s)) {
                            fault("/threshold/age_s", "out_of_range", "1 second to a week");
                        }
                    }
                }
            }
        }
        if self.queue == Some(QueueName::Maintenance) {
            fault("/queue", "forbidden", "the queue `maintenance` is the system's own");
        }
        if self.kind.as_ref().is_some_and(|kind| kind.chars().any(char::is_control)) {
            fault("/kind", "invalid", "not a kind");
        }
        if self.notify.email.is_none() && self.notify.event != Some(true) {
            fault("/notify", "required", "give `email`, `event` or both");
        }
        if faults.is_empty() { Ok(()) } else { Err(ApiError::invalid(faults)) }
    }
}
