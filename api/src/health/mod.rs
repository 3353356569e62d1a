//! Whether this process, and what it depends on, can serve.

use millwork_shared::infra::health::{Check, Report, Status};
use poem::endpoint::make;
use poem::http::{HeaderValue, StatusCode, header};
use poem::{Endpoint, Response};

use crate::App;
use crate::http::problem;

/// The process runs. Looks at nothing else, so that an outage elsewhere does not restart it.
pub fn live() -> impl Endpoint<Output = Response> {
    make(|_| async { Ok::<_, poem::Error>(answer(&Report::of([]))) })
}

/// The process can do its work: its schema fits and the database answers.
pub fn ready() -> impl Endpoint<Output = Response> {
    make(|request| async move {
        let app = App::of(&request)?;
        Ok::<_, poem::Error>(answer(&Report::of([database(app).await])))
    })
}

/// Each dependency with its latency. Down without the database; degraded without Redis, workers, storage or space on
/// the disk.
pub fn all() -> impl Endpoint<Output = Response> {
    make(|request| async move {
        let app = App::of(&request)?;
        let probes = &app.probes;
        let (database, redis, queues, disk, storage) =
            tokio::join!(database(app), probes.redis(), probes.queues(), probes.disk(), probes.storage());
        Ok::<_, poem::Error>(answer(&Report::of([database, redis, queues, disk, storage])))
    })
}

async fn database(app: &App) -> Check {
    let mut check = app.probes.database().await;
    if check.status == Status::Ok && !app.is_ready() {
        check.status = Status::Down;
        check.detail = Some("its schema was not checked yet".to_owned());
    }
    check
}

fn answer(report: &Report) -> Response {
    let code = if report.serves() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let mut response = Response::builder().status(code).content_type("application/json").body(report.body.to_string());
    response.set_data(problem::Report);
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
