//! What only a folder can suffer.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use millwork_shared::Error;

use super::{Place, content, get, key, put};

#[tokio::test]
async fn nothing_lies_outside_of_the_folder_and_what_others_put_there_is_no_object() {
    let place = Place::folder();
    let (storage, root) = (&place.storage, place.root());
    let key = key();
    put(storage, &key, &content(10)).await;
    let tenant = root.join(key.tenant().to_string());
    let shard = tenant.join(&key.object().to_string()[..6]);
    assert!(shard.join(key.object().to_string()).is_file());
    for stranger in ["lost+found", "note.txt", "UPPER"] {
        fs::create_dir_all(root.join(stranger)).unwrap();
        fs::create_dir_all(tenant.join(stranger)).unwrap();
        fs::write(shard.join(stranger), "x").unwrap();
    }
    fs::write(root.join(".unfinished/stranger"), "x").unwrap();
    assert_eq!(storage.list(None, 10).await.unwrap().len(), 1);
    assert_eq!(storage.unfinished(None, 10).await.unwrap(), []);
}

#[tokio::test]
async fn folders_go_with_the_last_object_in_them() {
    let place = Place::folder();
    let (storage, root) = (&place.storage, place.root());
    let (a, b) = (key(), key());
    put(storage, &a, &content(10)).await;
    put(storage, &b, &content(10)).await;
    storage.delete(&a).await.unwrap();
    assert!(!root.join(a.tenant().to_string()).exists());
    assert!(root.join(b.tenant().to_string()).exists());
}

#[tokio::test]
async fn writers_and_deleters_of_one_folder_do_not_trip_each_other() {
    let place = Place::folder();
    let tenant = key().tenant();
    let work = (0..8).map(|_| {
        let storage = place.storage.clone();
        async move {
            for _ in 0..50 {
                let key = millwork_shared::infra::storage::Key::of(tenant, key().object());
                put(&storage, &key, &content(10)).await;
                storage.delete(&key).await.unwrap();
            }
        }
    });
    futures::future::join_all(work).await;
    assert_eq!(place.storage.list(None, 10).await.unwrap(), []);
}

#[tokio::test]
async fn a_folder_that_is_gone_is_unavailable_and_not_empty() {
    let place = Place::folder();
    let key = key();
    put(&place.storage, &key, &content(10)).await;
    fs::remove_dir_all(place.root()).unwrap();
    let error = place.storage.list(None, 10).await.unwrap_err();
    assert!(matches!(error, Error::Unavailable { dependency: "storage", .. }), "{error:?}");
}

#[tokio::test]
async fn a_place_that_cannot_be_written_to_is_unavailable() {
    let place = Place::folder();
    fs::write(place.root().join(".unfinished"), "in the way").unwrap();
    let error = place.storage.write(&key()).await.unwrap_err();
    assert!(matches!(error, Error::Unavailable { dependency: "storage", .. }), "{error:?}");
}

#[tokio::test]
async fn what_was_read_before_it_was_deleted_is_read_to_its_end() {
    let place = Place::folder();
    let (key, content) = (key(), content(5 << 20));
    put(&place.storage, &key, &content).await;
    let stream = place.storage.read(&key, 0..u64::MAX).await.unwrap().unwrap();
    place.storage.delete(&key).await.unwrap();
    let read = futures::TryStreamExt::try_fold(stream, Vec::new(), |mut all, bytes| async move {
        all.extend_from_slice(&bytes);
        Ok(all)
    });
    assert!(read.await.unwrap() == content);
    assert_eq!(get(&place.storage, &key, 0..1).await, None);
}

#[tokio::test]
async fn what_others_on_the_machine_may_do_with_objects_is_nothing() {
    let place = Place::folder();
    let key = key();
    put(&place.storage, &key, &content(5)).await;
    let file = place.root().join(key.tenant().to_string());
    for path in [place.root().to_owned(), file] {
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o007, 0, "{}: {mode:o}", path.display());
    }
}
