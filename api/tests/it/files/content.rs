//! Content on its way out.

use reqwest::Method;
use serde_json::{Value, json};

use super::{PNG, hex, id, stored};
use crate::support::{Client, Reply, TestApp};

async fn get(client: &Client, at: &str, headers: &[(&str, &str)]) -> Reply {
    let request = headers.iter().fold(client.request(Method::GET, at), |r, (name, value)| r.header(*name, *value));
    Reply::of(request).await
}

#[tokio::test]
async fn a_part_is_sent_and_what_is_known_is_not() {
    let app = TestApp::start().await;
    let owner = app.tenant("acme").await.owner;
    let file = stored(&owner, "a.txt", b"0123456789").await;
    let at = format!("/files/{}/content", id(&file));
    let whole = get(&owner, &at, &[]).await;
    let etag = whole.header("etag").to_owned();
    assert_eq!(etag, format!("\"{}\"", file["sha256"].as_str().unwrap()));
    assert_eq!((whole.header("content-length"), whole.header("accept-ranges")), ("10", "bytes"));
    let part = get(&owner, &at, &[("range", "bytes=2-4"), ("if-range", &etag)]).await;
    assert_eq!((part.status, part.text().as_str()), (206, "234"));
    assert_eq!((part.header("content-range"), part.header("content-length")), ("bytes 2-4/10", "3"));
    let beyond = get(&owner, &at, &[("range", "bytes=10-")]).await;
    beyond.problem(416, "range_not_satisfiable");
    assert_eq!(beyond.header("content-range"), "bytes */10");
    let known = get(&owner, &at, &[("if-none-match", &etag)]).await;
    assert_eq!((known.status, known.body.len(), known.header("etag")), (304, 0, etag.as_str()));
    let changed = get(&owner, &at, &[("range", "bytes=0-1"), ("if-range", "\"other\"")]).await;
    assert_eq!((changed.status, changed.body.len()), (200, 10));
    let empty = stored(&owner, "empty.txt", b"").await;
    let empty = get(&owner, &format!("/files/{}/content", id(&empty)), &[]).await;
    assert_eq!((empty.status, empty.header("content-length")), (200, "0"));
}

#[tokio::test]
async fn a_browser_saves_it_or_shows_what_can_do_nothing() {
    let app = TestApp::start().await;
    let owner = app.tenant("acme").await.owner;
    let name = "Übersicht \u{201c}7\u{201d}.png";
    let file = owner.upload(name, "image/png", PNG).await.expect(201)["data"].clone();
    let at = format!("/files/{}/content", id(&file));
    let saved = get(&owner, &at, &[]).await;
    assert!(
        saved
            .header("content-disposition")
            .starts_with("attachment; filename=\"_bersicht _7_.png\"; filename*=UTF-8''%C3%9C")
    );
    assert_eq!(saved.header("x-content-type-options"), "nosniff");
    assert!(saved.header("content-security-policy").contains("sandbox"));
    let shown = get(&owner, &format!("{at}?inline=true"), &[]).await;
    assert!(shown.header("content-disposition").starts_with("inline"));
    let pdf = owner.upload("a.pdf", "application/pdf", b"%PDF-1.7\n").await.expect(201)["data"].clone();
    let pdf = get(&owner, &format!("/files/{}/content?inline=true", id(&pdf)), &[]).await;
    assert!(pdf.header("content-disposition").starts_with("attachment"), "PDFs run scripts");
}

#[tokio::test]
async fn a_link_works_for_its_time_without_a_token_and_is_written_down() {
    let app = TestApp::start().await;
    let owner = app.tenant("acme").await.owner;
    let file = stored(&owner, "a.txt", b"0123456789").await;
    let link = owner.get(&format!("/files/{}/url?expires_in_s=60", id(&file))).await.expect(200)["data"].clone();
    let url = link["url"].as_str().unwrap();
    let path = url.strip_prefix(&format!("{}/api/v1", app.url)).unwrap();
    let anonymous = app.anonymous();
    let content = get(&anonymous, path, &[("range", "bytes=-1")]).await;
    assert_eq!((content.status, content.text().as_str()), (206, "9"));
    assert!(content.header("content-disposition").contains("a.txt"));
    get(&anonymous, &path[..path.len() - 1], &[]).await.problem(404, "not_found");
    Reply::of(anonymous.request(Method::PUT, path).body("x")).await.problem(404, "not_found");
    let entries = owner.get("/audit-logs?action=file.link_made").await.expect(200);
    assert_eq!(entries["data"][0]["resource_id"], file["id"]);
    app.advance(std::time::Duration::from_secs(61)).await;
    get(&anonymous, path, &[]).await.problem(404, "not_found");
}

#[tokio::test]
async fn a_link_ends_with_the_file() {
    let app = TestApp::start().await;
    let owner = app.tenant("acme").await.owner;
    let file = stored(&owner, "a.txt", b"0123456789").await;
    let at = format!("/files/{}", id(&file));
    let link = owner.get(&format!("{at}/url")).await.expect(200)["data"]["url"].clone();
    let path = link.as_str().unwrap().strip_prefix(&format!("{}/api/v1", app.url)).unwrap().to_owned();
    owner.delete(&at).await.expect(204);
    get(&app.anonymous(), &path, &[]).await.problem(404, "not_found");
    assert_eq!(json!([]), owner.get("/files").await.expect(200)["data"]);
}

#[tokio::test]
async fn links_of_a_suspended_tenant_lead_nowhere_until_it_is_resumed() {
    let app = TestApp::start().await;
    let acme = app.tenant("acme").await;
    let file = stored(&acme.owner, "a.txt", b"0123456789").await;
    let read = acme.owner.get(&format!("/files/{}/url", id(&file))).await.expect(200)["data"]["url"].clone();
    let sha256 = hex(&millwork_shared::infra::crypto::token_hash("x"));
    let presign = json!({ "name": "b.txt", "media_type": "text/plain", "size_bytes": 1, "sha256": sha256 });
    let send = acme.owner.post("/files/presign", presign).await.expect(201)["data"]["url"].clone();
    let path = |url: &Value| url.as_str().unwrap().strip_prefix(&format!("{}/api/v1", app.url)).unwrap().to_owned();
    let (read, send) = (path(&read), path(&send));
    let put = async || Reply::of(app.anonymous().request(Method::PUT, &send).body("x")).await;

    app.db.sql("update tenants set suspended_at = ledger_now()").await;
    get(&app.anonymous(), &read, &[]).await.problem(403, "tenant_suspended");
    put().await.problem(403, "tenant_suspended");
    app.db.sql("update tenants set suspended_at = null").await;
    assert_eq!((get(&app.anonymous(), &read, &[]).await.status, put().await.status), (200, 204));
}
