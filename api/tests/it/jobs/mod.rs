//! The routes of jobs.

mod batch;
/// Replaying and cancelling many.
mod bulk;
/// Jobs that wait for others.
mod chains;
/// Getting, cancelling, running again.
mod control;
mod list;
/// `Idempotency-Key` and `unique_key`.
mod once;
/// What is refused, and how.
mod refused;
mod stream;
mod submit;

use serde_json::{Value, json};

use crate::support::Reply;

fn echo() -> Value {
    json!({ "kind": "echo", "payload": {} })
}

/// `echo` with further members.
fn echo_with(members: Value) -> Value {
    let mut job = echo();
    job.as_object_mut().unwrap().extend(members.as_object().unwrap().clone());
    job
}

/// Pointer and code of every fault, sorted.
#[track_caller]
fn faults(reply: &Reply) -> Vec<(String, String)> {
    let problem = reply.problem(422, "body_invalid");
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let mut faults: Vec<_> = problem["errors"].as_array().unwrap().iter().collect();
    faults.sort_by_key(|fault| text(&fault["pointer"]));
    assert!(faults.iter().all(|fault| !text(&fault["detail"]).is_empty()), "{problem}");
    faults.into_iter().map(|fault| (text(&fault["pointer"]), text(&fault["code"]))).collect()
}

/// The ids of a list.
fn ids(list: &Value) -> Vec<String> {
    list["data"].as_array().unwrap().iter().map(|job| job["id"].as_str().unwrap().to_owned()).collect()
}
