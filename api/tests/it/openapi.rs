//! The document says what the server does.

use serde_json::{Value, json};

use crate::admin;
use crate::support::{Options, Reply, TestApp, operations};

/// Every operation, a line each. A change there is a change of the contract: see API.md.
const OPERATIONS: &str = include_str!("operations.txt");

async fn document() -> Value {
    let app = TestApp::start().await;
    let reply = app.anonymous().get("/openapi.json").await;
    assert_eq!(reply.header("content-type"), "application/json");
    reply.expect(200)
}

#[tokio::test]
async fn the_operations_are_the_ones_we_know_of() {
    let document = document().await;
    let mut found: Vec<_> = operations(&document)
        .iter()
        .map(|(method, path, operation)| {
            format!("{method} {path} {}", operation["operationId"].as_str().unwrap_or("?"))
        })
        .collect();
    found.sort();
    let known: Vec<_> = OPERATIONS.lines().collect();
    assert_eq!(found, known, "after a wanted change, api/tests/it/operations.txt is\n{}\n", found.join("\n"));
}

#[tokio::test]
async fn every_operation_is_described_and_documents_its_problems() {
    let document = document().await;
    for (method, path, operation) in operations(&document) {
        let at = format!("{method} {path}");
        assert!(operation["summary"].is_string(), "{at} has no summary");
        assert_eq!(operation["tags"].as_array().map(Vec::len), Some(1), "{at} has no tag");
        let responses = operation["responses"].as_object().unwrap();
        assert!(responses.keys().any(|status| status.starts_with(['2', '3'])), "{at}");
        for (status, response) in responses.iter().filter(|(status, _)| !status.starts_with(['2', '3'])) {
            let schema = &response["content"]["application/problem+json"]["schema"]["$ref"];
            assert_eq!(schema, "#/components/schemas/Problem", "{at} {status}");
        }
        let secured = operation.get("security").is_some();
        for (needed, status) in [(true, "500"), (true, "503"), (secured, "401"), (path.contains('{'), "404")] {
            assert!(!needed || responses.contains_key(status), "{at} {status}");
        }
        if operation.get("requestBody").is_some() {
            assert!(["400", "413", "415", "422"].iter().all(|status| responses.contains_key(*status)), "{at}");
        }
    }
}

#[tokio::test]
async fn the_headers_that_answers_have_are_documented() {
    let app = TestApp::start_with(Options { limits: "starter=100/1/100".parse().unwrap(), ..Options::default() }).await;
    let owner = app.tenant("acme").await.owner;
    let document = app.anonymous().get("/openapi.json").await.expect(200);
    for (method, path, operation) in operations(&document) {
        for (status, response) in operation["responses"].as_object().unwrap() {
            let documented = |name: &str| response["headers"][name]["$ref"] == format!("#/components/headers/{name}");
            let limited = operation.get("security").is_some() && status != "401";
            assert_eq!(documented("RateLimit"), limited, "{method} {path} {status}");
            assert_eq!(
                documented("Retry-After"),
                ["429", "503"].contains(&status.as_str()),
                "{method} {path} {status}"
            );
            assert!(documented("X-Request-Id"), "{method} {path} {status}");
        }
    }
    let replies = [owner.get("/auth/me").await, owner.get("/auth/me").await];
    for (reply, status) in replies.iter().zip(["200", "429"]) {
        let response = &document["paths"]["/auth/me"]["get"]["responses"][status];
        for name in response["headers"].as_object().unwrap().keys() {
            assert!(!reply.header(name).is_empty(), "{name} in {:?}", reply.headers);
            assert!(document["components"]["headers"][name]["description"].is_string(), "{name}");
        }
        for name in reply.headers.keys().filter(|name| name.as_str().contains("ratelimit")) {
            let names: Vec<_> = response["headers"].as_object().unwrap().keys().map(|n| n.to_lowercase()).collect();
            assert!(names.iter().any(|known| known == name.as_str()), "{name} is documented");
        }
    }
}

/// An operation's path with ids that are nobody's.
fn concrete(path: &str) -> String {
    let name = |part: &str| match part {
        "{name}" => "nothing".to_owned(),
        part if part.starts_with('{') => "00000000-0000-7000-8000-000000000009".to_owned(),
        part => part.to_owned(),
    };
    path.split('/').map(name).collect::<Vec<_>>().join("/")
}

#[tokio::test]
async fn every_operation_with_a_body_refuses_one_that_does_not_fit() {
    let app = TestApp::start().await;
    let acme = app.tenant("acme").await;
    let staff = admin::staff(&app, "olga@millwork.example").await;
    let document = app.anonymous().get("/openapi.json").await.expect(200);
    for (method, path, operation) in operations(&document).iter().filter(|(_, _, op)| op.get("requestBody").is_some()) {
        assert_eq!(operation["requestBody"]["required"], true, "{path}");
        if operation["requestBody"]["content"].get("application/json").is_none() {
            continue; // content, which is tried with the files
        }
        let client = if path.starts_with("/admin/") { &staff } else { &acme.owner };
        for body in [json!([]), json!({ "surely_unknown": 1 })] {
            let method = method.parse().unwrap();
            let reply = Reply::of(client.request(method, &concrete(path)).json(&body)).await;
            assert_eq!(reply.status, 422, "{path} {body} {}", reply.text());
            let problem = reply.problem(422, "body_invalid");
            assert!(!problem["errors"].as_array().unwrap().is_empty(), "{path} {problem}");
        }
    }
}

#[tokio::test]
async fn every_operation_asks_who_calls_but_those_that_make_it_known() {
    let app = TestApp::start().await;
    let document = app.anonymous().get("/openapi.json").await.expect(200);
    let open = [
        "admin.activate",
        "admin.enrol",
        "admin.login",
        "auth.forgot_password",
        "auth.login",
        "auth.oauth",
        "auth.oauth_callback",
        "auth.oauth_exchange",
        "auth.refresh",
        "auth.register",
        "auth.reset_password",
        "auth.verify_email",
        "invitations.accept",
        "objects.get", // who holds a link need not say who they are
        "objects.put",
    ];
    for (method, path, operation) in operations(&document) {
        let id = operation["operationId"].as_str().unwrap();
        assert_eq!(operation.get("security").is_none(), open.contains(&id), "{id}");
        if !open.contains(&id) {
            let reply = Reply::of(app.anonymous().request(method.parse().unwrap(), &concrete(&path))).await;
            reply.problem(401, "unauthenticated");
        }
    }
}

#[tokio::test]
async fn a_document_without_loose_ends() {
    let document = document().await;
    let mut open = vec![&document];
    while let Some(value) = open.pop() {
        match value {
            Value::Array(items) => open.extend(items),
            Value::Object(map) => open.extend(map.values()),
            Value::String(text) => {
                assert!(!text.starts_with("x-millwork-"), "a marker was left: {text}");
                if let Some(pointer) = text.strip_prefix("#/") {
                    assert!(document.pointer(&format!("/{pointer}")).is_some(), "{text} points nowhere");
                }
            }
            _ => {}
        }
    }
    let create = &document["paths"]["/api-keys"]["post"];
    assert!(create["parameters"].as_array().unwrap().iter().any(|p| p["name"] == "Idempotency-Key"), "{create}");
    let list = &document["paths"]["/api-keys"]["get"]["parameters"];
    let names: Vec<_> = list.as_array().unwrap().iter().map(|p| p["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["limit", "cursor"]);
    let asked = &document["components"]["schemas"]["NewApiKey"];
    assert_eq!(asked["additionalProperties"], false, "what is enforced is documented: {asked}");
    assert_eq!(asked["properties"]["expires_at"]["nullable"], true);
    assert_eq!(document["components"]["schemas"]["ApiKey"].get("additionalProperties"), None);
    let example = &document["components"]["schemas"]["Register"]["example"];
    let app = TestApp::start().await;
    app.anonymous().post("/auth/register", example.clone()).await.expect(201);
}

#[tokio::test]
async fn the_reference_is_served_by_us_alone() {
    let app = TestApp::start().await;
    let page = app.anonymous().get("//docs").await;
    assert_eq!(page.status, 200);
    let text = page.text();
    assert!(text.contains("auth.register") && text.contains("urn:problem-type:millwork:"), "the completed document");
    assert!(!text.contains("src=\"http") && !text.contains("href=\"http"), "assets of other hosts");
}
