//! What a tenant wants to be told of: jobs that fail, queues that fall behind.

use std::str::FromStr;
use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::Result;
use crate::email::Template;
use crate::email::jobs::{Content, SendEmail};
use crate::email::templates::line;
use crate::infra::ids::{AlertId, JobId, TenantId};
use crate::jobs::{JobError, NewJob};

/// Every statement on alerts.
pub mod queries;

/// Alerts that a tenant may have.
pub const ALERTS_PER_TENANT: i64 = 20;
/// What tells jobs that tell of an alert: they raise none, so that a mail that cannot be sent is not the cause of another.
pub const TAG: &str = "millwork:alert";
/// Clients cannot give their jobs tags that begin so.
pub const TAG_PREFIX: &str = "millwork:";
/// Time between two mails of one alert at least.
pub const MAIL_PAUSE: Duration = Duration::from_secs(60);
/// Events of one alert in a minute at most.
pub const EVENTS_PER_MINUTE: i32 = 60;
/// Largest depth that a queue may be said to be behind at.
pub const DEEPEST: i32 = 100_000;
/// Longest age, a week.
pub const OLDEST_S: i32 = 604_800;

/// What an alert is about; its events are of the type of that name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    JobFailed,
    QueueBacklogged,
}

impl Cause {
    pub const ALL: [Self; 2] = [Self::JobFailed, Self::QueueBacklogged];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::JobFailed => "job.failed",
            Self::QueueBacklogged => "queue.backlogged",
        }
    }
}

impl FromStr for Cause {
    type Err = String;

    fn from_str(s: &str) -> Result<Self, String> {
        Self::ALL.into_iter().find(|cause| cause.as_str() == s).ok_or_else(|| format!("`{s}` is no cause of an alert"))
    }
}

/// A job that failed for good.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    pub job_id: JobId,
    pub kind: String,
    pub queue: String,
    pub attempts: i16,
    pub error: Option<JobError>,
    pub failed_at: DateTime<Utc>,
}

impl Failure {
    /// The payload of its event. `suppressed` are failures before it of which no event told.
    pub fn event(&self, alert: AlertId, suppressed: i32) -> Value {
        json!({
            "alert_id": alert, "job_id": self.job_id, "kind": self.kind, "queue": self.queue, "attempts": self.attempts,
            "error": self.error, "failed_at": self.failed_at, "suppressed": suppressed,
        })
    }

    /// The mail that tells of `count` failures, this one the last.
    ///
    /// # Errors
    /// Fails when the address does not parse any more, which is no reason to tell nothing else.
    pub fn mail(&self, tenant: TenantId, name: &str, to: &str, count: i32) -> Result<NewJob> {
        let error = self.error.as_ref().map(JobError::to_string).unwrap_or_default();
        let variables = [
            ("tenant", line(name).into()),
            ("count", count.clamp(1, 9_999).into()),
            ("kind", line(&self.kind).into()),
            ("queue", line(&self.queue).into()),
            ("job", self.job_id.to_string().into()),
            ("error", line(&error).into()),
        ];
        mail(tenant, to, Template::JobsFailed, variables)
    }
}

/// A queue that has fallen behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, sqlx::FromRow)]
pub struct Backlog {
    /// Jobs that are due and do not run, counted as far as the alert asks.
    pub depth: i64,
    /// How long the oldest of them has been due.
    pub age_s: i64,
}

impl Backlog {
    /// Whether it is behind by either threshold.
    pub fn is_behind(self, depth: Option<i32>, age_s: Option<i32>) -> bool {
        depth.is_some_and(|most| self.depth >= most.into()) || age_s.is_some_and(|most| self.age_s >= most.into())
    }

    /// Whether it has caught up: well below both, so that a queue about its threshold does not alert again and again.
    pub fn has_caught_up(self, depth: Option<i32>, age_s: Option<i32>) -> bool {
        let below = |value: i64, most: Option<i32>| most.is_none_or(|most| value * 2 < i64::from(most).max(1));
        below(self.depth, depth) && below(self.age_s, age_s)
    }

    /// The payload of its event.
    pub fn event(self, alert: AlertId, queue: &str) -> Value {
        json!({ "alert_id": alert, "queue": queue, "depth": self.depth, "age_s": self.age_s })
    }

    /// The mail that tells of it.
    ///
    /// # Errors
    /// As [`Failure::mail`].
    pub fn mail(self, tenant: TenantId, name: &str, to: &str, queue: &str) -> Result<NewJob> {
        let variables = [
            ("tenant", line(name).into()),
            ("queue", line(queue).into()),
            ("depth", self.depth.to_string().into()),
            ("age_s", self.age_s.to_string().into()),
        ];
        mail(tenant, to, Template::QueueBacklogged, variables)
    }
}

fn mail<const N: usize>(
    tenant: TenantId,
    to: &str,
    template: Template,
    variables: [(&str, Value); N],
) -> Result<NewJob> {
    let to = to.parse().map_err(|fault: String| anyhow::anyhow!("the address of an alert: {fault}"))?;
    let variables = Map::from_iter(variables.map(|(name, value)| (name.to_owned(), value)));
    let job = NewJob::of(tenant, &SendEmail { to, content: Content::Template { template, variables, locale: None } })?;
    Ok(tagged(job))
}

/// Marks a job as one that tells of an alert.
fn tagged(job: NewJob) -> NewJob {
    NewJob { tags: vec![TAG.to_owned()], ..job }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_queue_is_behind_at_either_threshold_and_has_caught_up_well_below_both() {
        for (depth, age_s, most_depth, most_age_s, behind, caught_up) in [
            (10, 0, Some(10), None, true, false),
            (9, 0, Some(10), None, false, false),
            (5, 0, Some(10), None, false, false),
            (4, 900, Some(10), None, false, true),
            (0, 60, None, Some(60), true, false),
            (9, 29, None, Some(60), false, true),
            (0, 30, None, Some(60), false, false),
            (0, 60, Some(10), Some(60), true, false),
            (0, 40, Some(10), Some(60), false, false),
            (0, 0, Some(1), Some(1), false, true),
        ] {
            let backlog = Backlog { depth, age_s };
            assert_eq!(backlog.is_behind(most_depth, most_age_s), behind, "{backlog:?}");
            assert_eq!(backlog.has_caught_up(most_depth, most_age_s), caught_up, "{backlog:?}");
        }
    }

    #[test]
    fn a_mail_holds_what_its_template_wants_whatever_the_error_says() {
        let failure = Failure {
            job_id: JobId::generate(),
            kind: "echo".into(),
            queue: "default".into(),
            attempts: 3,
            error: Some(JobError::new("boom", "a\r\nBcc: b@c.example\n".repeat(100))),
            failed_at: DateTime::UNIX_EPOCH,
        };
        for (error, count) in [(failure.error.clone(), 1), (None, 1_000_000)] {
            let failure = Failure { error, ..failure.clone() };
            let job = failure.mail(TenantId::generate(), " ", "ops@acme.example", count).unwrap();
            let payload: Value = serde_json::from_str(job.payload.get()).unwrap();
            assert_eq!(crate::email::jobs::faults(&payload), [], "{payload}");
            assert_eq!(job.tags, [TAG]);
        }
        let backlog = Backlog { depth: 12_345, age_s: 0 };
        let job = backlog.mail(TenantId::generate(), "Acme", "ops@acme.example", "email").unwrap();
        assert_eq!(crate::email::jobs::faults(&serde_json::from_str(job.payload.get()).unwrap()), []);
    }
}
