//! `/health/*` of the scheduler.

use std::net::SocketAddr;
use std::time::Duration;

use millwork_shared::infra::health::Probes;
use poem::http::StatusCode;
use poem::listener::TcpListener;
use poem::web::{Data, Json};
use poem::{EndpointExt, Route, Server, get, handler};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

/// Serves until `stop`.
///
/// # Errors
/// Fails when the address cannot be bound.
pub async fn serve(addr: SocketAddr, probes: Probes, stop: CancellationToken) -> anyhow::Result<()> {
    let routes = Route::new()
        .at("/health/live", get(live))
        .at("/health/ready", get(ready))
        .at("/health", get(ready))
        .data(probes);
    Server::new(TcpListener::bind(addr))
        .run_with_graceful_shutdown(routes, stop.cancelled_owned(), Some(Duration::from_secs(1)))
        .await
        .map_err(|e| anyhow::anyhow!("cannot listen on {addr}: {e}"))
}

#[handler]
fn live() -> Json<Value> {
    Json(json!({ "status": "ok" }))
}

#[handler]
async fn ready(probes: Data<&Probes>) -> (StatusCode, Json<Value>) {
    let (serves, report) = probes.check().await;
    (if serves { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }, Json(report))
}
