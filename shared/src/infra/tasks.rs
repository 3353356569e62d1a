//! Background tasks.

use std::future::Future;

use tokio::task::{JoinHandle, JoinSet};
use tracing::Instrument;

/// Spawns `future` in the caller's span and logs its panic, which would otherwise vanish with the handle.
#[expect(clippy::disallowed_methods, reason = "the place the ban points at")]
pub fn spawn<F>(name: &'static str, future: F) -> JoinHandle<Option<F::Output>>
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    let inner = tokio::spawn(future.in_current_span());
    let guard = AbortOnDrop(inner.abort_handle());
    tokio::spawn(
        async move {
            let _guard = guard;
            match inner.await {
                Ok(output) => Some(output),
                Err(error) if error.is_panic() => {
                    tracing::error!(task.name = name, %error, "a background task panicked");
                    None
                }
                Err(_) => None,
            }
        }
        .in_current_span(),
    )
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

/// Aborting the handle that `spawn` returned aborts the task itself.
struct AbortOnDrop(tokio::task::AbortHandle);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}
