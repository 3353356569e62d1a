//! What is not stored, and why.

use millwork_shared::files::settings::FileSettings;
use millwork_shared::testing::object_store::ObjectStore;
use reqwest::Method;

use super::{PNG, states, used};
use crate::support::{Client, FORM, Options, Reply, TestApp};

async fn send(client: &Client, media_type: &str, body: impl Into<reqwest::Body>) -> Reply {
    Reply::of(client.request(Method::POST, "/files/upload").header("content-type", media_type).body(body)).await
}

#[tokio::test]
async fn what_is_not_what_it_is_called_or_not_allowed_is_refused_before_anything_is_stored() {
    let app = TestApp::start().await;
    let owner = app.tenant("acme").await.owner;
    owner.upload("a.jpg", "image/jpeg", PNG).await.problem(422, "media_type_mismatch");
    owner.upload("a.html", "text/html", b"<!DOCTYPE html><p>").await.problem(415, "media_type_not_allowed");
    owner.upload("a.png", "image/png", b"<svg onload=alert(1)>").await.problem(422, "media_type_mismatch");
    owner.upload("a.exe", "application/octet-stream", b"MZ\x90\0\x03").await.problem(415, "media_type_not_allowed");
    owner.upload("..", "text/plain", b"x").await.problem(422, "body_invalid");
    assert_eq!(states(&app).await, "");
}

#[tokio::test]
async fn what_is_no_form_with_one_file_is_refused() {
    let app = TestApp::start().await;
    let owner = app.tenant("acme").await.owner;
    let part = |name: &str| {
        format!("--0b\r\nContent-Disposition: form-data; name=\"{name}\"; filename=\"a.txt\"\r\n\r\nx\r\n")
    };
    send(&owner, "application/json", "{}").await.problem(415, "media_type_unsupported");
    send(&owner, "multipart/form-data", "x").await.problem(415, "media_type_unsupported");
    send(&owner, &format!("multipart/form-data; boundary={}", "b".repeat(71)), "x")
        .await
        .problem(415, "media_type_unsupported");
    for body in [
        String::new(),
        "--0b--\r\n".to_owned(),
        format!("{}--0b--\r\n", part("other")),
        format!("{}{}--0b--\r\n", part("file"), part("file")),
        part("file").trim_end().to_owned(),
        "--0b\r\nContent-Disposition".to_owned(),
    ] {
        send(&owner, FORM, body.clone()).await.problem(400, "form_malformed");
    }
    let endless = format!("--0b\r\nX: {}", "x".repeat(300 * 1024));
    send(&owner, FORM, endless).await.problem(413, "body_too_large");
    assert!(!states(&app).await.contains("pending"), "{}", states(&app).await);
    assert_eq!(used(&owner).await, 0);
}

#[tokio::test]
async fn the_largest_size_is_exact() {
    let files = FileSettings { max_size_bytes: 100_000, ..FileSettings::default() };
    let app = TestApp::start_with(Options { files, ..Options::default() }).await;
    let owner = app.tenant("acme").await.owner;
    let content = vec![b'x'; 100_001];
    owner.upload("a.txt", "text/plain", &content[1..]).await.expect(201);
    owner.upload("a.txt", "text/plain", &content).await.problem(413, "file_too_large");
    let huge = vec![b'x'; 1_000_000];
    owner.upload("a.txt", "text/plain", &huge).await.problem(413, "file_too_large");
    app.until_states("deleted=1 stored=1").await;
    assert_eq!(used(&owner).await, 100_000);
}

#[tokio::test]
async fn while_storage_is_down_uploads_and_downloads_say_so_and_all_else_works() {
    let store = ObjectStore::start().await;
    let app = TestApp::start_with(Options { storage: Some(store.storage()), ..Options::default() }).await;
    let owner = app.tenant("acme").await.owner;
    let file = owner.upload("a.txt", "text/plain", b"x").await.expect(201)["data"]["id"].as_str().unwrap().to_owned();
    drop(store);
    let down = owner.upload("b.txt", "text/plain", b"y").await;
    down.problem(503, "unavailable");
    assert!(!down.header("retry-after").is_empty());
    owner.get(&format!("/files/{file}/content")).await.problem(503, "unavailable");
    owner.get(&format!("/files/{file}")).await.expect(200);
    app.until_states("deleted=1 stored=1").await;
    assert_eq!(used(&owner).await, 1);
}
