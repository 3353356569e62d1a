//! What the health routes say when something is down.

use std::time::{Duration, Instant};

use crate::support::{Options, TestApp};

const START_WORKER: &str = "insert into workers (id, host, version, queues, concurrency, lease_until)
                            values (gen_random_uuid(), 'h', 'v', '{default}', 1, now() + interval '15 s')";

#[tokio::test]
async fn with_everything_up_it_is_ok_and_each_dependency_has_a_latency() {
    let app = TestApp::start().await;
    sqlx::query(START_WORKER).execute(&app.db.owner().await).await.unwrap();
    let health = app.anonymous().get("//health").await.expect(200);
    assert_eq!(health["status"], "ok", "{health}");
    for name in ["database", "redis", "queues", "disk"] {
        assert_eq!(health["checks"][name]["status"], "ok", "{health}");
        assert!(health["checks"][name]["latency_ms"].is_number(), "{health}");
    }
    let space = &health["checks"]["disk"]["volumes"]["temporary"];
    assert!(space["free_bytes"].as_u64().unwrap() <= space["size_bytes"].as_u64().unwrap(), "{health}");
    assert_eq!(app.anonymous().get("//health/live").await.expect(200)["status"], "ok");
    assert_eq!(app.anonymous().get("//health/ready").await.expect(200)["status"], "ok");
}

#[tokio::test]
async fn without_a_live_worker_it_is_degraded() {
    let app = TestApp::start().await;
    let health = app.anonymous().get("//health").await.expect(200);
    assert_eq!((&health["status"], &health["checks"]["queues"]["status"]), (&"degraded".into(), &"degraded".into()));
    sqlx::query(START_WORKER).execute(&app.db.owner().await).await.unwrap();
    assert_eq!(app.anonymous().get("//health").await.expect(200)["status"], "ok");
    app.advance(Duration::from_secs(16)).await;
    assert_eq!(app.anonymous().get("//health").await.expect(200)["status"], "degraded", "its lease ran out");
}

#[tokio::test]
async fn without_redis_it_is_degraded_and_serves_on() {
    let app = TestApp::start_with(Options { redis_url: "redis://127.0.0.1:1/".into(), ..Options::default() }).await;
    let started = Instant::now();
    let health = app.anonymous().get("//health").await.expect(200);
    assert!(started.elapsed() < Duration::from_secs(3), "{:?}", started.elapsed());
    assert_eq!(health["status"], "degraded");
    assert_eq!(health["checks"]["redis"]["status"], "degraded");
    assert_eq!(health["checks"]["database"]["status"], "ok");
    app.anonymous().get("//health/ready").await.expect(200);
    app.tenant("acme").await.owner.get("/auth/me").await.expect(200);
}

#[tokio::test]
async fn without_the_database_it_is_down_and_the_api_says_try_again() {
    let app = TestApp::start().await;
    let owner = app.tenant("acme").await.owner;
    app.db.db.pool().close().await;
    assert_eq!(app.anonymous().get("//health").await.expect(503)["status"], "down");
    assert_eq!(app.anonymous().get("//health/ready").await.expect(503)["checks"]["database"]["status"], "down");
    assert_eq!(app.anonymous().get("//health/live").await.expect(200)["status"], "ok");
    let reply = owner.get("/auth/me").await;
    let problem = reply.problem(503, "unavailable");
    assert_eq!(reply.header("retry-after"), "2");
    assert!(!problem["detail"].as_str().unwrap().contains("pool"), "the inside is for the log: {problem}");
}
