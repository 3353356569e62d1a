//! Versions, changes, deletion and what comes back.

use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};

use super::{id, states, stored, used};
use crate::support::{Client, Options, PASSWORD, Reply, TestApp};

async fn replace(client: &Client, file: &Value, content: &[u8], version: i64) -> Reply {
    let form = client.form(Method::PUT, &format!("/files/{}/content", id(file)), "b.txt", "text/plain", content);
    Reply::of(form.header("if-match", format!("\"{version}\""))).await
}

#[tokio::test]
async fn another_content_is_another_version_and_the_oldest_go() {
    let app = TestApp::start().await;
    let owner = app.tenant("acme").await.owner;
    let file = stored(&owner, "a.txt", b"one").await;
    let at = format!("/files/{}", id(&file));
    owner.patch(&at, json!({ "keep_versions": 2 })).await.expect(200);
    let version = owner.get(&at).await.expect(200)["data"]["version"].as_i64().unwrap();
    let second = replace(&owner, &file, b"two!", version).await.expect(200)["data"].clone();
    assert_eq!((&second["number"], &second["size_bytes"], &second["name"]), (&json!(2), &json!(4), &json!("a.txt")));
    replace(&owner, &file, b"three", version).await.problem(412, "version_stale");
    assert_eq!(owner.get(&format!("{at}/content?number=1")).await.text(), "one");
    assert_eq!(used(&owner).await, 7);
    replace(&owner, &file, b"three", version + 1).await.expect(200);
    assert_eq!(owner.get(&format!("{at}/content")).await.text(), "three");
    owner.get(&format!("{at}/content?number=1")).await.problem(404, "not_found");
    let versions = owner.get(&format!("{at}/versions")).await.expect(200)["data"].clone();
    let numbers: Vec<_> = versions.as_array().unwrap().iter().map(|v| v["number"].as_i64().unwrap()).collect();
    assert_eq!(numbers, [3, 2]);
    assert_eq!(used(&owner).await, 9);
}

#[tokio::test]
async fn a_deleted_file_can_be_had_back_while_there_is_room() {
    let options = Options { quotas: "starter=9/9/9/10".parse().unwrap(), ..Options::default() };
    let app = TestApp::start_with(options).await;
    let owner = app.tenant("acme").await.owner;
    let file = stored(&owner, "a.txt", b"sixsix").await;
    let at = format!("/files/{}", id(&file));
    owner.post_empty(&format!("{at}/restore")).await.problem(409, "file_not_deleted");
    owner.delete(&at).await.expect(204);
    owner.delete(&at).await.problem(404, "not_found");
    owner.get(&format!("{at}/content")).await.problem(404, "not_found");
    assert_eq!(used(&owner).await, 0);
    let listed = owner.get("/files?deleted=true").await.expect(200)["data"].clone();
    assert_eq!(listed[0]["id"], file["id"]);
    let other = stored(&owner, "b.txt", b"five5").await;
    owner.post_empty(&format!("{at}/restore")).await.problem(409, "storage_quota_exceeded");
    owner.delete(&format!("/files/{}", id(&other))).await.expect(204);
    let back = owner.post_empty(&format!("{at}/restore")).await.expect(200)["data"].clone();
    assert_eq!(back["deleted_at"], Value::Null);
    assert_eq!(owner.get(&format!("{at}/content")).await.text(), "sixsix");
    assert_eq!((used(&owner).await, states(&app).await.as_str()), (6, "deleted=1 stored=1"));
}

#[tokio::test]
async fn what_is_over_cannot_be_read() {
    let app = TestApp::start().await;
    let acme = app.tenant("acme").await;
    let file = stored(&acme.owner, "a.txt", b"x").await;
    let at = format!("/files/{}", id(&file));
    let until = app.db.clock.now() + Duration::from_secs(3_600);
    acme.owner.patch(&at, json!({ "expires_at": until })).await.expect(200);
    app.advance(Duration::from_secs(3_601)).await;
    let body = json!({ "email": acme.email, "password": PASSWORD });
    let session = app.anonymous().post("/auth/login", body).await.expect(200);
    let owner = app.bearer(session["data"]["access_token"].as_str().unwrap());
    owner.get(&format!("{at}/content")).await.problem(404, "not_found");
    owner.get(&format!("{at}/url")).await.problem(404, "not_found");
}

#[tokio::test]
async fn a_change_is_checked_and_takes_the_version_it_was_made_for() {
    let app = TestApp::start().await;
    let owner = app.tenant("acme").await.owner;
    let file = stored(&owner, "a.txt", b"x").await;
    let at = format!("/files/{}", id(&file));
    let changed = owner.patch(&at, json!({ "name": "dir/b.txt" })).await.expect(200)["data"].clone();
    assert_eq!((&changed["name"], &changed["version"]), (&json!("b.txt"), &json!(3)));
    for (body, pointer) in [
        (json!({ "name": "a\u{202e}b" }), "/name"),
        (json!({ "name": ".." }), "/name"),
        (json!({ "keep_versions": 0 }), "/keep_versions"),
        (json!({ "expires_at": "2001-01-01T00:00:00Z" }), "/expires_at"),
    ] {
        let problem = owner.patch(&at, body).await.problem(422, "body_invalid");
        assert_eq!(problem["errors"][0]["pointer"], pointer, "{problem}");
    }
    let stale = owner.request(Method::PATCH, &at).header("if-match", "\"1\"").json(&json!({ "name": "c" }));
    Reply::of(stale).await.problem(412, "version_stale");
}
