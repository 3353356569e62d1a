//! `/health/*` and `/metrics` of the scheduler.

use std::net::SocketAddr;
use std::time::Duration;

use millwork_shared::infra::health::{Probes, Report};
use millwork_shared::infra::metrics::CONTENT_TYPE;
use poem::http::StatusCode;
use poem::listener::TcpListener;
use poem::web::{Data, Json, WithContentType};
use poem::{EndpointExt, IntoResponse, Route, Server, get, handler};
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use crate::metrics::METRICS;

/// Serves until `stop`.
///
/// # Errors
/// Fails when the address cannot be bound.
pub async fn serve(addr: SocketAddr, probes: Probes, stop: CancellationToken) -> anyhow::Result<()> {
    let routes = Route::new()
        .at("/health/live", get(live))
        .at("/health/ready", get(ready))
        .at("/health", get(all))
        .at("/metrics", get(metrics))
        .data(probes);
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
async fn ready(Data(probes): Data<&Probes>) -> (StatusCode, Json<Value>) {
    let (database, redis) = tokio::join!(probes.database(), probes.redis());
    answer(Report::of([database, redis]))
}

#[handler]
async fn all(Data(probes): Data<&Probes>) -> (StatusCode, Json<Value>) {
    let (database, redis, queues, disk) =
        tokio::join!(probes.database(), probes.redis(), probes.queues(), probes.disk());
    answer(Report::of([database, redis, queues, disk]))
}

#[handler]
fn metrics(Data(probes): Data<&Probes>) -> WithContentType<String> {
    METRICS.vitals.text(&probes.db).with_content_type(CONTENT_TYPE)
}

fn answer(report: Report) -> (StatusCode, Json<Value>) {
    (if report.serves() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }, Json(report.body))
}
