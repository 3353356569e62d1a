//! What tenants bring in, from the file to the rows.

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{Client, Reply, TestApp};

async fn ask(client: &Client, name: &str, media_type: &str, content: &[u8], body: Value) -> Value {
    let file = client.upload(name, media_type, content).await.expect(201)["data"]["id"].clone();
    let mut body = body;
    body["file_id"] = file;
    client.post("/imports", body).await.expect(202)["data"].clone()
}

/// Imports a CSV file, and waits for its end.
async fn made(client: &Client, content: &str, resource: &str, mode: &str) -> Value {
    let import =
        ask(client, "rows.csv", "text/csv", content.as_bytes(), json!({ "resource": resource, "mode": mode })).await;
    client.until(import["job_id"].as_str().unwrap(), "succeeded").await;
    let path = format!("/imports/{}", import["id"].as_str().unwrap());
    let import = client.get(&path).await.expect(200)["data"].clone();
    assert_eq!(import["state"], "finished", "{import}");
    import
}

fn counts(import: &Value) -> [i64; 4] {
    ["rows", "created", "unchanged", "failed"].map(|name| import[name].as_i64().unwrap())
}

/// The lines of a report, without the first.
async fn report(app: &TestApp, client: &Client, import: &Value) -> Vec<String> {
    let path = format!("/imports/{}/report", import["id"].as_str().unwrap());
    let link = client.get(&path).await.expect(200)["data"]["url"].as_str().unwrap().to_owned();
    let reply = Reply::of(app.anonymous().request_url(Method::GET, &link)).await;
    let text = reply.text();
    let mut lines = text.lines().map(str::to_owned);
    assert_eq!(lines.next().as_deref(), Some("row,pointer,code,detail"));
    lines.collect()
}

#[tokio::test]
async fn people_are_invited_once_and_what_is_wrong_is_told_row_by_row() {
    let app = TestApp::start().await;
    let acme = app.quiet_tenant("acme").await;
    let owner = &acme.owner;
    let _worker = app.worker();
    let file = format!(
        "\u{feff}email,roles\r\nann@guest.example,viewer; developer\r\nben@guest.example,viewer\r\n\
         no address,viewer\r\ncid@guest.example,emperor\r\nBEN@guest.example,viewer\r\n{},viewer\r\n",
        acme.email
    );
    let dry = made(owner, &file, "users", "dry_run").await;
    assert_eq!(counts(&dry), [6, 1, 2, 3], "{dry}");
    assert!(owner.get("/invitations").await.expect(200)["data"].as_array().unwrap().is_empty());

    let import = made(owner, &file, "users", "commit").await;
    assert_eq!(counts(&import), counts(&dry));
    let lines = report(&app, owner, &import).await;
    assert_eq!(lines.len(), 3, "{lines:?}");
    assert!(lines[0].starts_with("1,/roles/1,exclusive,"), "{lines:?}");
    assert!(lines[1].starts_with("3,/email,format,") && lines[2].starts_with("4,/roles/0,unknown,"), "{lines:?}");
    let invited = owner.get("/invitations").await.expect(200);
    assert_eq!(invited["data"].as_array().unwrap().len(), 1);
    assert_eq!(invited["data"][0]["email"], "ben@guest.example");
    let mails = owner.get("/jobs?kind=invitations.send").await.expect(200);
    assert_eq!(mails["data"].as_array().unwrap().len(), 1, "{mails}");

    let again = made(owner, &file, "users", "commit").await;
    assert_eq!(counts(&again), [6, 0, 3, 3], "the same file again changes nothing");
    let events = owner.get("/events?type=import.finished").await.expect(200);
    assert_eq!(events["data"].as_array().unwrap().len(), 3, "{events}");
}

#[tokio::test]
async fn webhooks_and_event_types_come_in_by_both_formats() {
    let app = TestApp::start().await;
    let acme = app.quiet_tenant("acme").await;
    let owner = &acme.owner;
    let listener = json!({ "url": "https://hooks.acme.example/all", "event_types": ["import.*"] });
    owner.post("/webhooks", listener).await.expect(201);
    let _worker = app.worker();
    let lines = r#"{"url":"https://hooks.acme.example/a","event_types":["order.*"],"headers":{"x-key":"k"},"metadata":{"n":1}}
{"url":"http://10.0.0.1/","event_types":["order.*"]}
{"url":"https://hooks.acme.example/a","event_types":["order.*"],"description":"once more"}
{"url":"https://hooks.acme.example/b","rate_limit_per_s":0}
"#;
    let body = json!({ "resource": "webhooks", "mode": "commit", "format": "ndjson" });
    let import = ask(owner, "hooks.txt", "text/plain", lines.as_bytes(), body).await;
    owner.until(import["job_id"].as_str().unwrap(), "succeeded").await;
    let import = owner.get(&format!("/imports/{}", import["id"].as_str().unwrap())).await.expect(200)["data"].clone();
    assert_eq!(counts(&import), [4, 1, 1, 2], "{import}");
    let report = report(&app, owner, &import).await;
    assert!(report[0].starts_with("2,/url,") && report[1].starts_with("4,/rate_limit_per_s,range"), "{report:?}");
    let webhooks = owner.get("/webhooks").await.expect(200);
    let webhook = &webhooks["data"][0];
    assert_eq!((&webhook["url"], &webhook["metadata"]), (&json!("https://hooks.acme.example/a"), &json!({ "n": 1 })));
    assert_eq!(webhook["headers"], json!({ "x-key": "********" }));
    let path = format!("/webhooks/{}/secret", webhook["id"].as_str().unwrap());
    assert!(owner.get(&path).await.expect(200)["data"]["secret"].as_str().unwrap().starts_with("whsec_"));
    let events = owner.get("/events?type=import.finished").await.expect(200);
    assert_eq!(events["data"][0]["payload"]["import_id"], import["id"], "{events}");

    let file = "name,description,schema\norder.paid,Paid,\"{\"\"type\"\":\"\"object\"\"}\"\norder..x,,\norder.new,,\"{\"\"type\"\":5}\"\n";
    let import = made(owner, file, "event_types", "commit").await;
    assert_eq!(counts(&import), [3, 1, 0, 2], "{import}");
    let kept = owner.get("/event-types/order.paid").await.expect(200);
    assert_eq!(kept["data"]["schema"], json!({ "type": "object" }));
    let other = made(owner, "name,description\norder.paid,Another\n", "event_types", "commit").await;
    assert_eq!(counts(&other), [1, 0, 0, 1], "what is there is not changed");
}

#[tokio::test]
async fn an_import_takes_what_its_rows_take_and_files_of_its_own() {
    let app = TestApp::start().await;
    let acme = app.tenant("acme").await;
    let file = acme.owner.upload("t.csv", "text/csv", b"name\na.b\n").await.expect(201)["data"]["id"].clone();
    let body = json!({ "file_id": file, "resource": "event_types", "mode": "commit" });
    let key = acme.api_key(&["imports:write", "imports:read", "files:read"]).await;
    let problem = key.post("/imports", body.clone()).await.problem(403, "permission_missing");
    assert_eq!(problem["permission"], "event_types:write");
    let other = app.tenant("other").await.owner;
    other.post("/imports", body.clone()).await.problem(422, "body_invalid");
    let text = acme.owner.upload("t.txt", "text/plain", b"name\n").await.expect(201)["data"]["id"].clone();
    let unsure = json!({ "file_id": text, "resource": "event_types", "mode": "commit" });
    let problem = acme.owner.post("/imports", unsure).await.problem(422, "body_invalid");
    assert_eq!(problem["errors"][0]["pointer"], "/format");
    let import = acme.owner.post("/imports", body.clone()).await.expect(202)["data"].clone();
    let path = format!("/imports/{}", import["id"].as_str().unwrap());
    acme.owner.get(&format!("{path}/report")).await.problem(409, "import_no_report");
    assert_eq!(acme.owner.post_empty(&format!("{path}/cancel")).await.expect(202)["data"]["state"], "cancelled");
    acme.owner.post_empty(&format!("{path}/cancel")).await.problem(409, "import_over");
    for _ in 0..10 {
        acme.owner.post("/imports", body.clone()).await.expect(202);
    }
    acme.owner.post("/imports", body).await.problem(409, "too_many_imports");
}

#[tokio::test]
async fn a_file_that_is_no_table_fails_with_its_reason() {
    let app = TestApp::start().await;
    let acme = app.quiet_tenant("acme").await;
    let _worker = app.worker();
    let body = json!({ "resource": "event_types", "mode": "commit" });
    let import = ask(&acme.owner, "t.csv", "text/csv", b"name,colour\na.b,red\n", body).await;
    acme.owner.until(import["job_id"].as_str().unwrap(), "failed").await;
    let path = format!("/imports/{}", import["id"].as_str().unwrap());
    let import = acme.owner.get(&path).await.expect(200)["data"].clone();
    assert_eq!(
        (&import["state"], &import["last_error"]["code"]),
        (&json!("failed"), &json!("columns_invalid")),
        "{import}"
    );
    let lines = report(&app, &acme.owner, &import).await;
    assert!(lines.len() == 1 && lines[0].starts_with("1,,columns_invalid,"), "{lines:?}");
}

#[tokio::test]
async fn why_a_file_is_refused_comes_after_as_many_faults_as_a_report_has() {
    let app = TestApp::start().await;
    let acme = app.quiet_tenant("acme").await;
    let _worker = app.worker();
    let file = format!("name\n{}{}", "a..b\n".repeat(10_050), "x".repeat(300 * 1024));
    let body = json!({ "resource": "event_types", "mode": "commit" });
    let import = ask(&acme.owner, "t.csv", "text/csv", file.as_bytes(), body).await;
    acme.owner.until(import["job_id"].as_str().unwrap(), "failed").await;
    let path = format!("/imports/{}", import["id"].as_str().unwrap());
    let import = acme.owner.get(&path).await.expect(200)["data"].clone();
    assert_eq!(counts(&import), [10_050, 0, 0, 10_050], "{import}");
    let lines = report(&app, &acme.owner, &import).await;
    assert_eq!(lines.len(), 10_001);
    assert!(lines[10_000].starts_with("10051,,row_too_large,"), "{}", lines[10_000]);
}

#[tokio::test]
async fn of_a_file_that_cannot_be_read_to_its_end_the_rest_is_made_and_reported() {
    let app = TestApp::start().await;
    let acme = app.quiet_tenant("acme").await;
    let owner = &acme.owner;
    let _worker = app.worker();
    let endless = "x".repeat(300 * 1024);
    let lines =
        format!("{{\"name\":\"a.b\"}}\n{{\"name\":\"a..b\"}}\n{{\"name\":\"a.c\"}}\n{{\"name\":\"{endless}\"}}\n");
    let body = json!({ "resource": "event_types", "mode": "commit", "format": "ndjson" });
    let import = ask(owner, "t.txt", "text/plain", lines.as_bytes(), body).await;
    let job = import["job_id"].as_str().unwrap();
    let path = format!("/imports/{}", import["id"].as_str().unwrap());
    for again in [false, true] {
        if again {
            owner.post_empty(&format!("/jobs/{job}/retry")).await.expect(202); // as after a crash before its end was stored
        }
        owner.until(job, "failed").await;
        let import = owner.get(&path).await.expect(200)["data"].clone();
        assert_eq!((counts(&import), &import["state"]), ([3, 2, 0, 1], &json!("failed")), "{import}");
        assert_eq!(import["last_error"]["code"], "row_too_large", "{import}");
        let lines = report(&app, owner, &import).await;
        assert!(lines[0].starts_with("2,/name,") && lines[1].starts_with("4,,row_too_large,after row 3:"), "{lines:?}");
        let events = owner.get("/events?type=import.finished").await.expect(200);
        assert_eq!(events["data"].as_array().unwrap().len(), 1, "{events}");
        assert_eq!(events["data"][0]["payload"]["refused"]["code"], "row_too_large", "{events}");
    }
    assert_eq!(app.db.sql("select count(*)::text from import_errors").await, [Some("0".to_owned())]);
}
