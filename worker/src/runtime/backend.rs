//! Claimed jobs as an apalis backend.
//!
//! apalis is given jobs that are already leased, in the order in which they were taken and each with the turn to run, so
//! that what it starts at once may start in any order. Its completion layer hands outcomes on to the ledger. Errors of the
//! stores never reach apalis, where they would end the worker: the fetch loop and the completer wait them out.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use apalis::prelude::{Backend, Task, WorkerContext};
use apalis_core::backend::BackendConfig;
use apalis_core::backend::finalize::Ephemeral;
use millwork_shared::infra::ids::JobId;
use millwork_shared::jobs::Queue;
use millwork_shared::jobs::queries::Claimed;
use tokio::sync::mpsc;
use tower::{Layer, Service};

use super::complete::Completion;
use super::turns::{Line, Turn, Turns};

/// The jobs that the fetch loop of one queue has claimed.
pub struct LedgerBackend {
    queue: Queue,
    claimed: mpsc::Receiver<Claimed>,
    line: Line,
    completions: mpsc::Sender<Completion>,
}

/// A job that may start.
#[derive(Debug)]
pub struct Next {
    pub claimed: Claimed,
    pub turn: Turn,
}

impl LedgerBackend {
    pub fn new(
        queue: Queue,
        claimed: mpsc::Receiver<Claimed>,
        turns: Arc<Turns>,
        completions: mpsc::Sender<Completion>,
    ) -> Self {
        Self { queue, claimed, line: Line::new(turns), completions }
    }
}

impl Backend for LedgerBackend {
    type Task = Task<Next>;
    type Error = Infallible;

    fn poll_ready(&mut self, _: &mut Context<'_>, _: &WorkerContext) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    /// None, the end, once the fetch loop has stopped.
    fn poll_next(&mut self, cx: &mut Context<'_>, _: &WorkerContext) -> Poll<Option<Result<Self::Task, Infallible>>> {
        let Self { claimed, line, .. } = self;
        line.poll_next(cx, |cx| claimed.poll_recv(cx))
            .map(|next| next.map(|(claimed, turn)| Ok(Task::new(Next { claimed, turn }))))
    }

    fn poll_close(&mut self, _: &mut Context<'_>, _: &WorkerContext) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }
}

impl BackendConfig for LedgerBackend {
    type Args = Next;
    type Id = JobId;
    type Kind = Ephemeral;
    type Config = Queue;
    type Layer = CompletionLayer;

    fn config(&self) -> &Queue {
        &self.queue
    }

    fn middleware(&mut self, _: &mut WorkerContext) -> CompletionLayer {
        CompletionLayer { completions: self.completions.clone() }
    }
}

/// Hands the outcome of every job to the completer. The outermost layer, so that it sees what every other layer made.
pub struct CompletionLayer {
    completions: mpsc::Sender<Completion>,
}

impl<S> Layer<S> for CompletionLayer {
    type Service = CompletionService<S>;

    fn layer(&self, inner: S) -> Self::Service {
        CompletionService { inner, completions: self.completions.clone() }
    }
}

pub struct CompletionService<S> {
    inner: S,
    completions: mpsc::Sender<Completion>,
}

impl<S, Args> Service<Task<Args>> for CompletionService<S>
where
    S: Service<Task<Args>, Response = Option<Completion>>,
    S::Future: Send + 'static,
    S::Error: Send,
{
    type Response = ();
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<(), S::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, task: Task<Args>) -> Self::Future {
        let completions = self.completions.clone();
        let outcome = self.inner.call(task);
        Box::pin(async move {
            if let Some(completion) = outcome.await? {
                // A full channel holds the job's future here, and with it the worker, until the ledger catches up.
                let _ = completions.send(completion).await;
            }
            Ok(())
        })
    }
}
