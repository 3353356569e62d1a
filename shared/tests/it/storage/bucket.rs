//! What only a service across a network can do.

use std::time::Duration;

use bytes::Bytes;
use hyper::Method;
use millwork_shared::Error;
use millwork_shared::infra::crypto::Secret;
use millwork_shared::infra::storage::{Deadlines, Download, Keys, Storage, Upload};
use millwork_shared::testing::object_store::{ObjectStore, Trouble};
use sha2::{Digest, Sha256};

use super::{content, get, key, put};

fn cause<T: std::fmt::Debug>(result: Result<T, Error>) -> String {
    match result.unwrap_err() {
        Error::Unavailable { dependency: "storage", cause } => cause,
        other => panic!("{other:?}"),
    }
}

/// So short that a test need not wait, and long enough for loopback.
fn impatient() -> Deadlines {
    let short = Duration::from_millis(300);
    Deadlines { connect: short, call: short, part: short, idle: short, tries: 2 }
}

#[tokio::test]
async fn wrong_keys_and_a_missing_bucket_are_told_from_an_absent_object() {
    let store = ObjectStore::start().await;
    let mut keys = ObjectStore::keys();
    keys.secret = Secret::new("another secret".to_owned());
    for keys in [keys, Keys { id: "UNKNOWN".to_owned(), ..ObjectStore::keys() }] {
        let storage = store.storage_with(&store.url(), &keys, Deadlines::default());
        for cause in [
            cause(storage.head(&key()).await),
            cause(storage.list(None, 1).await),
            cause(storage.space().await),
            cause(storage.delete(&key()).await),
        ] {
            assert!(cause.contains("refuses our keys"), "{cause}");
        }
        let mut writer = storage.write(&key()).await.unwrap();
        assert!(cause(writer.push(content(9 << 20)).await).contains("refuses our keys"));
    }
    let storage = Storage::open(&store.no_bucket(), Some(&ObjectStore::keys()), Deadlines::default()).unwrap();
    assert!(cause(storage.list(None, 1).await).contains("bucket does not exist"));
    assert!(!format!("{storage:?}").contains(ObjectStore::keys().secret.expose()), "{storage:?}");
}

#[tokio::test]
async fn a_service_that_dies_amid_an_upload_fails_it_and_the_rest_can_be_swept() {
    let mut store = ObjectStore::start().await;
    let storage = store.storage();
    let key = key();
    let mut writer = storage.write(&key).await.unwrap();
    writer.push(content(9 << 20)).await.unwrap();
    store.stop();
    let mut failed = None;
    for _ in 0..8 {
        if let Err(error) = writer.push(content(8 << 20)).await {
            failed = Some(error);
            break;
        }
    }
    assert!(matches!(failed, Some(Error::Unavailable { .. })), "{failed:?}");
    writer.abort().await;

    store.resume().await;
    assert_eq!(storage.head(&key).await.unwrap(), None);
    let left = storage.unfinished(None, 10).await.unwrap();
    assert_eq!(left.len(), 1);
    storage.abandon(&left[0]).await.unwrap();
    assert_eq!(storage.unfinished(None, 10).await.unwrap(), []);
}

#[tokio::test]
async fn requests_that_are_cut_are_sent_again() {
    let store = ObjectStore::start().await;
    let storage = store.storage();
    let content = content((17 << 20) + 5);
    for (after, method) in [
        (0, Method::POST), // the upload begins twice
        (0, Method::PUT),  // a part
        (1, Method::PUT),
        (1, Method::POST), // it ended, and nobody was told
    ] {
        let key = key();
        store.trouble(after, method.clone(), Trouble::LoseAnswer);
        put(&storage, &key, &content).await;
        assert!(get(&storage, &key, 0..u64::MAX).await.unwrap() == content, "{after} {method}");
    }
    let key = key();
    store.trouble(0, Method::PUT, Trouble::LoseAnswer);
    put(&storage, &key, &Bytes::from_static(b"whole")).await;
    for method in [Method::GET, Method::HEAD, Method::DELETE] {
        store.trouble(0, method.clone(), Trouble::LoseAnswer);
        if method == Method::DELETE {
            storage.delete(&key).await.unwrap();
        } else if method == Method::HEAD {
            assert_eq!(storage.head(&key).await.unwrap().unwrap().size_bytes, 5);
        } else {
            assert_eq!(get(&storage, &key, 0..9).await.unwrap(), b"whole");
        }
    }
}

#[tokio::test]
async fn a_service_that_does_not_answer_is_not_waited_for() {
    let store = ObjectStore::start().await;
    let storage = store.storage_with(&store.url(), &ObjectStore::keys(), impatient());
    let there = key();
    put(&storage, &there, &content(100)).await;
    store.trouble(0, Method::HEAD, Trouble::Hang);
    assert_eq!(cause(storage.head(&there).await), "no answer in time");
    assert_eq!(cause(storage.read(&there, 0..10).await.map(|_| ())), "no answer in time");
    assert_eq!(cause(storage.list(None, 1).await), "no answer in time");
    assert_eq!(cause(storage.space().await), "no answer in time");
    assert_eq!(cause(storage.delete(&there).await), "no answer in time");
    let mut whole = storage.write(&key()).await.unwrap();
    whole.push(content(5)).await.unwrap();
    assert_eq!(cause(whole.finish().await), "no answer in time");
    let mut parts = storage.write(&key()).await.unwrap();
    assert_eq!(cause(parts.push(content(9 << 20)).await), "no answer in time");
}

#[tokio::test]
async fn a_link_reads_one_object_under_the_name_it_says() {
    let store = ObjectStore::start().await;
    let storage = store.storage();
    let (key, content) = (key(), content(1_000));
    put(&storage, &key, &content).await;
    let as_ = Download {
        disposition: "attachment; filename=\"a b.csv\"; filename*=UTF-8''%C3%BC.csv".to_owned(),
        media_type: "text/csv; charset=utf-8".to_owned(),
    };
    let url = storage.presign_get(&key, Duration::from_secs(60), &as_).unwrap().unwrap();
    #[expect(clippy::disallowed_methods, reason = "a client's")]
    let client = reqwest::Client::new();
    let answer = client.get(url.clone()).send().await.unwrap();
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.headers()["content-disposition"], as_.disposition);
    assert_eq!(answer.headers()["content-type"], as_.media_type);
    assert!(answer.bytes().await.unwrap() == content);
    let part = client.get(url.clone()).header("range", "bytes=10-19").send().await.unwrap();
    assert!(part.bytes().await.unwrap() == content[10..20]);

    let mut other = url.clone();
    other.set_path(&url.path().replace(&key.object().to_string(), &super::key().object().to_string()));
    assert_eq!(client.get(other).send().await.unwrap().status(), 403);
    assert_eq!(client.delete(url).send().await.unwrap().status(), 403);
}

#[tokio::test]
async fn a_link_takes_what_was_announced_and_nothing_else() {
    let store = ObjectStore::start().await;
    let storage = store.storage();
    let content = content(1_000);
    #[expect(clippy::disallowed_methods, reason = "a client's")]
    let client = reqwest::Client::new();
    for sha256 in [None, Some(Sha256::digest(&content).into())] {
        let key = key();
        let what = Upload { size_bytes: 1_000, media_type: "text/csv".to_owned(), sha256 };
        let link = storage.presign_put(&key, Duration::from_secs(60), &what).unwrap().unwrap();
        let send = async |content: Bytes, without: &str, media_type: Option<&str>| {
            let mut request = client.put(link.url.clone()).body(content);
            for (name, value) in &link.headers {
                if name == "content-type" {
                    request = request.header(name, media_type.unwrap_or(value));
                } else if name != without && name != "content-length" {
                    request = request.header(name, value);
                }
            }
            request.send().await.unwrap().status().as_u16()
        };
        assert_eq!(send(content.slice(1..), "", None).await, 403, "another length");
        assert_eq!(send(content.clone(), "", Some("text/html")).await, 403, "another type");
        assert_eq!(send(content.clone(), &link.headers[2].0, None).await, 403, "a header is missing");
        if sha256.is_some() {
            let mut other = content.to_vec();
            other[7] ^= 1;
            assert_eq!(send(other.into(), "", None).await, 400, "another content");
        }
        assert_eq!(send(content.clone(), "", None).await, 200);
        assert!(get(&storage, &key, 0..2_000).await.unwrap() == content);
        if sha256.is_none() {
            assert_eq!(send(Bytes::from(vec![0; 1_000]), "", None).await, 412, "a second content");
            assert!(get(&storage, &key, 0..2_000).await.unwrap() == content);
        }
    }
}
