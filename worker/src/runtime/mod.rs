//! Claim, run and complete: everything that handlers need not know.

use std::collections::HashMap;
use std::future::Future;
use std::sync::{Arc, Mutex};

use futures::FutureExt;
use futures::future::BoxFuture;
use millwork_shared::infra::ids::{JobId, TenantId};
use millwork_shared::jobs::{Cause, Job, JobError, Outcome};
use serde::Serialize;
use serde_json::value::RawValue;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::context::Context;

pub mod echo;

/// One attempt at a job, as its handler sees it.
#[derive(Debug)]
pub struct Run {
    pub job: JobId,
    pub tenant: TenantId,
    /// 1 for the first.
    pub attempt: i16,
    pub max_attempts: i16,
    /// When the runtime drops the handler and stores a `timeout`.
    pub deadline: Instant,
    /// Cancelled when someone asked for the job's cancellation. A handler that ignores it is dropped a moment later.
    pub cancelled: CancellationToken,
    pub cause: Cause,
    detail: Mutex<Option<Box<RawValue>>>,
}

impl Run {
    /// Notes what this attempt met (an answer's status and latency, say), kept with the attempt whatever its outcome.
    pub fn attempt_detail(&self, detail: &impl Serialize) {
        if let (Ok(json), Ok(mut slot)) = (serde_json::value::to_raw_value(detail), self.detail.lock()) {
            *slot = Some(json);
        }
    }
}

/// A handler with its payload type erased.
type Handler = Arc<dyn Fn(&RawValue, Arc<Run>) -> BoxFuture<'static, Outcome> + Send + Sync>;

/// Which handler does which kind.
pub struct Registry {
    context: Arc<Context>,
    handlers: HashMap<&'static str, Handler>,
}

impl Registry {
    pub fn over(context: Arc<Context>) -> Self {
        Self { context, handlers: HashMap::new() }
    }

    /// Adds the handler of `J`. A payload that does not parse fails the job for good; an [`Error`](millwork_shared::Error)
    /// is a retry or a failure by [`outcome_of`].
    pub fn with<J, F, Fut>(mut self, handler: F) -> Self
    where
        J: Job + Send + 'static,
        F: Fn(J, Arc<Run>, Arc<Context>) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = millwork_shared::Result<Outcome>> + Send + 'static,
    {
        let context = self.context.clone();
        let handler: Handler = Arc::new(move |payload, run| match serde_json::from_str::<J>(payload.get()) {
            Ok(job) => handler(job, run, context.clone()).map(|r| r.unwrap_or_else(outcome_of)).boxed(),
            Err(error) => {
                let error = JobError::new("payload_invalid", format!("the payload does not fit {}: {error}", J::KIND));
                futures::future::ready(Outcome::Fail(error)).boxed()
            }
        });
        self.handlers.insert(J::KIND, handler);
        self
    }
}

/// What a failure below a handler means for its job.
fn outcome_of(error: millwork_shared::Error) -> Outcome {
    use millwork_shared::Error;
    match error {
        Error::NotFound(_) => Outcome::Fail(JobError::new("not_found", error.to_string())),
        Error::Conflict { code, ref detail } => Outcome::Fail(JobError::new(code, detail)),
        Error::Invalid { .. } => Outcome::Fail(JobError::new("invalid", error.to_string())),
        Error::Unavailable { .. } => {
            Outcome::Retry { error: JobError::new("unavailable", error.to_string()), after: None }
        }
        Error::Internal(_) => Outcome::Retry { error: JobError::new("internal", error.to_string()), after: None },
    }
}
