//! Objects in a folder and in a bucket: the same for whoever keeps them.

mod bucket;
mod folder;

use std::collections::BTreeSet;
use std::path::PathBuf;

use bytes::Bytes;
use futures::TryStreamExt;
use millwork_shared::infra::ids::{ObjectId, TenantId};
use millwork_shared::infra::storage::{Entry, Key, Storage, Stored};
use millwork_shared::testing::object_store::ObjectStore;
use sha2::{Digest, Sha256};

/// A storage, and what goes with it when the test ends.
struct Place {
    storage: Storage,
    folder: Option<PathBuf>,
    _store: Option<ObjectStore>,
}

impl Place {
    fn folder() -> Self {
        let folder = std::env::temp_dir().join(format!("millwork-objects-{}", uuid::Uuid::new_v4().simple()));
        Self { storage: Storage::folder(&folder).unwrap(), folder: Some(folder), _store: None }
    }

    async fn bucket() -> Self {
        let store = ObjectStore::start().await;
        Self { storage: store.storage(), folder: None, _store: Some(store) }
    }

    async fn bucket_by_its_host() -> Self {
        let store = ObjectStore::start().await;
        let storage = store.storage_with(&store.virtual_url(), &ObjectStore::keys(), Default::default());
        Self { storage, folder: None, _store: Some(store) }
    }

    fn root(&self) -> &std::path::Path {
        self.folder.as_deref().unwrap()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(folder) = &self.folder {
            let _ = std::fs::remove_dir_all(folder);
        }
    }
}

/// Each of the functions is a test of every kind of storage.
macro_rules! everywhere {
    ($($test:ident),* $(,)?) => {
        mod in_a_folder {
            $(#[tokio::test]
            async fn $test() {
                super::$test(super::Place::folder()).await;
            })*
        }
        mod in_a_bucket {
            $(#[tokio::test]
            async fn $test() {
                super::$test(super::Place::bucket().await).await;
            })*
        }
        mod in_a_bucket_by_its_host {
            $(#[tokio::test]
            async fn $test() {
                super::$test(super::Place::bucket_by_its_host().await).await;
            })*
        }
    };
}

everywhere! {
    what_was_written_is_read,
    an_object_is_there_once_it_is_finished_and_not_before,
    what_is_given_up_leaves_nothing,
    any_range_can_be_read,
    what_is_absent_is_told_from_what_fails,
    objects_are_listed_in_order_page_by_page,
    unfinished_writes_are_listed_and_can_be_abandoned,
    a_second_write_of_a_key_takes_its_place,
}

fn key() -> Key {
    Key::of(TenantId::generate(), ObjectId::generate())
}

/// Bytes that do not repeat, so that a piece in the wrong place is seen.
fn content(len: usize) -> Bytes {
    (0..len).map(|at| ((at * 31) ^ (at >> 8) ^ (at >> 16)) as u8).collect()
}

async fn put(storage: &Storage, key: &Key, content: &Bytes) -> Stored {
    let mut writer = storage.write(key).await.unwrap();
    for chunk in content.chunks(100_000) {
        writer.push(content.slice_ref(chunk)).await.unwrap();
    }
    writer.finish().await.unwrap()
}

async fn get(storage: &Storage, key: &Key, range: std::ops::Range<u64>) -> Option<Vec<u8>> {
    let stream = storage.read(key, range).await.unwrap()?;
    Some(stream.map_ok(|bytes| bytes.to_vec()).try_concat().await.unwrap())
}

async fn what_was_written_is_read(place: Place) {
    let storage = &place.storage;
    // Nothing; less than a part; a part exactly; parts and a rest.
    for len in [0, 1, 1_000_000, 8 << 20, (20 << 20) + 7] {
        let (key, content) = (key(), content(len));
        let stored = put(storage, &key, &content).await;
        assert_eq!(stored.size_bytes, len as u64);
        assert_eq!(stored.sha256, <[u8; 32]>::from(Sha256::digest(&content)));
        assert_eq!(storage.head(&key).await.unwrap().unwrap().size_bytes, len as u64);
        assert!(get(storage, &key, 0..u64::MAX).await.unwrap() == content, "{len} bytes come back as others");
        storage.delete(&key).await.unwrap();
        assert_eq!(storage.head(&key).await.unwrap(), None);
    }
    assert_eq!(storage.list(None, 10).await.unwrap(), []);
    storage.space().await.unwrap();
}

async fn an_object_is_there_once_it_is_finished_and_not_before(place: Place) {
    let storage = &place.storage;
    let key = key();
    let mut writer = storage.write(&key).await.unwrap();
    writer.push(content(9 << 20)).await.unwrap();
    assert_eq!(storage.head(&key).await.unwrap(), None);
    assert_eq!(storage.list(None, 10).await.unwrap(), []);
    writer.finish().await.unwrap();
    assert_eq!(storage.list(None, 10).await.unwrap().len(), 1);
    assert_eq!(storage.unfinished(None, 10).await.unwrap(), []);
}

async fn what_is_given_up_leaves_nothing(place: Place) {
    let storage = &place.storage;
    for len in [0, 5, 17 << 20] {
        let key = key();
        let mut writer = storage.write(&key).await.unwrap();
        writer.push(content(len)).await.unwrap();
        writer.abort().await;
        assert_eq!(storage.head(&key).await.unwrap(), None);
    }
    assert_eq!(storage.unfinished(None, 10).await.unwrap(), []);
    // And so does one that is dropped, once its clean-up has run.
    let mut writer = storage.write(&key()).await.unwrap();
    writer.push(content(17 << 20)).await.unwrap();
    drop(writer);
    while !storage.unfinished(None, 10).await.unwrap().is_empty() {
        tokio::task::yield_now().await;
    }
    assert_eq!(storage.list(None, 10).await.unwrap(), []);
}

async fn any_range_can_be_read(place: Place) {
    let storage = &place.storage;
    let (key, content) = (key(), content(3 << 20));
    let len = content.len() as u64;
    put(storage, &key, &content).await;
    for range in [0..1, 0..len, 5..5, 1..len - 1, len - 1..len, 600_000..2_000_001, len - 5..len + 100] {
        let expected = &content[range.start as usize..range.end.min(len) as usize];
        assert!(get(storage, &key, range.clone()).await.unwrap() == expected, "{range:?}");
    }
    for beyond in [len..len + 1, len + 5..len + 9, len..len] {
        assert_eq!(get(storage, &key, beyond).await.unwrap(), b"");
    }
}

async fn what_is_absent_is_told_from_what_fails(place: Place) {
    let storage = &place.storage;
    let key = key();
    assert_eq!(storage.head(&key).await.unwrap(), None);
    assert_eq!(get(storage, &key, 0..10).await, None);
    assert_eq!(get(storage, &key, 0..0).await, None);
    storage.delete(&key).await.unwrap();
}

async fn objects_are_listed_in_order_page_by_page(place: Place) {
    let storage = &place.storage;
    let mut expected = BTreeSet::new();
    for _ in 0..3 {
        let tenant = TenantId::generate();
        for n in 0..7_u128 {
            // Days apart, so that they are not all in one folder.
            let object = uuid::Uuid::from_u128((n % 4) << 112 | 0x7 << 76 | 0x8 << 60 | (7 - n)).into();
            let key = Key::of(tenant, object);
            put(storage, &key, &content(n as usize)).await;
            expected.insert((key, n as u64));
        }
    }
    for limit in [1, 2, 5, 21, 100] {
        let (mut found, mut after): (Vec<Entry>, Option<Key>) = (Vec::new(), None);
        loop {
            let page = storage.list(after.as_ref(), limit).await.unwrap();
            assert!(page.len() <= limit);
            after = page.last().map(|entry| entry.key).or(after);
            let last = page.len() < limit;
            found.extend(page);
            if last {
                break;
            }
        }
        let found: Vec<_> = found.iter().map(|entry| (entry.key, entry.size_bytes)).collect();
        assert_eq!(found, expected.iter().copied().collect::<Vec<_>>(), "in pages of {limit}");
    }
}

async fn unfinished_writes_are_listed_and_can_be_abandoned(place: Place) {
    let storage = &place.storage;
    let mut writers = Vec::new();
    let mut keys = BTreeSet::new();
    for _ in 0..5 {
        let key = key();
        let mut writer = storage.write(&key).await.unwrap();
        writer.push(content(9 << 20)).await.unwrap();
        writers.push(writer);
        keys.insert(key);
    }
    let first = storage.unfinished(None, 3).await.unwrap();
    let rest = storage.unfinished(first.last(), 3).await.unwrap();
    let found: Vec<Key> = first.iter().chain(&rest).map(|unfinished| unfinished.key).collect();
    assert_eq!(found, keys.into_iter().collect::<Vec<_>>());
    for unfinished in first.iter().chain(&rest) {
        storage.abandon(unfinished).await.unwrap();
        storage.abandon(unfinished).await.unwrap(); // twice is no fault
    }
    assert_eq!(storage.unfinished(None, 10).await.unwrap(), []);
    // Who was still at it is told, and nothing appears.
    for writer in writers {
        writer.finish().await.unwrap_err();
    }
    assert_eq!(storage.list(None, 10).await.unwrap(), []);
}

async fn a_second_write_of_a_key_takes_its_place(place: Place) {
    let storage = &place.storage;
    let key = key();
    put(storage, &key, &content(100)).await;
    let again = content(200);
    put(storage, &key, &again).await;
    assert!(get(storage, &key, 0..1000).await.unwrap() == again);
    assert_eq!(storage.list(None, 10).await.unwrap().len(), 1);
}
