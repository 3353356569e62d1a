//! The document says what the server does.

use serde_json::{Map, Value};

use crate::support::TestApp;

/// Every operation. A change here is a change of the contract: see API.md.
const OPERATIONS: &[&str] = &[
    "DELETE /api-keys/{id} api_keys.revoke",
    "GET /api-keys api_keys.list",
    "GET /api-keys/{id} api_keys.get",
    "GET /auth/me auth.me",
    "POST /api-keys api_keys.create",
    "POST /api-keys/{id}/rotate api_keys.rotate",
    "POST /auth/login auth.login",
    "POST /auth/logout auth.logout",
    "POST /auth/refresh auth.refresh",
    "POST /auth/register auth.register",
    "POST /auth/verify-email auth.verify_email",
];

async fn document() -> Value {
    let app = TestApp::start().await;
    let reply = app.anonymous().get("/openapi.json").await;
    assert_eq!(reply.header("content-type"), "application/json");
    reply.expect(200)
}

fn operations(document: &Value) -> Vec<(String, String, &Value)> {
    let paths = document["paths"].as_object().unwrap();
    paths
        .iter()
        .flat_map(|(path, operations)| {
            let operations: &Map<String, Value> = operations.as_object().unwrap();
            operations.iter().map(move |(method, operation)| (method.to_uppercase(), path.clone(), operation))
        })
        .collect()
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
    assert_eq!(found, OPERATIONS);
}

#[tokio::test]
async fn every_operation_is_described_and_documents_its_problems() {
    let document = document().await;
    for (method, path, operation) in operations(&document) {
        let at = format!("{method} {path}");
        assert!(operation["summary"].is_string(), "{at} has no summary");
        assert_eq!(operation["tags"].as_array().map(Vec::len), Some(1), "{at} has no tag");
        let responses = operation["responses"].as_object().unwrap();
        assert!(responses.keys().any(|status| status.starts_with('2')), "{at}");
        for (status, response) in responses.iter().filter(|(status, _)| !status.starts_with('2')) {
            let schema = &response["content"]["application/problem+json"]["schema"]["$ref"];
            assert_eq!(schema, "#/components/schemas/Problem", "{at} {status}");
        }
        let secured = operation.get("security").is_some();
        for (needed, status) in [(true, "500"), (true, "503"), (secured, "401"), (path.contains('{'), "404")] {
            assert_eq!(responses.contains_key(status), needed, "{at} {status}");
        }
        if operation.get("requestBody").is_some() {
            assert!(["400", "413", "415", "422"].iter().all(|status| responses.contains_key(*status)), "{at}");
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
