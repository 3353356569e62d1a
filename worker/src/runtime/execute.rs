//! Running one claimed job: its deadline, its panic, its cancellation.

use std::any::Any;
use std::convert::Infallible;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use apalis::prelude::Task;
use futures::FutureExt;
use millwork_shared::Category;
use millwork_shared::audit::{self, Origin};
use millwork_shared::infra::panics::{self, Panicked};
use millwork_shared::infra::telemetry::traces::{self, SpanKind};
use millwork_shared::jobs::queries::Claimed;
use millwork_shared::jobs::{JobError, Outcome, Queue, RESULT_MAX_BYTES};
use tokio_util::sync::CancellationToken;
use tower::Service;
use tracing::Instrument;

use super::backend::Next;
use super::complete::Completion;
use super::handlers::Registry;
use super::in_flight::InFlight;
use super::journal;
use super::report::Reports;
use super::run::Run;
use super::slots::Slots;
use crate::metrics::METRICS;

/// How long a handler may take to notice its cancellation before it is dropped.
const CANCEL_GRACE: Duration = Duration::from_millis(500);

/// The innermost service of a queue's worker.
#[derive(Clone)]
pub struct JobService {
    pub queue: Queue,
    pub registry: Arc<Registry>,
    pub in_flight: Arc<InFlight>,
    pub slots: Arc<Slots>,
    pub reports: Reports,
}

impl Service<Task<Next>> for JobService {
    /// None for a job that was given back before its handler left.
    type Response = Option<Completion>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, task: Task<Next>) -> Self::Future {
        let this = self.clone();
        let (Next { claimed, turn }, _) = task.take();
        let span = tracing::info_span!(
            "job", job.id = %claimed.id, job.kind = claimed.kind, tenant.id = %claimed.tenant,
            job.attempt = claimed.attempt, request.id = claimed.cause.request_id
        );
        let run = async move {
            let completion = this.run(claimed).await;
            drop(turn);
            Ok(completion)
        };
        Box::pin(run.instrument(span))
    }
}

impl JobService {
    /// Continues the trace of the request that asked for the job, if traces are on; what the job causes follows from the
    /// span.
    fn trace(&self, claimed: &mut Claimed) -> Option<traces::Span> {
        if !traces::are_on() {
            return None;
        }
        let name = format!("job {}", claimed.kind);
        let mut span = traces::begin(SpanKind::Consumer, name, claimed.cause.traceparent.as_deref())?;
        span.note("job.id", claimed.id.to_string());
        span.note("job.kind", claimed.kind.clone());
        span.note("job.attempt", i64::from(claimed.attempt));
        span.note("tenant.id", claimed.tenant.to_string());
        span.note("queue", self.queue.as_str());
        if let Some(id) = &claimed.cause.request_id {
            span.note("request.id", id.clone());
        }
        claimed.cause.traceparent = Some(span.traceparent());
        Some(span)
    }

    async fn run(self, mut claimed: Claimed) -> Option<Completion> {
        match self.in_flight.start(&claimed) {
            Some(cancelled) => {
                journal::started(&claimed);
                let trace = self.trace(&mut claimed);
                self.attempt(claimed, cancelled, trace).await
            }
            None => {
                self.slots.free(claimed.tenant);
                None
            }
        }
    }

    async fn attempt(
        &self,
        claimed: Claimed,
        cancelled: CancellationToken,
        trace: Option<traces::Span>,
    ) -> Option<Completion> {
        let figures = self.registry.figures(&claimed.kind, self.queue);
        let running = METRICS.queue(self.queue).run();
        let began = Instant::now();
        let run = Arc::new(Run::begin(&claimed, cancelled.clone(), self.reports.clone()));
        let outcome = if cancelled.is_cancelled() { Outcome::Cancelled } else { self.handle(&claimed, &run).await };
        let took = began.elapsed();
        drop(running);
        self.slots.free(claimed.tenant);
        let report = run.close_journal().await;
        let wanted = self.in_flight.leave(&claimed);
        journal::ended(&claimed, &outcome, wanted);
        if !wanted {
            return None;
        }
        figures.ran(run.waited, took);
        let completion = Completion {
            tenant: claimed.tenant,
            queue: self.queue,
            id: claimed.id,
            attempt: claimed.attempt,
            owner: claimed.owner,
            counted_attempt: run.attempt,
            max_attempts: claimed.max_attempts,
            cancelled: cancelled.is_cancelled(),
            detail: run.take_detail(),
            report,
            outcome: within_bounds(outcome),
            wait_ms: claimed.wait_ms,
            run_ms: i64::try_from(took.as_millis()).unwrap_or(i64::MAX),
            figures,
        };
        note(&completion, trace);
        Some(completion)
    }

    async fn handle(&self, claimed: &Claimed, run: &Arc<Run>) -> Outcome {
        // Reading the payload and making the future may panic too.
        let handler = async { self.registry.start(&claimed.kind, &claimed.payload, run.clone()).await };
        let origin = Origin::of_job(claimed.id, claimed.cause.request_id.clone());
        let handler = audit::within(origin, handler);
        tokio::select! {
            outcome = AssertUnwindSafe(handler).catch_unwind() => outcome.unwrap_or_else(|panic| panicked(&*panic)),
            () = tokio::time::sleep_until(run.deadline) => timed_out(claimed.timeout_ms),
            () = dropped_after(&run.cancelled) => Outcome::Cancelled,
        }
    }
}

/// Says in log and trace what became of the attempt.
fn note(completion: &Completion, trace: Option<traces::Span>) {
    let (end, error) = (completion.end().as_str(), completion.error());
    if let Some(error) = error {
        tracing::debug!(error.code = error.code, error.category = %error.category(), job.status = end, "an attempt failed");
    }
    if let Some(mut span) = trace {
        span.note("job.status", end);
        if let Some(error) = error {
            span.fail(&error.code);
        }
    }
}

/// A result that is too large is refused here, before it is carried any further. The work is done: no second try.
fn within_bounds(outcome: Outcome) -> Outcome {
    match outcome {
        Outcome::Done(Some(result)) if result.get().len() > RESULT_MAX_BYTES => {
            let size = result.get().len();
            let message = format!("the handler's result has {size} bytes; at most {RESULT_MAX_BYTES} are kept");
            Outcome::Fail(JobError::new("result_too_large", message))
        }
        other => other,
    }
}

async fn dropped_after(cancelled: &CancellationToken) {
    cancelled.cancelled().await;
    tokio::time::sleep(CANCEL_GRACE).await;
}

fn timed_out(timeout_ms: i32) -> Outcome {
    let error = JobError::new("timeout", format!("the handler did not finish within {timeout_ms} ms"));
    Outcome::Retry { error, after: None }
}

fn panicked(panic: &(dyn Any + Send)) -> Outcome {
    let Panicked { message, location } = panics::caught(panic);
    tracing::error!(
        panic = message,
        panic.location = location,
        error.category = %Category::Server,
        "a handler panicked"
    );
    Outcome::Retry { error: JobError::new("panic", format!("the handler panicked: {message}")), after: None }
}
