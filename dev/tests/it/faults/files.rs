//! An API that is killed in the middle of uploads, and a worker in the middle of the sweep that clears up after it.

use std::fs::{self, File};
use std::io::Write;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use serde_json::json;

use crate::support::{Cluster, SOON, wait_for};

/// Of the content, before the API is killed: none of it, less than is looked at, some pieces, nearly all, all.
const CUTS: [usize; 5] = [0, 100, 1_500_000, CONTENT - 1, CONTENT];
const CONTENT: usize = 3_000_000;
const HEAD: &str =
    "--0b\r\ncontent-disposition: form-data; name=\"file\"; filename=\"a.txt\"\r\ncontent-type: text/plain\r\n\r\n";
const TAIL: &str = "\r\n--0b--\r\n";
/// Objects of no row, so that the sweep is long enough to be killed.
const ORPHANS: usize = 3_000;

#[test]
fn nothing_is_left_of_uploads_and_sweeps_that_were_killed_and_the_quota_is_exact() {
    let mut cluster = Cluster::start();
    let worker = cluster.spawn_worker();
    let content = vec![b'x'; CONTENT];
    let mut answered = Vec::new();
    for cut in CUTS {
        let mut stream = begin(&cluster, &content[..cut]);
        if cut == CONTENT {
            stream.write_all(TAIL.as_bytes()).unwrap();
        }
        if cut > 1_000_000 {
            wait_for("the upload's row", SOON, || used(&cluster) > (answered.len() * CONTENT) as u64);
        }
        cluster.crash_api();
        let kept = upload(&cluster, &content);
        answered.push(kept);
    }
    let stored = listed(&cluster);
    assert!(answered.iter().all(|id| stored.contains(id)), "what was answered is there");

    let objects = cluster.objects();
    let tenant = fs::read_dir(&objects).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let tenant = tenant.into_iter().find(|name| !name.starts_with('.')).unwrap();
    leave_orphans(&objects.join(tenant));
    age(&cluster, &objects);
    let sweep = cluster.client.post_with("/files/sweep", &json!({}), &[]);
    wait_for("a sweep at work", SOON, || files(&objects).len() < ORPHANS);
    worker.kill9().unwrap();
    let _worker = cluster.spawn_worker();
    cluster.wait_until_all_ended(SOON);
    let sweep = cluster.client.job(sweep["id"].as_str().unwrap());
    assert_eq!(sweep["state"], "succeeded", "{sweep}");

    let left = files(&objects);
    assert_eq!(left.len(), stored.len(), "an object a file, and no other: {left:?}");
    assert_eq!(used(&cluster), (stored.len() * CONTENT) as u64, "the quota is exact");
    for id in listed(&cluster) {
        let file = cluster.client.get(&format!("/files/{id}"));
        assert_eq!(file["data"]["size_bytes"], CONTENT, "{file}");
    }
    assert_eq!(listed(&cluster), stored, "no file was lost");
}

/// Sends the head of a form and a part of its file.
fn begin(cluster: &Cluster, part: &[u8]) -> TcpStream {
    let address = cluster.api.url.strip_prefix("http://").unwrap();
    let mut stream = TcpStream::connect(address).unwrap();
    let length = HEAD.len() + CONTENT + TAIL.len();
    write!(
        stream,
        "POST /api/v1/files/upload HTTP/1.1\r\nhost: {address}\r\nauthorization: Bearer {}\r\nconnection: close\r\n\
         content-type: multipart/form-data; boundary=0b\r\ncontent-length: {length}\r\n\r\n{HEAD}",
        cluster.client.token()
    )
    .unwrap();
    stream.write_all(part).unwrap();
    stream
}

/// Sends a whole file, and answers its id.
fn upload(cluster: &Cluster, content: &[u8]) -> String {
    let mut stream = begin(cluster, content);
    stream.write_all(TAIL.as_bytes()).unwrap();
    let answer = std::io::read_to_string(stream).unwrap();
    assert!(answer.starts_with("HTTP/1.1 201"), "{answer}");
    let body: serde_json::Value = serde_json::from_str(answer.split_once("\r\n\r\n").unwrap().1).unwrap();
    body["data"]["id"].as_str().unwrap().to_owned()
}

fn listed(cluster: &Cluster) -> Vec<String> {
    let files = cluster.client.get("/files?limit=100");
    files["data"].as_array().unwrap().iter().map(|file| file["id"].as_str().unwrap().to_owned()).collect()
}

fn used(cluster: &Cluster) -> u64 {
    cluster.client.get("/usage")["data"]["storage_bytes"].as_u64().unwrap()
}

/// Every file below the folder, the unfinished too.
fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let Ok(entries) = fs::read_dir(folder) else { return found };
    for entry in entries {
        let path = entry.unwrap().path();
        if path.is_dir() { found.extend(files(&path)) } else { found.push(path) }
    }
    found
}

/// Objects of the tenant that no row knows, each an id of two days ago.
fn leave_orphans(folder: &Path) {
    let then = SystemTime::now() - Duration::from_secs(2 * 86_400);
    let then = then.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_millis() as u64;
    for n in 0..ORPHANS as u64 {
        let time = format!("{:012x}", then + n);
        let id = format!("{}-{}-7000-8000-{n:012x}", &time[..8], &time[8..]);
        let place = folder.join(&time[..6]);
        fs::create_dir_all(&place).unwrap();
        fs::write(place.join(id), b"x").unwrap();
    }
}

/// Makes everything a day older: it is past every grace.
fn age(cluster: &Cluster, objects: &Path) {
    cluster.sql(
        "update objects set touched_at = touched_at - interval '1 day', delete_after = delete_after - interval '1 day';",
    );
    let then = SystemTime::now() - Duration::from_secs(86_400);
    for path in files(objects) {
        File::options().write(true).open(path).unwrap().set_modified(then).unwrap();
    }
}
