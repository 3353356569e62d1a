//! Content on its way in.

use bytes::Bytes;
use futures::StreamExt;
use futures::stream;
use reqwest::Method;
use serde_json::json;
use sha2::{Digest, Sha256};

use super::{PNG, hex, id, states, stored, used};
use crate::support::{FORM, Options, Reply, TestApp, form_around};

#[tokio::test]
async fn a_file_is_stored_as_it_is_and_shown() {
    let app = TestApp::start().await;
    let acme = app.tenant("acme").await;
    let reply = acme.owner.upload("C:\\fakepath\\Plan 7.png", "image/png", PNG).await;
    let file = reply.expect(201)["data"].clone();
    assert_eq!(reply.header("location"), format!("{}/api/v1/files/{}", app.url, id(&file)));
    assert_eq!((&file["name"], &file["media_type"]), (&json!("Plan 7.png"), &json!("image/png")), "{file}");
    assert_eq!(file["sha256"], hex(&Sha256::digest(PNG)));
    assert_eq!((&file["size_bytes"], &file["number"], &file["state"]), (&json!(PNG.len()), &json!(1), &json!("ready")));
    assert_eq!(file["created_by"], acme.owner_id.to_string());
    let at = format!("/files/{}", id(&file));
    assert_eq!(acme.owner.get(&at).await.expect(200)["data"], file);
    assert_eq!(acme.owner.get("/files").await.expect(200)["data"], json!([file]));
    let content = acme.owner.get(&format!("{at}/content")).await;
    assert_eq!((content.status, content.body.as_slice()), (200, PNG));
    assert_eq!(used(&acme.owner).await, PNG.len() as i64);
    let deeds = acme.owner.get("/audit-logs?resource_type=file").await.expect(200);
    assert_eq!(deeds["data"][0]["action"], "file.created", "{deeds}");
}

#[tokio::test]
async fn name_and_time_are_what_the_address_says() {
    let app = TestApp::start().await;
    let owner = app.tenant("acme").await.owner;
    let path = "/files/upload?name=b.txt&keep_versions=3&expires_at=2126-01-01T00:00:00Z";
    let file = Reply::of(owner.form(Method::POST, path, "a.txt", "text/plain", b"x")).await.expect(201)["data"].clone();
    assert_eq!((&file["name"], &file["keep_versions"]), (&json!("b.txt"), &json!(3)), "{file}");
    assert_eq!(file["expires_at"], "2126-01-01T00:00:00.000Z");
    let past = "/files/upload?expires_at=2001-01-01T00:00:00Z";
    let reply = Reply::of(owner.form(Method::POST, past, "a.txt", "text/plain", b"x")).await;
    assert_eq!(reply.problem(422, "body_invalid")["errors"][0]["pointer"], "/expires_at");
}

#[tokio::test]
async fn a_large_file_of_unknown_size_comes_in_pieces_and_goes_out_whole() {
    let app = TestApp::start().await;
    let acme = app.tenant("acme").await;
    let piece: Vec<u8> = (0..100_003u32).map(|n| b"abcdefghij\r\n-"[n as usize % 13]).collect();
    let whole = piece.repeat(60);
    let (head, tail) = form_around("a.txt", "text/plain");
    let pieces = std::iter::once(Bytes::from(head))
        .chain(std::iter::repeat_n(Bytes::from(piece), 60))
        .chain([Bytes::from(tail)]);
    let body = reqwest::Body::wrap_stream(stream::iter(pieces.map(Ok::<_, std::io::Error>)));
    let request = acme.owner.request(Method::POST, "/files/upload").header("content-type", FORM).body(body);
    let file = Reply::of(request).await.expect(201)["data"].clone();
    assert_eq!(file["sha256"], hex(&Sha256::digest(&whole)));
    let content = acme.owner.get(&format!("/files/{}/content", id(&file))).await;
    assert!(content.body == whole, "the content came back changed");
    assert_eq!(used(&acme.owner).await, whole.len() as i64, "what was reserved beyond it was given back");
}

#[tokio::test]
async fn an_upload_that_is_repeated_with_its_key_is_done_once() {
    let app = TestApp::start().await;
    let owner = app.tenant("acme").await.owner;
    let send = async |content: &[u8]| {
        let form = owner.form(Method::POST, "/files/upload", "a.txt", "text/plain", content);
        Reply::of(form.header("idempotency-key", "k")).await
    };
    let first = send(b"one").await;
    first.expect(201);
    let again = send(b"one").await;
    assert_eq!((again.status, &again.body), (201, &first.body));
    assert_eq!(again.header("idempotent-replayed"), "true");
    send(b"two").await.problem(422, "idempotency_key_reused");
    assert_eq!(owner.get("/files").await.expect(200)["data"].as_array().unwrap().len(), 1);
    app.until_states("deleted=2 stored=1").await;
    assert_eq!(used(&owner).await, 3);
}

#[tokio::test]
async fn of_two_that_race_for_the_last_bytes_one_is_stored() {
    let app =
        TestApp::start_with(Options { quotas: "starter=9/9/9/25000".parse().unwrap(), ..Options::default() }).await;
    let owner = app.tenant("acme").await.owner;
    let content = vec![b'x'; 10_000];
    let sent = stream::iter(0..8).map(|_| owner.upload("a.txt", "text/plain", &content)).buffer_unordered(8);
    let replies: Vec<Reply> = sent.collect().await;
    assert_eq!(replies.iter().filter(|reply| reply.status == 201).count(), 2);
    for reply in replies.iter().filter(|reply| reply.status != 201) {
        reply.problem(409, "storage_quota_exceeded");
    }
    app.until_states("stored=2").await;
    let quota = owner.get("/quotas").await.expect(200)["data"]["storage"].clone();
    assert_eq!(quota, json!({ "limit": 25_000, "used": 20_000, "remaining": 5_000 }));
    // To the last byte.
    owner.upload("a.txt", "text/plain", &content[..5_000]).await.expect(201);
    owner.upload("a.txt", "text/plain", b"x").await.problem(409, "storage_quota_exceeded");
    assert_eq!(used(&owner).await, 25_000);
}

#[tokio::test]
async fn owners_are_told_once_when_storage_is_nearly_full() {
    let app =
        TestApp::start_with(Options { quotas: "starter=9/9/9/1000".parse().unwrap(), ..Options::default() }).await;
    let acme = app.quiet_tenant("acme").await;
    let told = async || {
        let sql = format!(
            "select (payload::jsonb ->> 'metric') || ' ' || (payload::jsonb ->> 'percent') from jobs
              where tenant_id = '{}' and kind = 'quotas.send_notice' order by id",
            acme.id
        );
        app.db.sql(sql).await.into_iter().flatten().collect::<Vec<_>>()
    };
    stored(&acme.owner, "a", &[b'x'; 700]).await;
    assert!(told().await.is_empty());
    stored(&acme.owner, "b", &[b'x'; 100]).await;
    stored(&acme.owner, "c", &[b'x'; 1]).await;
    assert_eq!(told().await, ["storage 80"]);
    stored(&acme.owner, "d", &[b'x'; 199]).await;
    assert_eq!(told().await, ["storage 80", "storage 100"]);
}

#[tokio::test]
async fn a_client_that_goes_away_leaves_nothing() {
    let app = TestApp::start().await;
    let acme = app.tenant("acme").await;
    let (head, _) = form_around("a.txt", "text/plain");
    let (mut send, pieces) = futures::channel::mpsc::channel::<Result<Bytes, std::io::Error>>(1);
    let body = reqwest::Body::wrap_stream(pieces);
    let request = acme.owner.request(Method::POST, "/files/upload").header("content-type", FORM).body(body);
    let sending = millwork_shared::infra::tasks::spawn("upload", request.send());
    futures::SinkExt::send(&mut send, Ok(Bytes::from(head))).await.unwrap();
    for _ in 0..40 {
        futures::SinkExt::send(&mut send, Ok(Bytes::from(vec![b'x'; 64 * 1024]))).await.unwrap();
    }
    app.until_states("pending=1").await;
    assert!(used(&acme.owner).await >= 1024 * 1024, "what comes is counted before it is there");
    drop(send);
    sending.abort();
    app.until_states("deleted=1").await;
    assert_eq!(used(&acme.owner).await, 0);
    assert_eq!(states(&app).await, "deleted=1");
    assert!(app.app.storage.list(None, 10).await.unwrap().is_empty());
}
