//! What a scrape shows, and to whom.

use std::time::{Duration, Instant};

use millwork_shared::testing::{TestDb, metrics::sample};
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{Options, PATIENCE, Reply, TestApp};

fn echo() -> Value {
    json!({ "kind": "echo", "payload": {} })
}

impl TestApp {
    async fn scrape(&self) -> String {
        let reply = self.anonymous().get("//metrics").await;
        assert_eq!(reply.status, 200, "{}", reply.text());
        assert_eq!(reply.header("content-type"), "text/plain; version=0.0.4; charset=utf-8");
        reply.text()
    }

    async fn figure(&self, series: &str) -> f64 {
        sample(&self.scrape().await, series).unwrap_or(0.0)
    }
}

#[tokio::test]
async fn requests_are_counted_by_the_pattern_of_their_route_and_never_by_what_is_in_it() {
    let app = TestApp::start().await;
    let owner = app.tenant("acme").await.owner;
    let got = r#"millwork_http_requests_total{method="GET",route="/api/v1/jobs/{id}",status="4xx"}"#;
    let took = r#"millwork_http_request_duration_seconds_count{method="GET",route="/api/v1/jobs/{id}"}"#;
    let (got_before, took_before) = (app.figure(got).await, app.figure(took).await);
    let ids = [(); 3].map(|()| uuid::Uuid::new_v4().to_string());
    for id in &ids {
        owner.get(&format!("/jobs/{id}")).await.problem(404, "not_found");
    }
    assert_eq!((app.figure(got).await - got_before, app.figure(took).await - took_before), (3.0, 3.0));

    let unknown = r#"millwork_http_requests_total{method="other",route="other",status="4xx"}"#;
    let unknown_before = app.figure(unknown).await;
    for path in ["/no/such/route", "/no/such/other"] {
        owner.get(path).await.expect(404);
    }
    assert_eq!(app.figure(unknown).await - unknown_before, 2.0);
    let page = app.scrape().await;
    assert!(ids.iter().all(|id| !page.contains(id)) && !page.contains("/no/such"), "{page}");
    assert!(sample(&page, "millwork_http_requests_in_flight").unwrap() >= 1.0, "this one at least");
}

#[tokio::test]
async fn refusals_are_counted_by_reason() {
    let app = TestApp::start_with(Options { limits: "starter=100/2/100".parse().unwrap(), ..Options::default() }).await;
    let acme = app.tenant("acme").await;
    let key = acme.api_key(&["jobs:read"]).await;
    let series = |reason: &str| format!(r#"millwork_http_requests_refused_total{{reason="{reason}"}}"#);
    let reasons = ["unauthenticated", "token_invalid", "login_refused", "permission_missing", "rate_limited"];
    let mut before = Vec::new();
    for reason in reasons {
        before.push(app.figure(&series(reason)).await);
    }
    app.anonymous().get("/jobs").await.expect(401);
    app.bearer("nobody").get("/jobs").await.expect(401);
    app.anonymous().post("/auth/login", json!({ "email": acme.email, "password": "wrong" })).await.expect(401);
    key.post("/jobs", echo()).await.expect(403);
    acme.owner.get("/auth/me").await.expect(200);
    acme.owner.get("/auth/me").await.expect(429);
    for (reason, before) in reasons.into_iter().zip(before) {
        assert_eq!(app.figure(&series(reason)).await - before, 1.0, "{reason}");
    }
    let page = app.scrape().await;
    assert!(sample(&page, "millwork_http_connections").unwrap() >= 1.0);
    let known = millwork_api::metrics::REFUSALS;
    for line in page.lines().filter(|line| line.starts_with("millwork_http_requests_refused_total{")) {
        assert!(known.iter().any(|code| line.contains(&format!("\"{code}\""))), "{line}");
    }
}

#[tokio::test]
async fn what_the_intake_stores_is_counted_by_its_writer() {
    let app = TestApp::start().await;
    let owner = app.tenant("acme").await.owner;
    let jobs = [
        r#"millwork_jobs_stored_total{writer="plain"}"#,
        r#"millwork_jobs_stored_total{writer="careful"}"#,
        r#"millwork_jobs_stored_total{writer="batch"}"#,
        r#"millwork_intake_batch_size_sum{writer="plain"}"#,
        r#"millwork_intake_commit_seconds_count{writer="plain"}"#,
        r#"millwork_intake_batch_size_sum{writer="events"}"#,
    ];
    let figures = async || {
        let page = app.scrape().await;
        jobs.map(|series| sample(&page, series).unwrap())
    };
    let before = figures().await;
    owner.post("/jobs", echo()).await.expect(202);
    owner.post("/jobs", echo()).await.expect(202);
    owner.post_once("/jobs", "key", echo()).await.expect(202);
    owner.post_once("/jobs", "key", echo()).await.expect(202); // a replay, which stores nothing
    owner.post("/jobs/batch", json!({ "jobs": [echo(), echo(), echo()] })).await.expect(202);
    owner.post("/events", json!({ "type": "order.paid", "payload": {} })).await.expect(202);
    let after = figures().await;
    let change: Vec<f64> = after.iter().zip(before).map(|(after, before)| after - before).collect();
    assert_eq!(change, [2.0, 1.0, 3.0, 2.0, 2.0, 1.0]);
}

#[tokio::test]
async fn it_shows_what_the_scheduler_counted_and_the_process_itself() {
    let db = TestDb::create().await;
    let row = "insert into queue_depths values ('exports', 41, 1, 2, 3, 4, now() - interval '90 s', 5, now())";
    db.sql(row).await;
    let app = TestApp::over(db, Options::default()).await;
    let began = Instant::now();
    // Each is looked at by a task of its own.
    for (series, value) in [
        (r#"millwork_queue_jobs{queue="exports",state="queued"}"#, 41.0),
        (r#"millwork_dependency_up{dependency="database"}"#, 1.0),
    ] {
        while app.figure(series).await != value {
            assert!(began.elapsed() < PATIENCE, "{series}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
    let page = app.scrape().await;
    let figure = |series: &str| sample(&page, series).unwrap();
    assert_eq!(figure(r#"millwork_queue_oldest_age_seconds{queue="exports"}"#), 90.0);
    assert_eq!(figure(r#"millwork_queue_workers{queue="exports"}"#), 5.0);
    for (series, least) in [
        ("process_resident_memory_bytes", 1e6),
        ("process_open_fds", 3.0),
        ("process_start_time_seconds", 1.7e9),
        ("millwork_db_connections_max", 10.0),
        ("millwork_tasks", 1.0),
    ] {
        assert!(figure(series) >= least, "{series} is {}", figure(series));
    }
    let version = env!("CARGO_PKG_VERSION");
    assert_eq!(figure(&format!(r#"millwork_build_info{{process="api",version="{version}"}}"#)), 1.0);
}

#[tokio::test]
async fn a_scrape_is_answered_while_the_stores_are_down_and_says_so() {
    let app = TestApp::start_with(Options { redis_url: "redis://127.0.0.1:1/".into(), ..Options::default() }).await;
    app.db.db.pool().close().await;
    let began = Instant::now();
    loop {
        let page = app.scrape().await;
        let up = ["database", "redis"]
            .map(|store| sample(&page, &format!(r#"millwork_dependency_up{{dependency="{store}"}}"#)));
        if up == [Some(0.0); 2] {
            return;
        }
        assert!(began.elapsed() < PATIENCE, "{up:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn nothing_can_be_changed_by_it() {
    let app = TestApp::start().await;
    for method in [Method::POST, Method::PUT, Method::DELETE, Method::PATCH] {
        let reply = Reply::of(app.anonymous().request(method, "//metrics")).await;
        reply.problem(405, "method_not_allowed");
        assert_eq!(reply.header("allow"), "GET, HEAD");
    }
}
