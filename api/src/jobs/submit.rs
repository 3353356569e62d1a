//! From a request to a job that can be stored.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use millwork_shared::alerts::TAG_PREFIX;
use millwork_shared::egress::AllowedNets;
use millwork_shared::infra::ids::{ActorId, JobId, TenantId};
use millwork_shared::jobs::chains::{MOST_PREDECESSORS, OnFailure, Wait};
use millwork_shared::jobs::kinds::Echo;
use millwork_shared::jobs::{Cause, Due, Job, NewJob, Priority, Queue, Unique, kinds};
use poem_openapi::types::Type;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::types::{BatchOptions, BatchRequest, JobRequest, QueueName};
use crate::http::{ApiError, Fault, Result, body};

/// Longest way ahead that a job may be due.
const FAR: TimeDelta = TimeDelta::days(366);
/// How far `run_at` may lie in the past: clocks differ, and "now" is not an error.
const PAST: TimeDelta = TimeDelta::minutes(1);

/// Who submits, and when.
pub struct Submitter<'a> {
    pub tenant: TenantId,
    pub actor: ActorId,
    pub now: DateTime<Utc>,
    pub cause: &'a Cause,
    /// The private networks that may be called.
    pub nets: &'a AllowedNets,
}

/// Jobs in one batch at most.
const MOST: usize = 1_000;
/// Faults told at once at most.
const MOST_FAULTS: usize = 50;

/// The job that a body asks for, and the jobs that it is to run after.
///
/// # Errors
/// 400 when it is not JSON, 422 with every fault at once.
pub fn one(raw: &[u8], by: &Submitter<'_>) -> Result<(NewJob, Option<Wait>)> {
    match serde_json::from_slice(raw).ok().and_then(|request| job(request, by, None)) {
        Some(job) => Ok(job),
        None => Err(refusal::<JobRequest>(raw, by, None, |body| vec![(String::new(), body)])),
    }
}

/// The jobs that a body of many asks for.
///
/// # Errors
/// As [`one`].
pub fn many(raw: &[u8], by: &Submitter<'_>) -> Result<Batch> {
    let request: Option<BatchRequest> = serde_json::from_slice(raw).ok();
    let request = request.filter(|r| (1..=MOST).contains(&r.jobs.len()));
    match request.and_then(|r| batch(r, by)) {
        Some(batch) => Ok(batch),
        None => Err(refusal::<BatchRequest>(raw, by, Some(Names::default()), |body| {
            let jobs = body["jobs"].as_array().into_iter().flatten().take(MOST).enumerate();
            let jobs = jobs.map(|(n, job)| (format!("/jobs/{n}"), job));
            let last = body["batch"].get("on_complete").map(|job| (ON_COMPLETE.to_owned(), job));
            jobs.chain(last).collect()
        })),
    }
}

/// Where in the body of a batch the job is that runs last.
const ON_COMPLETE: &str = "/batch/on_complete";

/// Jobs that are stored together.
pub struct Batch {
    pub jobs: Vec<NewJob>,
    /// Of those that are to run after others.
    pub waits: Vec<Wait>,
    /// How they are counted together, if they are.
    pub options: Option<Options>,
}

/// How jobs are counted together.
pub struct Options {
    pub name: Option<String>,
    pub on_complete: Option<NewJob>,
}

/// The names that the items of a batch so far have given themselves.
type Names = HashMap<String, JobId>;

/// None when something is wrong with one of them.
fn batch(request: BatchRequest, by: &Submitter<'_>) -> Option<Batch> {
    let options = match request.batch {
        Some(BatchOptions { name, on_complete }) => Some(Options {
            name: match name {
                Some(name) if !is_title(&name.0) => return None,
                name => name.map(|name| name.0),
            },
            on_complete: match on_complete {
                Some(request) if !last_faults(&request).is_empty() => return None,
                Some(request) => Some(job(request, by, None)?.0),
                None => None,
            },
        }),
        None => None,
    };
    let (mut jobs, mut waits, mut names) = (Vec::with_capacity(request.jobs.len()), Vec::new(), Names::new());
    for mut request in request.jobs {
        let name = request.reference.take();
        if name.as_ref().is_some_and(|name| !is_free(name, &names)) {
            return None;
        }
        let (job, wait) = job(request, by, Some(&names))?;
        names.extend(name.map(|name| (name, job.id)));
        jobs.push(job);
        waits.extend(wait);
    }
    Some(Batch { jobs, waits, options })
}

/// Whether `name` is what the schema says of it.
fn is_title(name: &str) -> bool {
    (1..=200).contains(&name.chars().count()) && !name.chars().any(char::is_control)
}

/// What is wrong with the place of a job that runs when a batch has finished.
fn last_faults(request: &JobRequest) -> Vec<Fault> {
    let fault = |field: &str, detail: &str| Fault::new(format!("{ON_COMPLETE}/{field}"), "forbidden", detail);
    let after = request.after.as_ref().map(|_| fault("after", "it runs after all jobs of the batch"));
    let name = request.reference.as_ref().map(|_| fault("ref", "no item can wait for it"));
    let policy = request.on_predecessor_failure.map(|_| fault("on_predecessor_failure", "it runs however they end"));
    after.into_iter().chain(name).chain(policy).collect()
}

/// Everything that is wrong with a body: what its schema says, and what only we know, of all that can be read. `names` is
/// for a batch.
fn refusal<T: Type + DeserializeOwned + 'static>(
    raw: &[u8],
    by: &Submitter<'_>,
    mut names: Option<Names>,
    jobs: fn(&Value) -> Vec<(String, &Value)>,
) -> ApiError {
    let told = body::value(raw).and_then(|value| Ok((body::faults_of::<T>(&value)?, value)));
    let (mut faults, value) = match told {
        Ok(told) => told,
        Err(error) => return error,
    };
    for (base, job) in jobs(&value) {
        if faults.len() >= MOST_FAULTS {
            break;
        }
        let Some(request) = readable(&base, job, &faults) else { continue };
        let mut more = self::faults(&request, by.now, by.nets, &base);
        if base == ON_COMPLETE {
            more.extend(last_faults(&request));
        } else {
            more.extend(chain_faults(&request, &base, names.as_ref()));
        }
        if let (Some(names), Some(name)) = (&mut names, request.reference) {
            names.insert(name, JobId::generate());
        }
        add_news(more, &mut faults);
    }
    faults.truncate(MOST_FAULTS);
    if let (true, Err(error)) = (faults.is_empty(), serde_json::from_slice::<T>(raw)) {
        // What no schema can say, such as a key that is given twice.
        faults.push(Fault::new("", "invalid", error.to_string()));
    }
    ApiError::invalid(faults)
}

/// Adds to `faults`, those that the schema finds, what only we know of the job at `base`.
pub fn add_faults(base: &str, job: &Value, by: &Submitter<'_>, faults: &mut Vec<Fault>) {
    let Some(request) = readable(base, job, faults) else { return };
    add_news(self::faults(&request, by.now, by.nets, base), faults);
}

/// Adds those of `more` that are not about a place with a fault already.
fn add_news(more: Vec<Fault>, faults: &mut Vec<Fault>) {
    let news: Vec<_> = more.into_iter().filter(|more| !faults.iter().any(|known| covers(known, more))).collect();
    faults.extend(news);
}

/// What can be read of a job that has faults already: it without the members that they point to.
fn readable(base: &str, job: &Value, faults: &[Fault]) -> Option<JobRequest> {
    let mut members = job.as_object()?.clone();
    for fault in faults {
        let below = fault.pointer.strip_prefix(base).and_then(|rest| rest.strip_prefix('/'));
        if let Some(name) = below.and_then(|rest| rest.split('/').next()) {
            members.remove(&name.replace("~1", "/").replace("~0", "~"));
        }
    }
    members.entry("kind").or_insert_with(|| Value::from(Echo::KIND)); // which takes any payload
    members.entry("payload").or_insert(Value::Null);
    serde_json::from_value(Value::Object(members)).ok()
}

/// Whether `known` is about the place of `other`, or one that it lies in.
fn covers(known: &Fault, other: &Fault) -> bool {
    other.pointer.strip_prefix(&known.pointer).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// The job that `request` asks for, which waits for no other. None when something is wrong with it.
pub fn lone_job(request: JobRequest, by: &Submitter<'_>) -> Option<NewJob> {
    Some(job(request, by, None)?.0)
}

/// The job that `request` asks for, and its wait for others. None when something is wrong with it.
fn job(request: JobRequest, by: &Submitter<'_>, names: Option<&Names>) -> Option<(NewJob, Option<Wait>)> {
    let Submitter { tenant, actor, now, cause, nets } = *by;
    let kind = kinds::find(&request.kind)?;
    if !faults(&request, now, nets, "").is_empty() || !chain_faults(&request, "", names).is_empty() {
        return None;
    }
    let id = JobId::generate();
    let after = request.after.iter().flatten().map(|name| predecessor(name, names));
    let after: Vec<JobId> = after.collect::<Option<_>>()?;
    let on_failure = request.on_predecessor_failure.map(OnFailure::from).unwrap_or_default();
    let wait = (!after.is_empty()).then_some(Wait { job: id, after, on_failure });
    let due = match (request.run_at, request.delay_s) {
        (Some(at), _) if at.0 > now => Due::At(at.0),
        (_, Some(delay_s)) if delay_s > 0 => Due::In(Duration::from_secs(delay_s.into())),
        _ => Due::Now,
    };
    let hold = request.unique_for_s.map(|s| Duration::from_secs(s.into()));
    let job = NewJob {
        id,
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
        schedule: None,
        submitted_by: Some(actor),
        request_id: cause.request_id.clone(),
        traceparent: cause.traceparent.clone(),
    };
    Some((job, wait))
}

/// What `name` in `after` means: an id, or the name of an item of the same batch.
fn predecessor(name: &str, names: Option<&Names>) -> Option<JobId> {
    name.parse().ok().or_else(|| names?.get(name).copied())
}

/// Whether an item may take `name`: one that is no id, and nobody's.
fn is_free(name: &str, names: &Names) -> bool {
    is_name(name) && !names.contains_key(name)
}

fn is_name(name: &str) -> bool {
    (1..=64).contains(&name.chars().count()) && !name.chars().any(char::is_control) && name.parse::<JobId>().is_err()
}

/// What is wrong with the place of a job in a chain. `names` are those that it may wait for, in a batch.
fn chain_faults(request: &JobRequest, base: &str, names: Option<&Names>) -> Vec<Fault> {
    let mut faults = Vec::new();
    let mut fault =
        |field: &str, code, detail: String| faults.push(Fault::new(format!("{base}/{field}"), code, detail));
    match (&request.reference, names) {
        (Some(_), None) => fault("ref", "batch_only", "`ref` names an item of a batch for the items after it".into()),
        (Some(name), Some(_)) if !is_name(name) => {
            fault("ref", "invalid", "a `ref` has 1 to 64 characters, none of them control, and is not an id".into());
        }
        (Some(name), Some(names)) if names.contains_key(name) => {
            fault("ref", "duplicate", format!("`{name}` is the `ref` of an item before this one"));
        }
        _ => {}
    }
    let after = request.after.as_deref().unwrap_or_default();
    if after.len() > MOST_PREDECESSORS {
        fault("after", "too_many", format!("at most {MOST_PREDECESSORS} jobs"));
    }
    if after.is_empty() && request.on_predecessor_failure.is_some() {
        let detail = "`on_predecessor_failure` is about the jobs in `after`";
        fault("on_predecessor_failure", "needs_after", detail.into());
    }
    let mut seen = HashSet::new();
    for (n, name) in after.iter().enumerate().take(MOST_PREDECESSORS) {
        let field = format!("after/{n}");
        match (predecessor(name, names), names) {
            (Some(id), _) if !seen.insert(id) => fault(&field, "duplicate", "each job once".into()),
            (Some(_), _) => {}
            (None, None) => fault(&field, "invalid", format!("`{}` is not the id of a job", short(name))),
            (None, Some(_)) => {
                let detail = format!("`{}` is neither an id nor the `ref` of an item before this one", short(name));
                fault(&field, "unknown", detail);
            }
        }
    }
    faults
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
        } else if tag.starts_with(TAG_PREFIX) {
            fault(&format!("tags/{n}"), "reserved", format!("tags that begin with `{TAG_PREFIX}` are Millwork's own"));
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
