//! What tenants take out, from the request to the file.

use std::io::Read;
use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{Client, Options, PATIENCE, Reply, Tenant, TestApp};

async fn ask(client: &Client, body: Value) -> Value {
    client.post("/exports", body).await.expect(202)["data"].clone()
}

/// Waits until an export has come to this state.
async fn until(client: &Client, export: &Value, state: &str) -> Value {
    let path = format!("/exports/{}", export["id"].as_str().unwrap());
    let reached = async {
        loop {
            let export = client.get(&path).await.expect(200)["data"].clone();
            if export["state"] == state {
                return export;
            }
            assert!(
                !matches!(export["state"].as_str(), Some("failed" | "cancelled" | "ready" | "expired")),
                "{export}"
            );
        }
    };
    tokio::time::timeout(PATIENCE, reached).await.unwrap_or_else(|_| panic!("the export is not {state}"))
}

/// What a ready export's link leads to.
async fn content(app: &TestApp, client: &Client, export: &Value) -> Reply {
    let path = format!("/exports/{}/download", export["id"].as_str().unwrap());
    let link = client.get(&path).await.expect(200)["data"]["url"].as_str().unwrap().to_owned();
    Reply::of(app.anonymous().request_url(Method::GET, &link)).await
}

async fn made(app: &TestApp, client: &Client, body: Value) -> Reply {
    let export = ask(client, body).await;
    until(client, &export, "ready").await;
    content(app, client, &export).await
}

async fn submit(acme: &Tenant<'_>, payload: Value, tag: &str) -> String {
    let body = json!({ "kind": "echo", "payload": payload, "delay_s": 3600, "tags": [tag] });
    acme.owner.post("/jobs", body).await.expect(202)["data"]["id"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn jobs_are_exported_as_they_are_in_every_format() {
    let app = TestApp::start().await;
    let acme = app.quiet_tenant("acme").await;
    let other = app.quiet_tenant("other").await;
    submit(&other, json!("theirs"), "t").await;
    let job = submit(&acme, json!({ "text": "=1+1, \"quoted\"\nline" }), "=evil").await;
    let _worker = app.worker();
    let csv =
        made(&app, &acme.owner, json!({ "resource": "jobs", "format": "csv", "filters": { "kind": "echo" } })).await;
    assert_eq!(csv.header("content-type"), "text/csv; charset=utf-8");
    assert!(csv.header("content-disposition").contains("jobs.csv"));
    let text = csv.text();
    let (head, rows) = text.split_once("\r\n").unwrap();
    assert!(head.starts_with("id,kind,queue,state,priority,payload,"), "{head}");
    assert!(rows.starts_with(&format!("{job},echo,default,scheduled,4,\"{{\"\"text\"\"")), "{rows}");
    assert_eq!(rows.matches("\r\n").count(), 1, "one job, and none of another tenant: {rows}");

    let body = json!({ "resource": "jobs", "format": "ndjson", "filters": { "kind": "echo", "tag": "=evil" } });
    let line: Value = serde_json::from_str(made(&app, &acme.owner, body).await.text().trim()).unwrap();
    let shown = acme.owner.get(&format!("/jobs/{job}")).await.expect(200)["data"].clone();
    for field in ["id", "kind", "queue", "state", "payload", "priority", "max_attempts", "run_at", "created_at", "tags"]
    {
        assert_eq!(line[field], shown[field], "{field}");
    }
    let body = json!({ "resource": "jobs", "format": "json", "filters": { "state": "running" } });
    let array: Value = serde_json::from_str(&made(&app, &acme.owner, body).await.text()).unwrap();
    assert!(array.as_array().unwrap().iter().all(|job| job["kind"] == "export.run"), "{array}");
}

#[tokio::test]
async fn everything_that_can_be_exported_is() {
    let app = TestApp::start().await;
    let acme = app.tenant("acme").await;
    let webhook = json!({ "url": "https://hooks.acme.example/in", "event_types": ["order.*"] });
    acme.owner.post("/webhooks", webhook).await.expect(201);
    acme.owner.post("/events", json!({ "type": "order.paid", "payload": { "n": 1 } })).await.expect(202);
    acme.owner.upload("a.txt", "text/plain", b"x").await.expect(201);
    let _worker = app.worker();
    for (resource, field, value) in [
        ("events", "type", json!("order.paid")),
        ("deliveries", "event_type", json!("order.paid")),
        ("audit_logs", "action", json!("webhook.created")),
        ("users", "email", json!(acme.email)),
        ("files", "name", json!("a.txt")),
        ("attempts", "ended", json!("succeeded")), // of the mails, or of an export before
    ] {
        let text = made(&app, &acme.owner, json!({ "resource": resource, "format": "ndjson" })).await.text();
        let rows: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert!(rows.iter().any(|row| row[field] == value), "{resource}: {text}");
        let text = made(&app, &acme.owner, json!({ "resource": resource, "format": "csv" })).await.text();
        assert!(text.lines().next().unwrap().split(',').any(|name| name == field), "{resource}: {text}");
    }
    let text = made(&app, &acme.owner, json!({ "resource": "users", "format": "ndjson" })).await.text();
    assert_eq!(serde_json::from_str::<Value>(text.trim()).unwrap()["roles"], json!(["owner"]), "{text}");
}

#[tokio::test]
async fn more_than_a_page_comes_whole_and_packed() {
    let app = TestApp::start().await;
    let acme = app.quiet_tenant("acme").await;
    let jobs: Vec<Value> = (0..1_000).map(|n| json!({ "kind": "echo", "payload": n, "delay_s": 3600 })).collect();
    for _ in 0..12 {
        acme.owner.post("/jobs/batch", json!({ "jobs": jobs })).await.expect(202);
    }
    let _worker = app.worker();
    for compress in ["gzip", "zip"] {
        let body = json!({ "resource": "jobs", "format": "csv", "compress": compress, "filters": { "kind": "echo" } });
        let packed = made(&app, &acme.owner, body).await.body;
        let mut text = String::new();
        if compress == "gzip" {
            flate2::read::GzDecoder::new(&packed[..]).read_to_string(&mut text).unwrap();
        } else {
            let mut archive = zip::ZipArchive::new(std::io::Cursor::new(packed)).unwrap();
            archive.by_name("jobs.csv").unwrap().read_to_string(&mut text).unwrap();
        }
        let ids: Vec<&str> = text.lines().skip(1).map(|line| line.split(',').next().unwrap()).collect();
        assert_eq!(ids.len(), 12_000);
        assert!(ids.is_sorted() && ids.windows(2).all(|pair| pair[0] != pair[1]), "each once, in order");
    }
}

#[tokio::test]
async fn who_asked_and_the_webhooks_are_told() {
    let app = TestApp::start().await;
    let acme = app.quiet_tenant("acme").await;
    let webhook = json!({ "url": "https://hooks.acme.example/in", "event_types": ["export.*"] });
    acme.owner.post("/webhooks", webhook).await.expect(201);
    let _worker = app.worker();
    let export = ask(&acme.owner, json!({ "resource": "events", "format": "json" })).await;
    let ready = until(&acme.owner, &export, "ready").await;
    let events = acme.owner.get("/events?type=export.ready").await.expect(200);
    let payload = &events["data"][0]["payload"];
    assert_eq!((&payload["export_id"], &payload["rows"]), (&export["id"], &ready["rows"]), "{events}");
    let mails = acme.owner.get("/jobs?kind=exports.send_ready").await.expect(200);
    assert_eq!(mails["data"][0]["payload"]["export"], export["id"], "{mails}");
    let key = acme.api_key(&["exports:write", "exports:read", "events:read"]).await;
    let by_key = ask(&key, json!({ "resource": "events", "format": "json" })).await;
    until(&key, &by_key, "ready").await;
    let mails = acme.owner.get("/jobs?kind=exports.send_ready").await.expect(200);
    assert_eq!(mails["data"].as_array().unwrap().len(), 1, "a key has no address");
}

#[tokio::test]
async fn an_export_takes_the_permission_to_read_what_is_in_it() {
    let app = TestApp::start().await;
    let acme = app.tenant("acme").await;
    let key = acme.api_key(&["exports:write", "exports:read", "jobs:read"]).await;
    let body = json!({ "resource": "audit_logs", "format": "csv" });
    let problem = key.post("/exports", body.clone()).await.problem(403, "permission_missing");
    assert_eq!(problem["permission"], "audit_logs:read");
    let _worker = app.worker();
    let export = ask(&acme.owner, body).await;
    until(&acme.owner, &export, "ready").await;
    let at = format!("/exports/{}/download", export["id"].as_str().unwrap());
    assert_eq!(key.get(&at).await.problem(403, "permission_missing")["permission"], "audit_logs:read");
    content(&app, &acme.owner, &export).await;
    let entries = acme.owner.get("/audit-logs?action=export.downloaded").await.expect(200);
    assert_eq!(entries["data"][0]["resource_id"], export["id"], "{entries}");
}

#[tokio::test]
async fn what_cannot_be_exported_is_named() {
    let app = TestApp::start().await;
    let owner = app.tenant("acme").await.owner;
    for (body, pointer) in [
        (json!({ "resource": "secrets", "format": "csv" }), "/resource"),
        (json!({ "resource": "jobs", "format": "xml" }), "/format"),
        (json!({ "resource": "jobs", "format": "csv", "filters": { "action": "x" } }), "/filters/action"),
        (
            json!({ "resource": "users", "format": "csv", "filters": { "from": "2026-01-01T00:00:00Z" } }),
            "/filters/from",
        ),
        (
            json!({ "resource": "jobs", "format": "csv",
                    "filters": { "from": "2026-01-02T00:00:00Z", "to": "2026-01-01T00:00:00Z" } }),
            "/filters/to",
        ),
    ] {
        let problem = owner.post("/exports", body).await.problem(422, "body_invalid");
        assert_eq!(problem["errors"][0]["pointer"], pointer, "{problem}");
    }
}

#[tokio::test]
async fn there_are_so_many_at_a_time_and_one_that_waits_can_be_cancelled() {
    let app = TestApp::start().await;
    let owner = app.tenant("acme").await.owner;
    let body = json!({ "resource": "jobs", "format": "csv" });
    let first = ask(&owner, body.clone()).await;
    assert_eq!(first["state"], "queued", "{first}");
    for _ in 1..10 {
        ask(&owner, body.clone()).await;
    }
    owner.post("/exports", body.clone()).await.problem(409, "too_many_exports");
    let at = format!("/exports/{}", first["id"].as_str().unwrap());
    owner.get(&format!("{at}/download")).await.problem(409, "export_not_ready");
    assert_eq!(owner.post_empty(&format!("{at}/cancel")).await.expect(202)["data"]["state"], "cancelled");
    owner.post_empty(&format!("{at}/cancel")).await.problem(409, "export_over");
    ask(&owner, body).await;
    assert_eq!(owner.get("/exports").await.expect(200)["data"].as_array().unwrap().len(), 11);
}

#[tokio::test]
async fn an_export_ends_with_its_time_and_the_sweep_takes_its_object() {
    let app = TestApp::start().await;
    let acme = app.tenant("acme").await;
    let _worker = app.worker();
    let export = ask(&acme.owner, json!({ "resource": "events", "format": "csv" })).await;
    until(&acme.owner, &export, "ready").await;
    app.advance(Duration::from_secs(7 * 86_400 + 1)).await;
    let body = json!({ "email": acme.email, "password": crate::support::PASSWORD });
    let session = app.anonymous().post("/auth/login", body).await.expect(200);
    let owner = app.bearer(session["data"]["access_token"].as_str().unwrap());
    until(&owner, &export, "expired").await;
    owner.get(&format!("/exports/{}/download", export["id"].as_str().unwrap())).await.problem(410, "export_expired");
    let sweep = owner.post("/files/sweep", json!({})).await.expect(202)["data"]["id"].as_str().unwrap().to_owned();
    owner.until(&sweep, "succeeded").await;
    assert!(app.app.storage.list(None, 10).await.unwrap().is_empty());
    assert_eq!(
        owner.get(&format!("/exports/{}", export["id"].as_str().unwrap())).await.expect(200)["data"]["state"],
        "expired"
    );
}

#[tokio::test]
async fn a_storage_that_is_down_is_tried_again() {
    let store = millwork_shared::testing::object_store::ObjectStore::start().await;
    let app = TestApp::start_with(Options { storage: Some(store.storage()), ..Options::default() }).await;
    let acme = app.tenant("acme").await;
    drop(store);
    let _worker = app.worker();
    let export = ask(&acme.owner, json!({ "resource": "events", "format": "csv" })).await;
    let retrying = until(&acme.owner, &export, "retrying").await;
    assert_eq!(retrying["size_bytes"], Value::Null);
    let states = app.db.sql("select string_agg(state, ',') from objects where purpose = 'export'").await;
    assert_eq!(states[0].as_deref(), Some("deleted"), "what it had begun was given up");
}
