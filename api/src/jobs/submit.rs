//! From a request to a job that can be stored.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use millwork_shared::egress::AllowedNets;
use millwork_shared::infra::ids::{JobId, TenantId};
use millwork_shared::jobs::{Cause, Due, NewJob, Priority, Queue, Unique, kinds};

use super::types::{JobRequest, QueueName};
use crate::http::Fault;

/// Longest way ahead that a job may be due.
const FAR: TimeDelta = TimeDelta::days(366);
/// How far `run_at` may lie in the past: clocks differ, and "now" is not an error.
const PAST: TimeDelta = TimeDelta::minutes(1);

/// The job that `request` asks for, or everything that is wrong with it, as pointers below `base`.
pub fn job(
    request: JobRequest,
    tenant: TenantId,
    now: DateTime<Utc>,
    cause: &Cause,
    nets: &AllowedNets,
    base: &str,
) -> Result<NewJob, Vec<Fault>> {
    let faults = faults(&request, now, nets, base);
    let kind = match kinds::find(&request.kind) {
        Some(kind) if faults.is_empty() => kind,
        _ => return Err(faults),
    };
    let due = match (request.run_at, request.delay_s) {
        (Some(at), _) if at.0 > now => Due::At(at.0),
        (_, Some(delay_s)) if delay_s > 0 => Due::In(Duration::from_secs(delay_s.into())),
        _ => Due::Now,
    };
    let hold = request.unique_for_s.map(|s| Duration::from_secs(s.into()));
    Ok(NewJob {
        id: JobId::generate(),
        tenant,
        queue: request.queue.map_or(kind.queue, Queue::from),
        kind: request.kind,
        priority: request.priority.and_then(Priority::new).unwrap_or(Priority::DEFAULT),
        payload: request.payload.0,
        max_attempts: request.max_attempts.unwrap_or(kind.max_attempts),
        timeout_ms: request.timeout_ms.unwrap_or(i32::try_from(kind.timeout.as_millis()).unwrap_or(i32::MAX)),
        due,
        unique: request.unique_key.map(|key| Unique { key, hold }),
        tags: request.tags.unwrap_or_default(),
        request_id: cause.request_id.clone(),
        traceparent: cause.traceparent.clone(),
    })
}

fn faults(request: &JobRequest, now: DateTime<Utc>, nets: &AllowedNets, base: &str) -> Vec<Fault> {
    let mut faults = Vec::new();
    let mut fault =
        |field: &str, code, detail: String| faults.push(Fault::new(format!("{base}/{field}"), code, detail));
    if request.priority.is_some_and(|p| p > 9) {
        fault("priority", "out_of_range", "a priority is 0 to 9, nine first".into());
    }
    if request.queue == Some(QueueName::Maintenance) {
        fault("queue", "forbidden", "the queue `maintenance` is the system's own".into());
    }
    if let Some(at) = request.run_at {
        if request.delay_s.is_some() {
            fault("delay_s", "exclusive", "give either `run_at` or `delay_s`".into());
        }
        if at.0 < now - PAST {
            fault("run_at", "in_the_past", format!("{at} is past; leave `run_at` out to run now"));
        } else if at.0 > now + FAR {
            fault("run_at", "too_far", format!("{at} is more than a year ahead"));
        }
    }
    if request.delay_s.is_some_and(|s| i64::from(s) > FAR.num_seconds()) {
        fault("delay_s", "too_far", "a delay is at most a year, 31622400 seconds".into());
    }
    if request.max_attempts.is_some_and(|n| !(1..=100).contains(&n)) {
        fault("max_attempts", "out_of_range", "1 to 100 attempts".into());
    }
    if request.timeout_ms.is_some_and(|n| !(100..=3_600_000).contains(&n)) {
        fault("timeout_ms", "out_of_range", "100 to 3600000 milliseconds".into());
    }
    if request.unique_key.as_ref().is_some_and(|key| key.is_empty() || key.chars().count() > 255) {
        fault("unique_key", "length", "1 to 255 characters".into());
    }
    if request.unique_for_s.is_some_and(|s| s == 0 || i64::from(s) > FAR.num_seconds()) {
        fault("unique_for_s", "out_of_range", "1 second to a year".into());
    }
    if request.unique_for_s.is_some() && request.unique_key.is_none() {
        fault("unique_for_s", "needs_unique_key", "`unique_for_s` says how long a `unique_key` is held".into());
    }
    let tags = request.tags.as_deref().unwrap_or_default();
    if tags.len() > 20 {
        fault("tags", "too_many", "at most 20 tags".into());
    }
    for (n, tag) in tags.iter().enumerate().take(20) {
        if tag.is_empty() || tag.chars().count() > 64 || tag.chars().any(char::is_control) {
            fault(&format!("tags/{n}"), "invalid", "a tag has 1 to 64 characters, none of them control".into());
        }
    }
    match kinds::find(&request.kind) {
        None => {
            let known = kinds::names().join(", ");
            fault("kind", "unknown", format!("`{}` is not a kind; the kinds are {known}", short(&request.kind)));
        }
        Some(kind) => {
            for (pointer, detail) in kind.faults(&request.payload.0, nets) {
                fault(&format!("payload{pointer}"), "invalid", detail);
            }
        }
    }
    faults
}

fn short(text: &str) -> String {
    text.chars().take(64).collect()
}
