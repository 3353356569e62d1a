//! `/health/*` and `/metrics` of the worker.

use std::net::SocketAddr;
use std::time::Duration;

use millwork_shared::infra::health::{Probes, Report, Status, probe};
use millwork_shared::infra::metrics::CONTENT_TYPE;
use poem::http::StatusCode;
use poem::listener::TcpListener;
use poem::web::{Data, Json, WithContentType};
use poem::{EndpointExt, IntoResponse, Route, Server, get, handler};
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use crate::email::Reach;
use crate::metrics::METRICS;

/// What the worker depends on.
#[derive(Clone)]
pub struct Dependencies {
    pub probes: Probes,
    pub mail: Reach,
}

/// Serves until `stop`.
///
/// # Errors
/// Fails when the address cannot be bound.
pub async fn serve(addr: SocketAddr, dependencies: Dependencies, stop: CancellationToken) -> anyhow::Result<()> {
    let routes = Route::new()
        .at("/health/live", get(live))
        .at("/health/ready", get(ready))
        .at("/health", get(all))
        .at("/metrics", get(metrics))
        .data(dependencies);
    Server::new(TcpListener::bind(addr))
        .run_with_graceful_shutdown(routes, stop.cancelled_owned(), Some(Duration::from_secs(1)))
        .await
        .map_err(|e| anyhow::anyhow!("cannot listen on {addr}: {e}"))
}

#[handler]
fn live() -> (StatusCode, Json<Value>) {
    answer(Report::of([]))
}

#[handler]
async fn ready(Data(on): Data<&Dependencies>) -> (StatusCode, Json<Value>) {
    let (database, redis) = tokio::join!(on.probes.database(), on.probes.redis());
    answer(Report::of([database, redis]))
}

#[handler]
async fn all(Data(on): Data<&Dependencies>) -> (StatusCode, Json<Value>) {
    let mail = probe("mail", Status::Degraded, on.mail.check());
    let probes = &on.probes;
    let (database, redis, disk, storage, mail) =
        tokio::join!(probes.database(), probes.redis(), probes.disk(), probes.storage(), mail);
    answer(Report::of([database, redis, disk, storage, mail]))
}

#[handler]
fn metrics(Data(on): Data<&Dependencies>) -> WithContentType<String> {
    METRICS.vitals.text(&on.probes.db).with_content_type(CONTENT_TYPE)
}

fn answer(report: Report) -> (StatusCode, Json<Value>) {
    (if report.serves() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }, Json(report.body))
}
