//! What a process says of itself while it runs: logs, traces, reports of faults.
//!
//! See docs/LOGGING.md and docs/OPERATIONS.md.

mod log;
/// Reports of faults.
pub mod sentry;
/// Spans for a collector.
pub mod traces;

use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::Instant;

pub use log::{LogConfig, LogFormat};

use super::panics;

/// Longest time that a stop waits for what has not been sent yet.
const FLUSH: Duration = Duration::from_secs(2);

/// A checked configuration.
#[derive(Debug, Clone)]
pub struct Telemetry {
    /// The name of the process: `millwork-api`.
    pub process: &'static str,
    pub log: LogConfig,
    pub traces: Option<traces::Settings>,
    pub sentry: Option<sentry::Settings>,
}

/// What has to be flushed before the process ends.
#[derive(Debug)]
#[must_use = "what was not sent yet is lost without a flush"]
pub struct Running {
    traces: Option<traces::Exporter>,
    sentry: Option<sentry::Reporter>,
}

impl Telemetry {
    /// Installs all of it for the process; the first call wins. Call it inside the runtime, which sends the traces.
    ///
    /// # Errors
    /// Fails when what sends traces or reports cannot be made.
    pub fn install(self) -> anyhow::Result<Running> {
        panics::watch();
        let reports = self.sentry.map(|settings| sentry::start(settings, self.process)).transpose()?;
        let (reports, sentry) = reports.unzip();
        self.log.install_with(reports);
        let traces = self.traces.map(traces::start).transpose()?;
        Ok(Running { traces, sentry })
    }
}

impl Running {
    /// Sends what was not sent yet, for two seconds at most.
    pub async fn flush(self) {
        let Self { traces, sentry } = self;
        let traces = traces.map(|exporter| within_limit(move || exporter.shut_down(FLUSH)));
        let sentry = sentry.map(|reporter| within_limit(move || reporter.flush(FLUSH)));
        if let Some(traces) = traces
            && !traces.await
        {
            tracing::info!("the last traces were not exported");
        }
        if let Some(sentry) = sentry
            && !sentry.await
        {
            tracing::info!("the last reports of faults were not sent");
        }
    }
}

/// Whether `flush` has sent everything in time. It blocks, perhaps for longer: its thread is left behind.
fn within_limit(flush: impl FnOnce() -> bool + Send + 'static) -> impl Future<Output = bool> {
    let (done, flushed) = oneshot::channel();
    std::thread::spawn(move || done.send(flush()));
    let deadline = Instant::now() + FLUSH;
    async move { matches!(tokio::time::timeout_at(deadline, flushed).await, Ok(Ok(true))) }
}
