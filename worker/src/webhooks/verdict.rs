//! What an exchange means for a delivery.

use std::time::Duration;

use chrono::{DateTime, Utc};
use millwork_shared::jobs::retry::{RETRY_AFTER_LONGEST, Schedule};
use millwork_shared::jobs::{JobError, Outcome};
use millwork_shared::webhooks::{AttemptDetail, BODY_KEPT_BYTES};
use serde_json::json;
use serde_json::value::to_raw_value;

use crate::egress::{Answer, Exchange, Failure, retry_after};

/// The class of every answer that is not a success.
const HTTP_STATUS: &str = "http_status";

#[derive(Debug)]
pub(super) enum Verdict {
    Delivered {
        status: u16,
    },
    /// The endpoint says that it will never want anything again.
    Gone(JobError),
    /// Perhaps later; `ask` is the wait that the answer asked for, `strained` that it spoke of too much load.
    Refused {
        error: JobError,
        ask: Option<Duration>,
        strained: bool,
    },
}

impl Verdict {
    pub fn of(outcome: &Result<Answer, Failure>, now: DateTime<Utc>) -> Self {
        match outcome {
            Ok(answer) => match answer.status {
                status @ 200..=299 => Self::Delivered { status },
                410 => Self::Gone(JobError::new(HTTP_STATUS, "answered 410 Gone: the endpoint is disabled")),
                status => Self::Refused {
                    error: JobError::new(HTTP_STATUS, format!("answered {status}")),
                    ask: retry_after(answer, now),
                    strained: matches!(status, 429 | 502 | 504),
                },
            },
            Err(failure) => Self::Refused {
                error: JobError::new(failure.class.as_str(), failure.message.as_str()),
                ask: None,
                strained: false,
            },
        }
    }

    /// The job's outcome after attempt number `attempt` by this schedule. `random` lies in [0, 1).
    pub fn outcome(self, schedule: &Schedule, attempt: i16, random: f64) -> Outcome {
        match self {
            Self::Delivered { status } => Outcome::Done(to_raw_value(&json!({ "status": status })).ok()),
            Self::Gone(error) => Outcome::Fail(error),
            Self::Refused { error, ask, strained } => match schedule.wait(attempt, random) {
                Some(wait) => {
                    let wait = if strained { wait * 2 } else { wait };
                    let wait = wait.max(ask.unwrap_or_default()).min(RETRY_AFTER_LONGEST.max(wait));
                    Outcome::Retry { error, after: Some(wait) }
                }
                None => Outcome::Fail(error),
            },
        }
    }
}

/// What is kept of an attempt.
pub(super) fn detail(exchange: &Exchange) -> AttemptDetail {
    let latency_ms = u64::try_from(exchange.latency.as_millis()).unwrap_or(u64::MAX);
    match &exchange.outcome {
        Ok(answer) => AttemptDetail {
            status: Some(answer.status),
            latency_ms,
            headers: answer.header_map(),
            body: Some(answer.text(BODY_KEPT_BYTES)),
            error_class: (!(200..300).contains(&answer.status)).then(|| HTTP_STATUS.to_owned()),
        },
        Err(failure) => AttemptDetail {
            latency_ms,
            error_class: Some(failure.class.as_str().to_owned()),
            ..AttemptDetail::default()
        },
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::egress::FailureClass;

    fn answered(status: u16, retry_after: Option<&str>) -> Result<Answer, Failure> {
        let headers = retry_after.map(|v| ("retry-after".to_owned(), v.to_owned())).into_iter().collect();
        Ok(Answer { status, headers, body: Bytes::new(), truncated: false })
    }

    /// The wait in seconds after `attempt`; None when the delivery has failed for good.
    fn wait(outcome: Result<Answer, Failure>, attempt: i16) -> Option<u64> {
        let schedule: Schedule = "10s,100s".parse().unwrap();
        match Verdict::of(&outcome, DateTime::UNIX_EPOCH).outcome(&schedule, attempt, 0.0) {
            Outcome::Retry { after, .. } => Some(after.unwrap().as_secs()),
            Outcome::Fail(_) => None,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn only_two_hundreds_are_success() {
        for status in [200, 201, 202, 204, 299] {
            assert!(matches!(Verdict::of(&answered(status, None), DateTime::UNIX_EPOCH), Verdict::Delivered { .. }));
        }
        for status in [101, 199, 300, 301, 302, 304, 307, 400, 401, 404, 409, 500, 503] {
            assert_eq!(wait(answered(status, None), 1), Some(10), "{status}");
        }
        assert!(matches!(Verdict::of(&answered(410, None), DateTime::UNIX_EPOCH), Verdict::Gone(_)));
    }

    #[test]
    fn the_schedule_is_followed_to_its_end() {
        let failed = || Err(Failure::new(FailureClass::Timeout, "late"));
        assert_eq!([1, 2, 3, 4].map(|attempt| wait(failed(), attempt)), [Some(10), Some(100), None, None]);
    }

    #[test]
    fn a_strained_receiver_is_called_more_slowly() {
        assert_eq!([429, 502, 504].map(|status| wait(answered(status, None), 1)), [Some(20); 3]);
    }

    #[test]
    fn a_wish_for_a_longer_wait_is_honoured_within_a_day_and_one_for_a_shorter_is_not() {
        assert_eq!(wait(answered(503, Some("60")), 1), Some(60));
        assert_eq!(wait(answered(503, Some("1")), 1), Some(10));
        assert_eq!(wait(answered(503, Some("9999999")), 1), Some(86_400));
        assert_eq!(wait(answered(503, Some("60")), 3), None);
    }
}
