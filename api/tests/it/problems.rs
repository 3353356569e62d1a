//! Every failure is a problem document, the framework's own included.

use reqwest::Method;
use serde_json::json;

use crate::support::{Options, Reply, TestApp};

#[tokio::test]
async fn a_body_that_cannot_be_read_is_refused_with_a_problem() {
    let app = TestApp::start().await;
    let nested = |n| format!("{}1{}", "[".repeat(n), "]".repeat(n));
    let large = format!("{{\"refresh_token\":\"{}\"}}", "x".repeat(300_000));
    let json = "application/json";
    for (media_type, body, status, code) in [
        (json, "{".to_owned(), 400, "body_malformed"),
        (json, "{\"refresh_token\":\"a\"} x".to_owned(), 400, "body_malformed"),
        (json, String::new(), 400, "body_missing"),
        (json, "{\"refresh_token\":\"a\\u0000\"}".to_owned(), 400, "body_malformed"),
        (json, "{\"refresh_token\":\"\\ud800\"}".to_owned(), 400, "body_malformed"),
        (json, nested(65), 400, "body_too_deep"),
        (json, nested(50_000), 400, "body_too_deep"),
        (json, "{\"refresh_token\":1e999}".to_owned(), 400, "body_malformed"),
        (json, large, 413, "body_too_large"),
        ("text/plain", "{}".to_owned(), 415, "media_type_unsupported"),
        ("application/x-www-form-urlencoded", "a=b".to_owned(), 415, "media_type_unsupported"),
        ("application/jsonp", "{}".to_owned(), 415, "media_type_unsupported"),
        (json, "[]".to_owned(), 422, "body_invalid"),
        (json, "null".to_owned(), 422, "body_invalid"),
        (json, "{\"refresh_token\":\"a\",\"refresh_token\":\"b\"}".to_owned(), 422, "body_invalid"),
        ("Application/JSON; charset=utf-8", "{}".to_owned(), 422, "body_invalid"),
    ] {
        let start: String = body.chars().take(60).collect();
        let request = app.anonymous().request(Method::POST, "/auth/refresh");
        let reply = Reply::of(request.header("content-type", media_type).body(body)).await;
        assert_eq!(reply.status, status, "{media_type} {start} {}", reply.text());
        reply.problem(status, code);
    }
    let request = app.anonymous().request(Method::POST, "/auth/refresh").body(vec![b'"', 0xff, b'"']);
    Reply::of(request.header("content-type", json)).await.problem(400, "body_malformed");
    let request = app.anonymous().request(Method::POST, "/auth/refresh").header("content-encoding", "gzip");
    Reply::of(request.json(&json!({}))).await.problem(415, "media_type_unsupported");
    let request = app.anonymous().request(Method::POST, "/auth/refresh").body("{}");
    Reply::of(request).await.problem(415, "media_type_unsupported");
}

#[tokio::test]
async fn every_fault_of_a_body_is_told_at_once() {
    let app = TestApp::start().await;
    let body = json!({ "name": " \t", "email": "nobody", "password": "hunter2", "admin": true });
    let problem = app.anonymous().post("/auth/register", body).await.problem(422, "body_invalid");
    let mut faults: Vec<_> = problem["errors"].as_array().unwrap().iter().collect();
    faults.sort_by_key(|fault| fault["pointer"].as_str().unwrap());
    let told: Vec<_> = faults.iter().map(|f| (f["pointer"].as_str().unwrap(), f["code"].as_str().unwrap())).collect();
    let expected = [
        ("/admin", "unknown_field"),
        ("/email", "format"),
        ("/name", "format"),
        ("/password", "too_short"),
        ("/tenant_name", "required"),
    ];
    assert_eq!(told, expected);
    assert!(faults.iter().all(|fault| !fault["detail"].as_str().unwrap().is_empty()));
    assert!(!problem.to_string().contains("hunter2"), "the password is not repeated: {problem}");
}

#[tokio::test]
async fn addresses_and_methods_that_are_not_there_are_refused_with_a_problem() {
    let app = TestApp::start().await;
    let client = app.anonymous();
    for path in ["/nothing", "//nothing", "//", "/auth/me/", "//api/v2/jobs", "/auth/..%2f"] {
        client.get(path).await.problem(404, "route_not_found");
    }
    for (method, path, allow) in [
        (Method::PUT, "/auth/register", "POST"),
        (Method::GET, "/auth/register", "POST"),
        (Method::POST, "/auth/me", "GET, HEAD"),
        (Method::DELETE, "/api-keys", "GET, HEAD, POST"),
        (Method::OPTIONS, "/api-keys", "GET, HEAD, POST"),
        (Method::TRACE, "/api-keys", "GET, HEAD, POST"),
        (Method::POST, "//health", "GET, HEAD"),
        (Method::POST, "/openapi.json", "GET, HEAD"),
    ] {
        let reply = Reply::of(client.request(method.clone(), path)).await;
        assert_eq!(reply.status, 405, "{method} {path} {}", reply.text());
        reply.problem(405, "method_not_allowed");
        assert_eq!(reply.header("allow"), allow, "{method} {path}");
    }
    client.patch("//docs", json!({})).await.problem(405, "method_not_allowed");
    client.get("/auth/%FF").await.problem(400, "malformed");
    let brew = Method::from_bytes(b"BREW").unwrap();
    let reply = Reply::of(client.request(brew.clone(), "/auth/me")).await;
    reply.problem(405, "method_not_allowed");
    assert_eq!(reply.header("allow"), "GET, HEAD");
    Reply::of(client.request(brew, "/nothing")).await.problem(404, "route_not_found");
}

#[tokio::test]
async fn parameters_that_are_wrong_are_refused_with_a_problem() {
    let app = TestApp::start().await;
    let owner = app.tenant("acme").await.owner;
    owner.get("/api-keys/not-a-uuid").await.problem(400, "parameter_invalid");
    for query in ["limit=0", "limit=101", "limit=ten", "limit="] {
        owner.get(&format!("/api-keys?{query}")).await.problem(400, "parameter_invalid");
    }
    for query in ["cursor=x", "cursor=AAAA", "cursor="] {
        owner.get(&format!("/api-keys?{query}")).await.problem(400, "invalid_cursor");
    }
    for path in ["/event-types/a%00b", "/jobs?tag=a%00b", "/jobs/%00", "/deliveries/%00"] {
        owner.get(path).await.problem(400, "malformed");
    }
    owner.get("/api-keys/00000000-0000-7000-8000-000000000000").await.problem(404, "not_found");
}

#[tokio::test]
async fn a_caller_who_proves_nothing_gets_a_401_that_says_how() {
    let app = TestApp::start().await;
    let reply = app.anonymous().get("/auth/me").await;
    reply.problem(401, "unauthenticated");
    assert_eq!(reply.header("www-authenticate"), "Bearer");
    let me = || app.anonymous().request(Method::GET, "/auth/me");
    for header in ["Basic YTpi", "Bearer", "bearer", "x", ""] {
        Reply::of(me().header("authorization", header)).await.problem(401, "unauthenticated");
    }
    let long = "x".repeat(3_000);
    let forged = "eyJhbGciOiJub25lIn0.eyJzdWIiOiJhIn0.";
    for token in ["x", "mw_", "mw_test_abc_def", "a.b.c", forged, &long] {
        app.bearer(token).get("/auth/me").await.problem(401, "token_invalid");
    }
}

#[tokio::test]
async fn a_request_keeps_its_id_if_it_is_well_formed_and_gets_one_otherwise() {
    let app = TestApp::start().await;
    let get = |id: &str| Reply::of(app.anonymous().request(Method::GET, "/nothing").header("x-request-id", id));
    let kept = get("order 7/x").await;
    assert_eq!(kept.problem(404, "route_not_found")["request_id"], "order 7/x");
    let made = get(&"x".repeat(129)).await;
    let id: uuid::Uuid = made.header("x-request-id").parse().unwrap();
    assert_eq!(id.get_version_num(), 7);
    let live = app.anonymous().get("//health/live").await;
    assert!(!live.header("x-request-id").is_empty());
    assert_eq!(live.header("x-content-type-options"), "nosniff");
}

#[tokio::test]
async fn until_the_schema_is_checked_the_api_says_so_and_the_process_lives() {
    let app = TestApp::start_with(Options { ready: false, ..Options::default() }).await;
    let reply = app.anonymous().get("/auth/me").await;
    reply.problem(503, "unavailable");
    assert_eq!(reply.header("retry-after"), "2");
    app.anonymous().get("//health/live").await.expect(200);
    app.anonymous().get("//health/ready").await.expect(503);
    app.app.set_ready();
    app.anonymous().get("//health/ready").await.expect(200);
    app.anonymous().get("/auth/me").await.problem(401, "unauthenticated");
}
