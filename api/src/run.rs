//! From a checked configuration to a server, and back.

use std::time::Duration;

use anyhow::Context;
use millwork_shared::Error;
use millwork_shared::infra::db::{self, Db};
use millwork_shared::infra::{shutdown, tasks};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::config::Config;
use crate::http::server;
use crate::{App, routes};

/// Between looks at a database that does not answer yet.
const RETRY: Duration = Duration::from_secs(1);

/// How long it may take at the end to give back what was not used of quotas, and to write what was counted.
const SETTLE: Duration = Duration::from_secs(2);

/// Brings the schema up to date.
pub async fn migrate(db: Db) -> anyhow::Result<()> {
    db::migrate(&db).await.context("the schema could not be brought up to date")?;
    tracing::info!("the schema is up to date");
    Ok(())
}

/// Serves until SIGTERM. While the database does not answer it serves `/health/*`, and 503 for the rest.
///
/// # Errors
/// Fails when the schema is older than this build needs, or the address cannot be listened on.
pub async fn serve(config: Config) -> anyhow::Result<()> {
    let telemetry = config.telemetry.clone().install()?;
    let served = serve_until_stopped(config).await;
    telemetry.flush().await;
    served
}

async fn serve_until_stopped(config: Config) -> anyhow::Result<()> {
    let Config { app, addr, server: settings, .. } = config;
    let stop = shutdown::on_signal()?;
    let schema = tasks::spawn("schema", wait_for_schema(check_schema(&app).await?, app.clone(), stop.clone()));
    let listener = TcpListener::bind(addr).await.with_context(|| format!("cannot listen on {addr} (API_ADDR)"))?;
    let (db, meter, requests) = (app.db.clone(), app.meter.clone(), app.requests.clone());
    server::serve(listener, routes::app(app), settings, stop).await?;
    let _ = tokio::time::timeout(SETTLE, async { tokio::join!(meter.give_back(true), requests.write(&db)) }).await;
    schema.await.ok().flatten().unwrap_or(Ok(()))
}

/// Opens the API if the schema fits; false when the database does not answer.
async fn check_schema(app: &App) -> anyhow::Result<bool> {
    match db::check_schema(&app.db).await {
        Ok(()) => {
            app.set_ready();
            Ok(true)
        }
        Err(error @ Error::Unavailable { .. }) => {
            tracing::warn!(%error, error.category = %error.category(), "the database does not answer yet");
            Ok(false)
        }
        Err(error) => Err(error.into()),
    }
}

/// Waits for the database; a schema that does not fit stops the server.
async fn wait_for_schema(mut checked: bool, app: App, stop: CancellationToken) -> anyhow::Result<()> {
    while !checked {
        tokio::select! {
            () = stop.cancelled() => return Ok(()),
            () = tokio::time::sleep(RETRY) => {}
        }
        checked = check_schema(&app).await.inspect_err(|_| stop.cancel())?;
    }
    tracing::info!("the API is open");
    Ok(())
}
