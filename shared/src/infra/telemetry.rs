//! Logs: JSON for machines, pretty on a terminal. See docs/LOGGING.md.

use std::io::IsTerminal;

use clap::{Args, ValueEnum};
use tracing_subscriber::EnvFilter;

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
        let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
        let tty = std::io::stdout().is_terminal();
        let format = self.log_format.unwrap_or(if tty { LogFormat::Pretty } else { LogFormat::Json });
        let builder = tracing_subscriber::fmt().with_env_filter(filter);
        let _ = match format {
            LogFormat::Json => builder.json().flatten_event(true).with_current_span(true).try_init(),
            LogFormat::Pretty => builder.compact().with_ansi(tty).try_init(),
        };
    }
}
