//! Stopping on SIGTERM and Ctrl-C.

use tokio_util::sync::CancellationToken;

use super::tasks;

/// A token that is cancelled at the first SIGTERM or SIGINT.
///
/// # Errors
/// Fails when the process may not install signal handlers.
pub fn on_signal() -> std::io::Result<CancellationToken> {
    use tokio::signal::unix::{SignalKind, signal};
    let (mut term, mut int) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let token = CancellationToken::new();
    let stop = token.clone();
    tasks::spawn("signals", async move {
        tokio::select! {
            _ = term.recv() => tracing::info!("SIGTERM: stopping"),
            _ = int.recv() => tracing::info!("SIGINT: stopping"),
        }
        stop.cancel();
    });
    Ok(token)
}
