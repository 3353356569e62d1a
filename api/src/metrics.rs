//! Figures of this process for Prometheus, see docs/OPERATIONS.md.

use std::sync::{Arc, LazyLock, OnceLock};
use std::time::{Duration, Instant};

use millwork_shared::infra::health::Probes;
use millwork_shared::infra::metrics::{
    CONTENT_TYPE, COUNTS, Histogram, HistogramVec, IntCounter, IntCounterVec, IntGauge, OTHER, QUICK, Registry, Vitals,
};
use millwork_shared::infra::tasks;
use millwork_shared::jobs::depths::DepthGauges;
use poem::endpoint::make;
use poem::http::{HeaderValue, StatusCode, header};
use poem::{Endpoint, Request, Response};
use tokio::task::JoinSet;

use crate::App;

/// Everything that this process counts.
pub static METRICS: LazyLock<Metrics> = LazyLock::new(Metrics::register);

pub struct Metrics {
    vitals: Vitals,
    depths: DepthGauges,
    in_flight: IntGauge,
    /// Open connections.
    pub connections: IntGauge,
    /// Requests by why they were refused.
    refused: IntCounterVec,
    /// By `full` and `address`.
    pub connections_refused: IntCounterVec,
    requests: IntCounterVec,
    request_s: HistogramVec,
    /// What matches no route.
    unknown: Route,
    /// Jobs that need no look at a key.
    pub plain: Writer,
    /// Jobs with a unique or an idempotency key.
    pub careful: Writer,
    /// Events, with their deliveries.
    pub events: Writer,
    /// Jobs of `POST /jobs/batch`.
    pub batch_jobs: IntCounter,
}

/// Codes of problems by which refusals are counted: limits, quotas, and who may not.
pub const REFUSALS: [&str; 16] = [
    "ip_not_allowed",
    "login_refused",
    "not_a_member",
    "otp_locked",
    "otp_required",
    "otp_wrong",
    "password_wrong",
    "permission_missing",
    "quota_exceeded",
    "rate_limited",
    "refresh_token_invalid",
    "refresh_token_reused",
    "registration_closed",
    "token_expired",
    "token_invalid",
    "unauthenticated",
];

/// One of the writers in which submissions gather.
pub struct Writer {
    pub batch: Histogram,
    pub commit_s: Histogram,
    /// Jobs that were committed.
    pub jobs: IntCounter,
    /// Submissions that found no room.
    pub refused: IntCounter,
}

impl Metrics {
    fn register() -> Self {
        let registry = Registry::default();
        let writer = ["writer"];
        let batch = registry.histograms(
            "millwork_intake_batch_size",
            "Submissions that were stored by one transaction",
            COUNTS,
            &writer,
        );
        let commit_s = registry.histograms(
            "millwork_intake_commit_seconds",
            "How long a transaction of the intake took, from its beginning to its commit",
            QUICK,
            &writer,
        );
        let jobs = registry.counters("millwork_jobs_stored_total", "Jobs committed to the ledger by requests", &writer);
        let refused = registry.counters(
            "millwork_intake_refused_total",
            "Submissions that were answered 503 because too many waited",
            &writer,
        );
        let writer = |name| Writer {
            batch: batch.with_label_values(&[name]),
            commit_s: commit_s.with_label_values(&[name]),
            jobs: jobs.with_label_values(&[name]),
            refused: refused.with_label_values(&[name]),
        };
        let refused = registry.counters(
            "millwork_http_requests_refused_total",
            "Requests that were refused for who asked, or for how much",
            &["reason"],
        );
        REFUSALS.iter().for_each(|code| drop(refused.with_label_values(&[code]))); // so that they begin with 0
        let connections_refused = registry.counters(
            "millwork_http_connections_refused_total",
            "Connections that were closed since there were too many, at all or by one address",
            &["reason"],
        );
        ["full", "address"].iter().for_each(|why| drop(connections_refused.with_label_values(&[why])));
        Self {
            plain: writer("plain"),
            careful: writer("careful"),
            events: writer("events"),
            batch_jobs: jobs.with_label_values(&["batch"]),
            in_flight: registry.int_gauge("millwork_http_requests_in_flight", "Requests that are being answered"),
            connections: registry.int_gauge("millwork_http_connections", "Connections of clients that are open"),
            refused,
            connections_refused,
            requests: registry.counters(
                "millwork_http_requests_total",
                "Requests that were answered, by route and class of status",
                &["method", "route", "status"],
            ),
            request_s: registry.histograms(
                "millwork_http_request_duration_seconds",
                "How long requests took until their answer began",
                QUICK,
                &["method", "route"],
            ),
            unknown: Route::new(OTHER, OTHER),
            depths: DepthGauges::register(&registry),
            vitals: Vitals::over(registry, "api"),
        }
    }

    /// Begins the looks at what this process depends on; they end with the set.
    pub fn watch(probes: &Probes) -> JoinSet<()> {
        let mut looks = JoinSet::new();
        tasks::join(&mut looks, METRICS.vitals.watch(probes.clone()));
        tasks::join(&mut looks, METRICS.depths.watch(probes.db.system()));
        looks
    }

    /// Counts a refusal by the code of its problem, if it is one of [`REFUSALS`].
    pub fn refused(&self, code: &str) {
        if REFUSALS.contains(&code) {
            self.refused.with_label_values(&[code]).inc();
        }
    }

    /// Notes a request that begins now; `seen` learns which route it takes.
    pub fn begin(&'static self, seen: &Seen) -> InFlight {
        self.in_flight.inc();
        InFlight { metrics: self, seen: seen.clone(), began: Instant::now() }
    }
}

/// A route of the API by its pattern, as `/api/v1/jobs/{id}`.
#[derive(Debug)]
pub struct Route {
    method: String,
    pattern: String,
    series: OnceLock<Series>,
}

#[derive(Debug)]
struct Series {
    duration_s: Histogram,
    /// By the first digit of the status, from 2 on.
    answers: [IntCounter; 4],
}

impl Route {
    pub fn new(method: &str, pattern: impl Into<String>) -> Self {
        Self { method: method.to_owned(), pattern: pattern.into(), series: OnceLock::new() }
    }

    fn count(&self, metrics: &Metrics, status: StatusCode, took: Duration) {
        let (method, route) = (self.method.as_str(), self.pattern.as_str());
        let series = self.series.get_or_init(|| Series {
            duration_s: metrics.request_s.with_label_values(&[method, route]),
            answers: ["2xx", "3xx", "4xx", "5xx"]
                .map(|class| metrics.requests.with_label_values(&[method, route, class])),
        });
        series.duration_s.observe(took.as_secs_f64());
        let class = usize::from(status.as_u16() / 100).clamp(2, 5);
        series.answers[class - 2].inc();
    }
}

/// Which route a request took, known once it was found.
#[derive(Debug, Clone, Default)]
pub struct Seen(Arc<OnceLock<Arc<Route>>>);

impl Seen {
    /// Notes that `request` takes `route`.
    pub fn note(request: &Request, route: &Arc<Route>) {
        if let Some(Self(seen)) = request.data() {
            let _ = seen.set(route.clone());
        }
    }
}

/// A request under way. Dropped without an end, it was given up by its client.
pub struct InFlight {
    metrics: &'static Metrics,
    seen: Seen,
    began: Instant,
}

impl InFlight {
    /// Method and pattern of the route, once it was found.
    pub fn route(&self) -> Option<(&str, &str)> {
        self.seen.0.get().map(|route| (route.method.as_str(), route.pattern.as_str()))
    }

    pub fn end(self, status: StatusCode) {
        let route = self.seen.0.get().map_or(&self.metrics.unknown, |route| route);
        route.count(self.metrics, status, self.began.elapsed());
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.metrics.in_flight.dec();
    }
}

/// `GET /metrics`.
pub fn page() -> impl Endpoint<Output = Response> {
    make(|request| async move {
        let app = App::of(&request)?;
        let mut response = Response::builder().content_type(CONTENT_TYPE).body(METRICS.vitals.text(&app.db));
        response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        Ok::<_, poem::Error>(response)
    })
}
