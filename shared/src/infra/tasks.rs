//! Background tasks.

use std::future::Future;
use std::panic::AssertUnwindSafe;

use futures::FutureExt;
use tokio::task::{JoinHandle, JoinSet};
use tracing::Instrument;

use super::panics::{self, Panicked};
use crate::Category;

/// Spawns `future` in the caller's span and logs its panic, which would otherwise vanish with the handle.
#[expect(clippy::disallowed_methods, reason = "the place the ban points at")]
pub fn spawn<F>(name: &'static str, future: F) -> JoinHandle<Option<F::Output>>
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    let watched = async move {
        let result = AssertUnwindSafe(future).catch_unwind().await;
        result.map_err(|panic| panics::caught(&*panic)).inspect_err(|panic| panicked(name, panic)).ok()
    };
    tokio::spawn(watched.in_current_span())
}

fn panicked(name: &str, panic: &Panicked) {
    tracing::error!(
        task.name = name,
        panic = panic.message,
        panic.location = panic.location,
        error.category = %Category::Server,
        "a background task panicked"
    );
}

/// Spawns `future` into `set`, which aborts it when dropped.
pub fn join<T: Send + 'static>(set: &mut JoinSet<T>, future: impl Future<Output = T> + Send + 'static) {
    set.spawn(future.in_current_span());
}

/// Spawns a job's handler, which reports its own panics; the executor that apalis workers run on.
#[expect(clippy::disallowed_methods, reason = "the place the ban points at")]
pub fn spawn_handler<F>(future: F) -> JoinHandle<F::Output>
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    tokio::spawn(future)
}

/// Runs `future` to its end and forgets it: for short work whose failure it logs itself.
#[expect(clippy::disallowed_methods, reason = "the place the ban points at")]
pub fn detach(future: impl Future<Output = ()> + Send + 'static) {
    tokio::spawn(future.in_current_span());
}
