//! Whether this process, and what it depends on, can serve.

use std::time::{Duration, Instant};

use millwork_shared::infra::ids::TenantId;
use millwork_shared::{Result, health};
use poem::endpoint::make;
use poem::http::{HeaderValue, StatusCode, header};
use poem::{Endpoint, Response};
use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::App;
use crate::http::problem::Report;

/// Longest time one dependency is given to answer.
const PROBE_TIMEOUT: Duration = Duration::from_millis(1_500);

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
enum Status {
    Ok,
    Degraded,
    Down,
}

struct Check {
    name: &'static str,
    status: Status,
    latency: Duration,
    detail: Option<String>,
}

/// The process runs. Looks at nothing else, so that an outage elsewhere does not restart it.
pub fn live() -> impl Endpoint<Output = Response> {
    make(|_| async { Ok::<_, poem::Error>(answer(Status::Ok, Map::new())) })
}

/// The process can do its work: its schema fits and the database answers.
pub fn ready() -> impl Endpoint<Output = Response> {
    make(|request| async move {
        let app = App::of(&request)?;
        Ok::<_, poem::Error>(report(vec![database(app).await]))
    })
}

/// Each dependency with its latency. Down without the database; degraded without Redis or workers.
pub fn all() -> impl Endpoint<Output = Response> {
    make(|request| async move {
        let app = App::of(&request)?;
        let (database, redis, queues) = tokio::join!(database(app), redis(app), queues(app));
        Ok::<_, poem::Error>(report(vec![database, redis, queues]))
    })
}

async fn database(app: &App) -> Check {
    let mut check = probe("database", Status::Down, async { app.db.ping().await.map(|()| None) }).await;
    if check.status == Status::Ok && !app.is_ready() {
        check.status = Status::Down;
        check.detail = Some("its schema was not checked yet".to_owned());
    }
    check
}

async fn redis(app: &App) -> Check {
    let ping = async { app.dispatcher.ping().await.map(|()| None) };
    probe("redis", Status::Degraded, ping).await
}

async fn queues(app: &App) -> Check {
    let count = async {
        let mut tx = app.db.tenant(TenantId(uuid::Uuid::nil())).await?;
        let workers = health::count_live_workers(&mut tx).await?;
        tx.commit().await?;
        Ok((workers == 0).then(|| "no worker is alive: jobs are kept, and wait".to_owned()))
    };
    probe("queues", Status::Degraded, count).await
}

/// Runs one probe under its deadline. `worst` is what its failure means; a sentence from a probe means it too.
async fn probe(name: &'static str, worst: Status, work: impl Future<Output = Result<Option<String>>>) -> Check {
    let started = Instant::now();
    let detail = match tokio::time::timeout(PROBE_TIMEOUT, work).await {
        Ok(Ok(detail)) => detail,
        Ok(Err(error)) => {
            tracing::warn!(%error, dependency = name, "a health probe failed");
            Some("does not answer".to_owned())
        }
        Err(_) => Some(format!("does not answer within {} ms", PROBE_TIMEOUT.as_millis())),
    };
    let status = if detail.is_some() { worst } else { Status::Ok };
    Check { name, status, latency: started.elapsed(), detail }
}

fn report(checks: Vec<Check>) -> Response {
    let status = checks.iter().map(|check| check.status).max().unwrap_or(Status::Ok);
    let mut members = Map::new();
    for check in checks {
        let latency_ms = (check.latency.as_secs_f64() * 1e5).round() / 100.0;
        let mut value = json!({ "status": check.status, "latency_ms": latency_ms });
        if let Some(detail) = check.detail {
            value["detail"] = Value::String(detail);
        }
        members.insert(check.name.to_owned(), value);
    }
    answer(status, members)
}

fn answer(status: Status, checks: Map<String, Value>) -> Response {
    let mut body = json!({ "status": status, "version": env!("CARGO_PKG_VERSION") });
    if !checks.is_empty() {
        body["checks"] = Value::Object(checks);
    }
    let code = if status == Status::Down { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::OK };
    let mut response = Response::builder().status(code).content_type("application/json").body(body.to_string());
    response.set_data(Report);
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
