//! What browsers are told.

use reqwest::Method;
use serde_json::json;

use crate::support::{Options, Reply, TestApp};

const PAGE: &str = "https://app.example.com";

async fn with_origins(origins: &str) -> TestApp {
    TestApp::start_with(Options { cors: origins.parse().unwrap(), ..Options::default() }).await
}

#[tokio::test]
async fn every_answer_says_what_a_browser_must_not_do_with_it() {
    let app = TestApp::start().await;
    let acme = app.tenant("acme").await;
    let owner = &acme.owner;
    let job = owner.post("/jobs", json!({ "kind": "echo", "payload": {} })).await;
    let replies = [
        ("a list", owner.get("/jobs").await, 200),
        ("something new", job.clone(), 202),
        ("tokens", app.anonymous().post("/auth/refresh", json!({ "refresh_token": acme.refresh_token })).await, 200),
        ("no content", owner.post_empty("/auth/logout").await, 204),
        ("a refusal", app.anonymous().get("/jobs").await, 401),
        ("nothing there", app.anonymous().get("//nothing").await, 404),
        ("a wrong method", app.anonymous().delete("//health").await, 405),
        ("metrics", app.anonymous().get("//metrics").await, 200),
        ("health", app.anonymous().get("//health/live").await, 200),
        ("keys", app.anonymous().get("//.well-known/jwks.json").await, 200),
        ("the document", app.anonymous().get("/openapi.json").await, 200),
        ("the reference", app.anonymous().get("//docs").await, 200),
    ];
    for (what, reply, status) in &replies {
        assert_eq!(reply.status, *status, "{what}");
        assert_eq!(reply.header("x-content-type-options"), "nosniff", "{what}");
        assert_eq!(reply.header("x-frame-options"), "DENY", "{what}");
        assert_eq!(reply.header("referrer-policy"), "no-referrer", "{what}");
        assert_eq!(reply.header("cross-origin-resource-policy"), "same-origin", "{what}");
        assert!(!reply.headers.contains_key("strict-transport-security"), "{what}: it is not reached by TLS");
        assert!(!reply.headers.contains_key("access-control-allow-origin"), "{what}");
        let policy = reply.header("content-security-policy");
        assert!(policy.starts_with("default-src 'none';") && policy.ends_with("frame-ancestors 'none'"), "{what}");
        let public = ["keys", "the document", "the reference"].contains(what);
        let expected = if public { "public, max-age=300" } else { "no-store" };
        assert_eq!(reply.header("cache-control"), expected, "{what}");
    }
}

#[tokio::test]
async fn the_reference_runs_its_own_scripts_alone() {
    let app = TestApp::start().await;
    let reply = app.anonymous().get("//docs").await;
    let policy = reply.header("content-security-policy");
    let scripts = policy.split("; ").find(|part| part.starts_with("script-src ")).unwrap();
    assert_eq!(scripts.matches("'sha256-").count(), reply.text().matches("</script>").count(), "{policy}");
    assert!(!scripts.contains("unsafe"), "{policy}");
}

#[tokio::test]
async fn a_service_that_is_reached_by_tls_asks_to_be_reached_so_alone() {
    let public_url = Some("https://millwork.example.com".to_owned());
    let app = TestApp::start_with(Options { public_url, ..Options::default() }).await;
    for path in ["//health/live", "/jobs", "//docs"] {
        assert_eq!(app.anonymous().get(path).await.header("strict-transport-security"), "max-age=31536000", "{path}");
    }
    let policy = app.anonymous().get("//docs").await.header("content-security-policy").to_owned();
    assert!(policy.contains("connect-src 'self' https://millwork.example.com;"), "{policy}");
}

#[tokio::test]
async fn pages_of_known_origins_may_call_every_route_and_read_what_they_need() {
    let app = with_origins("https://app.example.com,http://localhost:5173").await;
    let ask = |origin: &str, method: Method, path: &str| {
        app.anonymous().request(method, path).header("origin", origin.to_owned())
    };
    for path in ["/jobs", "/auth/login", "/webhooks/0190d7ee-0000-7000-8000-000000000000", "/nothing", "//health"] {
        let preflight = ask(PAGE, Method::OPTIONS, path)
            .header("access-control-request-method", "PATCH")
            .header("access-control-request-headers", "authorization,idempotency-key");
        let reply = Reply::of(preflight).await;
        assert_eq!((reply.status, reply.text().as_str()), (204, ""), "{path}");
        assert_eq!(reply.header("access-control-allow-origin"), PAGE);
        for method in ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"] {
            assert!(reply.header("access-control-allow-methods").split(", ").any(|known| known == method), "{method}");
        }
        for header in ["authorization", "content-type", "idempotency-key", "if-match", "x-request-id", "last-event-id"]
        {
            assert!(reply.header("access-control-allow-headers").split(", ").any(|known| known == header), "{header}");
        }
        assert_eq!(reply.header("access-control-max-age"), "7200");
        assert_eq!(reply.header("vary"), "origin");
        assert!(!reply.headers.contains_key("access-control-allow-credentials"));
    }
    let owner = app.tenant("acme").await.owner;
    let request = owner.request(Method::POST, "/jobs").header("origin", PAGE).header("idempotency-key", "k");
    let reply = Reply::of(request.json(&json!({ "kind": "echo", "payload": {} }))).await;
    reply.expect(202);
    assert_eq!(reply.header("access-control-allow-origin"), PAGE);
    let exposed: Vec<&str> = reply.header("access-control-expose-headers").split(", ").collect();
    let needed = ["ratelimit", "ratelimit-policy", "x-ratelimit-remaining", "location", "x-request-id"];
    for header in needed {
        assert!(reply.headers.contains_key(header), "{header} is there");
    }
    for header in needed.into_iter().chain(["etag", "idempotent-replayed", "retry-after"]) {
        assert!(exposed.contains(&header), "{header} in {exposed:?}");
    }
    let refused = Reply::of(ask(PAGE, Method::GET, "/jobs")).await;
    refused.problem(401, "unauthenticated");
    assert_eq!(refused.header("access-control-allow-origin"), PAGE, "so that the page can read why");
}

#[tokio::test]
async fn pages_of_other_origins_may_not() {
    let app = with_origins(PAGE).await;
    let owner = app.tenant("acme").await.owner;
    for origin in ["https://evil.example", "null", "https://app.example.com.evil.example", "http://app.example.com"] {
        let request = app.anonymous().request(Method::OPTIONS, "/jobs").header("origin", origin);
        let reply = Reply::of(request.header("access-control-request-method", "GET")).await;
        reply.problem(405, "method_not_allowed");
        assert!(!reply.headers.contains_key("access-control-allow-methods"), "{origin}");
        let reply = Reply::of(owner.request(Method::GET, "/jobs").header("origin", origin)).await;
        reply.expect(200);
        assert!(!reply.headers.contains_key("access-control-allow-origin"), "{origin}");
        assert_eq!(reply.header("vary"), "origin", "a cache must not give it to another origin");
    }
    let plain = Reply::of(app.anonymous().request(Method::OPTIONS, "/jobs").header("origin", PAGE)).await;
    plain.problem(405, "method_not_allowed"); // no preflight, which names a method
}

#[tokio::test]
async fn all_origins_may_be_allowed_but_never_with_credentials() {
    let app = with_origins("*").await;
    let request = app.anonymous().request(Method::OPTIONS, "/jobs").header("origin", "https://any.example");
    let reply = Reply::of(request.header("access-control-request-method", "GET")).await;
    assert_eq!((reply.status, reply.header("access-control-allow-origin")), (204, "*"));
    assert!(!reply.headers.contains_key("access-control-allow-credentials"));
}
