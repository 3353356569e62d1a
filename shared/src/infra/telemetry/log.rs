//! Logs: JSON for machines, pretty on a terminal. See docs/LOGGING.md.

use std::io::IsTerminal;

use clap::{Args, ValueEnum};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, fmt};

use super::sentry::Reports;

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    Json,
    Pretty,
}

#[derive(Debug, Clone, Args)]
pub struct LogConfig {
    /// Form of the log lines [default: json; pretty on a terminal]. RUST_LOG filters them, `info` by default
    #[arg(long, env = "LOG_FORMAT", value_enum)]
    pub log_format: Option<LogFormat>,
}

impl LogConfig {
    /// Installs the process-wide subscriber; the first call wins.
    pub fn install(&self) {
        self.install_with(None);
    }

    /// The same, with reports of what is logged.
    pub(super) fn install_with(&self, reports: Option<Reports>) {
        let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
        let tty = std::io::stdout().is_terminal();
        let format = self.log_format.unwrap_or(if tty { LogFormat::Pretty } else { LogFormat::Json });
        // One filter for all: filters by layer were seen to lose lines (decision 0016).
        let filtered = tracing_subscriber::registry().with(filter);
        let json = || fmt::layer().json().flatten_event(true).with_current_span(true);
        let _ = match format {
            LogFormat::Json => filtered.with(json()).with(reports).try_init(),
            LogFormat::Pretty => filtered.with(fmt::layer().compact().with_ansi(tty)).with(reports).try_init(),
        };
    }
}
