//! Flags and environment of the scheduler.

use std::net::SocketAddr;

use clap::Parser;
use millwork_shared::infra::config::{Faults, StoreArgs, Stores, listen_addr};
use millwork_shared::infra::telemetry::sentry::SentryArgs;
use millwork_shared::infra::telemetry::{LogConfig, Telemetry};

/// Admits waiting jobs, repairs what was lost, fires schedules. Run several: one leads, the others stand by.
#[derive(Debug, Parser)]
#[command(name = "millwork-scheduler", version)]
struct Cli {
    #[command(flatten)]
    stores: StoreArgs,
    #[command(flatten)]
    log: LogConfig,
    #[command(flatten)]
    sentry: SentryArgs,
    /// Where /health and /metrics are served [default: 127.0.0.1:8082]
    #[arg(long, env = "SCHEDULER_ADDR")]
    scheduler_addr: Option<String>,
}

/// What the scheduler needs to run.
pub struct Config {
    pub stores: Stores,
    pub telemetry: Telemetry,
    pub addr: SocketAddr,
}

impl Config {
    /// Reads flags and environment.
    ///
    /// # Errors
    /// Names every fault at once.
    pub fn read() -> anyhow::Result<Self> {
        let cli = Cli::parse();
        let mut faults = Faults::default();
        let stores = cli.stores.open(6, &mut faults);
        let addr = listen_addr("SCHEDULER_ADDR", &cli.scheduler_addr, "127.0.0.1:8082", &mut faults);
        let sentry = cli.sentry.read(&mut faults);
        let (Some(stores), Some(addr)) = (stores, addr) else {
            faults.finish()?;
            anyhow::bail!("the configuration is not usable");
        };
        faults.finish()?;
        let telemetry = Telemetry { process: "millwork-scheduler", log: cli.log, traces: None, sentry };
        Ok(Self { stores, telemetry, addr })
    }
}
