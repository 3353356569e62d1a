//! Which handler does which kind.

use std::collections::HashMap;
use std::future::Future;
use std::sync::Arc;

use futures::FutureExt;
use futures::future::BoxFuture;
use millwork_shared::jobs::{Job, JobError, Outcome, Queue};
use serde_json::value::RawValue;

use super::run::Run;
use crate::context::Context;
use crate::metrics::{JobFigures, KindFigures};

/// A handler with its payload type erased.
type Handler = Arc<dyn Fn(&RawValue, Arc<Run>) -> BoxFuture<'static, Outcome> + Send + Sync>;

/// Which handler does which kind.
pub struct Registry {
    context: Arc<Context>,
    handlers: HashMap<&'static str, (Handler, KindFigures)>,
    unknown: KindFigures,
}

impl Registry {
    pub fn over(context: Arc<Context>) -> Self {
        Self { context, handlers: HashMap::new(), unknown: KindFigures::other() }
    }

    /// Adds the handler of `J`. A payload that does not parse fails the job for good; an [`Error`](millwork_shared::Error)
    /// is a retry or a failure by the rules of `outcome_of`.
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
        self.handlers.insert(J::KIND, (handler, KindFigures::of(J::KIND)));
        self
    }

    /// Where jobs of `kind` are counted.
    pub(super) fn figures(&self, kind: &str, queue: Queue) -> Arc<JobFigures> {
        self.handlers.get(kind).map_or(&self.unknown, |(_, figures)| figures).in_queue(queue)
    }

    /// Starts the handler of `kind`, or says that there is none.
    pub(super) fn start(&self, kind: &str, payload: &RawValue, run: Arc<Run>) -> BoxFuture<'static, Outcome> {
        match self.handlers.get(kind) {
            Some((handler, _)) => handler(payload, run),
            None => {
                let message = format!("this worker has no handler for `{kind}`: run a release that has one");
                let error = JobError::new("kind_unknown", message);
                futures::future::ready(Outcome::Retry { error, after: None }).boxed()
            }
        }
    }
}

/// What a failure below a handler means for its job.
fn outcome_of(error: millwork_shared::Error) -> Outcome {
    use millwork_shared::Error;
    if let Error::Internal(cause) = &error {
        let cause = format!("{cause:#}");
        tracing::error!(error = cause, error.category = %error.category(), "a handler failed");
    }
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
