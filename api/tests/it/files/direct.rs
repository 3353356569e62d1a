//! Uploads that go straight to storage.

use millwork_shared::testing::object_store::ObjectStore;
use reqwest::Method;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::{PNG, hex, id, used};
use crate::support::{Client, Options, PATIENCE, Reply, TestApp};

fn announced(content: &[u8], media_type: &str) -> Value {
    json!({
        "name": "a.png", "media_type": media_type, "size_bytes": content.len(),
        "sha256": hex(&Sha256::digest(content)),
    })
}

/// Sends content as the answer of `/files/presign` says.
async fn put(app: &TestApp, upload: &Value, content: &[u8]) -> Reply {
    assert_eq!(upload["method"], "PUT");
    let mut request = app.anonymous().request_url(Method::PUT, upload["url"].as_str().unwrap());
    for (name, value) in upload["headers"].as_object().unwrap() {
        if name != "content-length" {
            request = request.header(name, value.as_str().unwrap());
        }
    }
    Reply::of(request.body(content.to_vec())).await
}

async fn until_looked_at(client: &Client, file: &str) -> Value {
    let looked = async {
        loop {
            let file = client.get(&format!("/files/{file}")).await.expect(200)["data"].clone();
            if file["state"] != "verifying" {
                return file;
            }
        }
    };
    tokio::time::timeout(PATIENCE, looked).await.expect("nobody looked at the upload")
}

async fn round(app: &TestApp) {
    let acme = app.tenant("acme").await;
    let _worker = app.worker();
    let upload = acme.owner.post("/files/presign", announced(PNG, "image/png")).await.expect(201)["data"].clone();
    let file = id(&upload["file"]).to_owned();
    assert_eq!(used(&acme.owner).await, PNG.len() as i64);
    assert_eq!(acme.owner.get("/files").await.expect(200)["data"], json!([]), "nobody may have it yet");
    acme.owner.get(&format!("/files/{file}/content")).await.problem(409, "file_not_ready");
    let sent = put(app, &upload, PNG).await;
    assert!(matches!(sent.status, 200 | 204), "{} {}", sent.status, sent.text());
    acme.owner.post_empty(&format!("/files/{file}/complete")).await.expect(202);
    let ready = until_looked_at(&acme.owner, &file).await;
    assert_eq!((&ready["state"], &ready["media_type"]), (&json!("ready"), &json!("image/png")), "{ready}");
    assert_eq!(acme.owner.get(&format!("/files/{file}/content")).await.body, PNG);
    acme.owner.post_empty(&format!("/files/{file}/complete")).await.problem(409, "file_not_uploading");

    // Another version of it, that is not what it is called.
    let mut body = announced(b"a text, really", "image/png");
    body["name"].take();
    body["file_id"] = json!(file);
    let upload = acme.owner.post("/files/presign", body).await.expect(201)["data"].clone();
    put(app, &upload, b"a text, really").await;
    acme.owner.post_empty(&format!("/files/{file}/complete")).await.expect(202);
    let refused = until_looked_at(&acme.owner, &file).await;
    assert_eq!((&refused["state"], &refused["number"]), (&json!("refused"), &json!(1)), "{refused}");
    assert!(refused["refused"].as_str().unwrap().contains("image/png"), "{refused}");
    assert_eq!(acme.owner.get(&format!("/files/{file}/content")).await.body, PNG, "the one before stays");
    assert_eq!(used(&acme.owner).await, PNG.len() as i64, "what was refused takes no room");
}

#[tokio::test]
async fn what_is_sent_by_a_link_of_ours_is_looked_at_before_anybody_may_have_it() {
    round(&TestApp::start().await).await;
}

#[tokio::test]
async fn what_is_sent_to_an_object_store_is_looked_at_before_anybody_may_have_it() {
    let store = ObjectStore::start().await;
    round(&TestApp::start_with(Options { storage: Some(store.storage()), ..Options::default() }).await).await;
}

#[tokio::test]
async fn what_was_not_sent_or_is_other_than_announced_is_refused() {
    let app = TestApp::start().await;
    let owner = app.tenant("acme").await.owner;
    let _worker = app.worker();
    let upload = owner.post("/files/presign", announced(PNG, "image/png")).await.expect(201)["data"].clone();
    put(&app, &upload, &PNG[1..]).await.problem(422, "size_mismatch");
    let file = id(&upload["file"]).to_owned();
    owner.post_empty(&format!("/files/{file}/complete")).await.expect(202);
    assert_eq!(until_looked_at(&owner, &file).await["refused"], "nothing was sent");
    owner.get(&format!("/files/{file}/content")).await.problem(409, "file_not_ready");

    let upload = owner.post("/files/presign", announced(PNG, "image/png")).await.expect(201)["data"].clone();
    let mut other = PNG.to_vec();
    *other.last_mut().unwrap() ^= 1;
    put(&app, &upload, &other).await.expect(204);
    let file = id(&upload["file"]).to_owned();
    owner.post_empty(&format!("/files/{file}/complete")).await.expect(202);
    assert!(until_looked_at(&owner, &file).await["refused"].as_str().unwrap().contains("SHA-256"));
    put(&app, &upload, PNG).await.problem(409, "upload_expired");
}

#[tokio::test]
async fn what_is_announced_is_checked() {
    let app = TestApp::start().await;
    let owner = app.tenant("acme").await.owner;
    let with = |name: &str, value: Value| {
        let mut body = announced(PNG, "image/png");
        body[name] = value;
        body
    };
    for (body, pointer) in [
        (with("sha256", json!("x".repeat(64))), "/sha256"),
        (with("size_bytes", json!(-1)), "/size_bytes"),
        (with("size_bytes", json!(1u64 << 40)), "/size_bytes"),
        (with("media_type", json!("text/html")), "/media_type"),
        (with("file_id", json!("00000000-0000-7000-8000-000000000009")), "/name"),
        (with("name", Value::Null), "/name"),
    ] {
        let problem = owner.post("/files/presign", body).await.problem(422, "body_invalid");
        assert_eq!(problem["errors"][0]["pointer"], pointer, "{problem}");
    }
    let mut body = with("file_id", json!("00000000-0000-7000-8000-000000000009"));
    body["name"].take();
    owner.post("/files/presign", body).await.problem(404, "not_found");
    assert_eq!(used(&owner).await, 0);
}
