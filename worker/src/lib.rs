//! Does the jobs of Millwork.

use std::sync::Arc;

use millwork_shared::infra::clock::Clock;
use millwork_shared::infra::disk::Volume;
use millwork_shared::infra::health::Probes;
use millwork_shared::infra::{db, tasks};
use millwork_shared::jobs::dispatch::Dispatcher;
use tokio_util::sync::CancellationToken;

use crate::metrics::METRICS;

/// Looks after audit entries.
pub mod audit;
/// Mails to users about their accounts.
pub mod auth;
/// Flags and environment.
pub mod config;
/// What handlers may use.
pub mod context;
/// The HTTP client for calls that third parties asked for.
pub mod egress;
/// Sends mail: words from templates or from the client, by SMTP or into a folder.
pub mod email;
/// What tenants take out.
pub mod exports;
/// Files that clients sent straight to storage.
pub mod files;
/// `/health/*` and `/metrics`.
mod health;
/// Calls of a URL, made later.
pub mod http_requests;
/// Brings in rows of files.
pub mod imports;
/// Mails that ask people to join a tenant.
pub mod invitations;
/// Work on jobs themselves.
pub mod jobs;
/// Partitions and retention.
pub mod maintenance;
/// Figures for Prometheus.
pub mod metrics;
/// What storage has that the database does not know of, and the other way round.
pub mod objects;
/// Erases people.
pub mod personal_data;
/// Mails about quotas.
pub mod quotas;
/// Contents page: every feature's handlers.
pub mod registry;
/// Claim, run and complete: everything that handlers need not know.
pub mod runtime;
/// Events on their way to endpoints.
pub mod webhooks;

/// Runs the worker process until `stop`.
///
/// # Errors
/// Fails on a schema older than this build, and when its address cannot be bound.
pub async fn run(config: config::Config, stop: CancellationToken) -> anyhow::Result<()> {
    let telemetry = config.telemetry.clone().install()?;
    let worked = work(config, stop).await;
    telemetry.flush().await;
    worked
}

async fn work(config: config::Config, stop: CancellationToken) -> anyhow::Result<()> {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let stores = config.stores;
    let dispatcher = Dispatcher::new(stores.redis.clone());
    let mail = config.mailer.reach();
    let folder = mail.folder().map(|folder| Volume::new("mail", folder));
    let volumes = [Volume::temporary()].into_iter().chain(folder).chain(config.storage.volume()).collect();
    let storage = Some(config.storage.clone());
    let probes = Probes { db: stores.db.clone(), dispatcher: dispatcher.clone(), volumes, storage };
    tasks::spawn("metrics", METRICS.vitals.watch(probes.clone()));
    let serve = health::serve(config.addr, health::Dependencies { probes, mail }, stop.clone());
    let serve = tasks::spawn("health", serve);
    db::wait_for_schema(&stores.db, &stop).await?;
    let context = context::Context {
        system: stores.db.system(),
        db: stores.db.clone(),
        keys: config.keys,
        clock: Clock::default(),
        retention: config.retention,
        egress: egress::Egress::new(config.nets)?,
        deliveries: webhooks::Deliveries::new(config.webhooks, stores.db.system(), stores.redis),
        storage: config.storage,
        media_types: config.media_types,
        mailer: config.mailer,
        public_url: config.public_url,
        dispatcher: dispatcher.clone(),
    };
    let runtime = runtime::Runtime {
        settings: config.settings,
        registry: registry::registry(Arc::new(context)),
        system: stores.db.system(),
        dispatcher,
        redis_client: stores.redis_client,
    };
    let mut work = tasks::spawn("runtime", runtime.run(stop.clone()));
    tokio::select! {
        done = &mut work => return ended(done.ok().flatten().transpose().map_err(Into::into)),
        served = serve => {
            if !stop.is_cancelled() {
                return ended(served.ok().flatten().transpose());
            }
        }
    }
    ended(work.await.ok().flatten().transpose().map_err(Into::into))
}

fn ended(result: anyhow::Result<Option<()>>) -> anyhow::Result<()> {
    result?.ok_or_else(|| anyhow::anyhow!("the worker panicked, see the log"))
}
