//! Flags and environment of the worker.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use clap::Parser;
use millwork_shared::egress::{AllowedNets, EgressArgs};
use millwork_shared::files::media::MediaTypes;
use millwork_shared::files::settings::FileArgs;
use millwork_shared::infra::config::{
    Faults, KeyRingArgs, PublicUrl, PublicUrlArgs, StoreArgs, Stores, listen_addr, parse,
};
use millwork_shared::infra::crypto::KeyRing;
use millwork_shared::infra::storage::{Storage, StorageArgs};
use millwork_shared::infra::telemetry::sentry::SentryArgs;
use millwork_shared::infra::telemetry::traces::TraceArgs;
use millwork_shared::infra::telemetry::{LogConfig, Telemetry};
use millwork_shared::jobs::Queue;
use millwork_shared::maintenance::Retention;

use crate::email::{MailArgs, Mailer};
use crate::runtime::Settings;
use crate::webhooks::{self, WebhookArgs};

/// What this process calls itself.
const PROCESS: &str = "millwork-worker";

/// Does the jobs of Millwork.
#[derive(Debug, Parser)]
#[command(name = "millwork-worker", version)]
struct Cli {
    #[command(flatten)]
    stores: StoreArgs,
    #[command(flatten)]
    keys: KeyRingArgs,
    #[command(flatten)]
    log: LogConfig,
    #[command(flatten)]
    traces: TraceArgs,
    #[command(flatten)]
    sentry: SentryArgs,
    #[command(flatten)]
    webhooks: WebhookArgs,
    #[command(flatten)]
    egress: EgressArgs,
    #[command(flatten)]
    storage: StorageArgs,
    #[command(flatten)]
    files: FileArgs,
    #[command(flatten)]
    mail: MailArgs,
    #[command(flatten)]
    public_url: PublicUrlArgs,
    /// Where the API listens; PUBLIC_URL is derived from it [default: 127.0.0.1:8080]
    #[arg(long, env = "API_ADDR")]
    api_addr: Option<String>,
    /// Where /health and /metrics are served [default: 127.0.0.1:8081]
    #[arg(long, env = "WORKER_ADDR")]
    worker_addr: Option<String>,
    /// Queues to serve, each with its own concurrency if given: webhooks=200,email [default: all]
    #[arg(long = "queues", env = "WORKER_QUEUES")]
    worker_queues: Option<String>,
    /// Jobs at once in each queue that has no figure of its own [default: 100]
    #[arg(long = "concurrency", env = "WORKER_CONCURRENCY")]
    worker_concurrency: Option<String>,
    /// Seconds that running handlers may finish after SIGTERM [default: 25]
    #[arg(long, env = "SHUTDOWN_GRACE_S")]
    shutdown_grace_s: Option<String>,
    /// Days that finished jobs, events and deliveries are kept [default: 30]
    #[arg(long, env = "RETENTION_DAYS")]
    retention_days: Option<String>,
}

/// What the worker needs to run.
pub struct Config {
    pub stores: Stores,
    pub keys: Arc<KeyRing>,
    pub telemetry: Telemetry,
    pub addr: SocketAddr,
    pub settings: Settings,
    pub webhooks: webhooks::Settings,
    pub nets: AllowedNets,
    pub storage: Storage,
    pub media_types: MediaTypes,
    pub retention: Retention,
    pub mailer: Mailer,
    pub public_url: PublicUrl,
}

impl Config {
    /// Reads flags and environment.
    ///
    /// # Errors
    /// Names every fault at once.
    pub fn read() -> anyhow::Result<Self> {
        let cli = Cli::parse();
        let mut faults = Faults::default();
        let stores = cli.stores.open(16, &mut faults);
        let keys = cli.keys.read(&mut faults);
        let addr = listen_addr("WORKER_ADDR", &cli.worker_addr, "127.0.0.1:8081", &mut faults);
        let concurrency = faults.optional("WORKER_CONCURRENCY", &cli.worker_concurrency, concurrency).unwrap_or(100);
        let queues = match &cli.worker_queues {
            Some(text) if !text.trim().is_empty() => {
                parse_queues(text, concurrency).map_err(|e| faults.push("WORKER_QUEUES", e)).unwrap_or_default()
            }
            _ => Queue::ALL.into_iter().map(|queue| (queue, concurrency)).collect(),
        };
        let grace_s = faults.optional("SHUTDOWN_GRACE_S", &cli.shutdown_grace_s, parse::<u64>).unwrap_or(25);
        let retention = faults.optional("RETENTION_DAYS", &cli.retention_days, Retention::from_str).unwrap_or_default();
        let webhooks = cli.webhooks.read(&mut faults);
        let nets = cli.egress.read(&mut faults);
        let storage = cli.storage.read(&mut faults);
        let media_types = cli.files.read(&mut faults).media_types;
        let mailer = cli.mail.read(&mut faults);
        let public_url = cli.public_url.read(&cli.api_addr, &mut faults);
        let traces = cli.traces.read(PROCESS, &mut faults);
        let sentry = cli.sentry.read(&mut faults);
        let (Some(stores), Some(keys), Some(addr), Some(webhooks), Some(storage), Some(mailer), Some(public_url)) =
            (stores, keys, addr, webhooks, storage, mailer, public_url)
        else {
            faults.finish()?;
            anyhow::bail!("the configuration is not usable");
        };
        faults.finish()?;
        let settings = Settings { queues, grace: Duration::from_secs(grace_s), ..Settings::default() };
        let telemetry = Telemetry { process: PROCESS, log: cli.log, traces, sentry };
        Ok(Self {
            stores,
            keys,
            telemetry,
            addr,
            settings,
            webhooks,
            nets,
            storage,
            media_types,
            retention,
            mailer,
            public_url,
        })
    }
}

fn concurrency(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(n) if (1..=2_000).contains(&n) => Ok(n),
        _ => Err(format!("`{text}` is not a number from 1 to 2000")),
    }
}

fn parse_queues(text: &str, default: usize) -> Result<BTreeMap<Queue, usize>, String> {
    text.split(',')
        .map(|part| {
            let (name, figure) = part.trim().split_once('=').map_or((part.trim(), None), |(n, c)| (n, Some(c)));
            Ok((name.parse()?, figure.map_or(Ok(default), concurrency)?))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queues_are_named_alone_or_with_their_concurrency() {
        let queues = parse_queues("webhooks=200, email", 100).unwrap();
        assert_eq!(queues, BTreeMap::from([(Queue::Webhooks, 200), (Queue::Email, 100)]));
        for bad in ["webhook", "email=0", "email=x", "email=2001", "email,,"] {
            assert!(parse_queues(bad, 100).is_err(), "{bad}");
        }
    }
}
