//! `tenant/shard/object` below a root, and what is being written in `.unfinished`.
//!
//! A shard is the first digits of the object's id, which are its time, to 4.66 hours: folders stay small however many objects
//! there are, and their order is the order of the ids.

use std::fs::{self, DirBuilder, File};
use std::io;
use std::ops::Range;
use std::os::unix::fs::{DirBuilderExt, FileExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use bytes::Bytes;
use chrono::{DateTime, Utc};
use futures::{StreamExt, stream};
use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::timeout;

use super::{ByteStream, Entry, Key, Space, Stat, Unfinished, unavailable};
use crate::infra::disk::Volume;
use crate::infra::ids::ObjectId;
use crate::{Error, Result};

/// Objects and unfinished writes in order, of folders of any size.
mod list;
/// Bytes to a file and its hash.
mod write;

pub(super) use write::Writer;

/// Where files are until they are whole. No tenant is called so.
const UNFINISHED: &str = ".unfinished";
/// Digits of an id that name its shard.
const SHARD_DIGITS: usize = 6;
/// How much a reader reads at once; two such wait for whoever takes them.
const READ_BYTES: u64 = 512 * 1024;
/// For a disk that does not answer, such as one across a network that is gone.
const DEADLINE: Duration = Duration::from_secs(30);

#[derive(Debug, Clone)]
pub(super) struct Folder {
    root: PathBuf,
    volume: Volume,
}

impl Folder {
    pub(super) fn open(root: &Path) -> anyhow::Result<Self> {
        make(root).with_context(|| format!("the folder {} cannot be made", root.display()))?;
        Ok(Self { volume: Volume::new("objects", root), root: root.to_owned() })
    }

    pub(super) async fn write(&self, key: Key) -> Result<Writer> {
        Writer::create(self.root.clone(), key).await
    }

    pub(super) async fn head(&self, key: Key) -> Result<Option<Stat>> {
        let path = path(&self.root, key);
        blocking(move || present(fs::symlink_metadata(path)).map(|found| found.map(|m| stat(&m)))).await
    }

    pub(super) async fn read(&self, key: Key, range: Range<u64>) -> Result<Option<ByteStream>> {
        let path = path(&self.root, key);
        let open = move || {
            let Some(file) = present(File::open(path))? else { return Ok(None) };
            let size_bytes = file.metadata()?.len();
            Ok(Some((std::sync::Arc::new(file), size_bytes)))
        };
        let Some((file, size_bytes)) = blocking(open).await? else { return Ok(None) };
        let (start, end) = (range.start, range.end.min(size_bytes));
        let pieces = (start..end).step_by(READ_BYTES as usize).map(move |at| {
            let (file, len) = (file.clone(), READ_BYTES.min(end - at) as usize);
            blocking(move || {
                let mut buffer = vec![0; len];
                file.read_exact_at(&mut buffer, at)?;
                Ok(Bytes::from(buffer))
            })
        });
        Ok(Some(stream::iter(pieces).buffered(2).boxed()))
    }

    pub(super) async fn delete(&self, key: Key) -> Result<()> {
        let path = path(&self.root, key);
        blocking(move || {
            if present(fs::remove_file(&path))?.is_some() {
                // Fails while anything is in them.
                let _ = path.parent().map(fs::remove_dir);
                let _ = path.parent().and_then(Path::parent).map(fs::remove_dir);
            }
            Ok(())
        })
        .await
    }

    pub(super) async fn list(&self, after: Option<Key>, limit: usize) -> Result<Vec<Entry>> {
        let root = self.root.clone();
        blocking(move || list::objects(&root, after, limit)).await
    }

    pub(super) async fn unfinished(&self, after: Option<&Unfinished>, limit: usize) -> Result<Vec<Unfinished>> {
        let folder = self.root.join(UNFINISHED);
        let after = after.map(unfinished_name);
        blocking(move || list::unfinished(&folder, after, limit)).await
    }

    pub(super) async fn abandon(&self, unfinished: &Unfinished) -> Result<()> {
        let name = unfinished_name(unfinished);
        if list::parse_unfinished(&name).is_none() {
            return Ok(());
        }
        let path = self.root.join(UNFINISHED).join(name);
        blocking(move || present(fs::remove_file(path)).map(|_| ())).await
    }

    pub(super) fn volume(&self) -> Volume {
        self.volume.clone()
    }

    pub(super) async fn space(&self) -> Result<Space> {
        let root = self.root.clone();
        blocking(move || fs::metadata(root)).await?; // the nearest folder that is there would do for the look
        let space = self.volume.look().await.map_err(fault)?;
        Ok(Space { free_bytes: Some(space.free_bytes), size_bytes: Some(space.size_bytes) })
    }
}

fn path(root: &Path, key: Key) -> PathBuf {
    let mut path = root.join(key.tenant().to_string());
    path.push(shard(key.object()));
    path.push(key.object().to_string());
    path
}

fn shard(object: ObjectId) -> String {
    let mut digits = object.0.simple().to_string();
    digits.truncate(SHARD_DIGITS);
    digits
}

/// `tenant.object.upload`
fn unfinished_name(unfinished: &Unfinished) -> String {
    format!("{}.{}.{}", unfinished.key.tenant(), unfinished.key.object(), unfinished.upload)
}

fn stat(metadata: &fs::Metadata) -> Stat {
    Stat { size_bytes: metadata.len(), modified_at: modified_at(metadata) }
}

fn modified_at(metadata: &fs::Metadata) -> DateTime<Utc> {
    metadata.modified().map(DateTime::from).unwrap_or_default()
}

/// Makes a folder, with all above it, that is nobody else's business.
fn make(folder: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(folder)
}

/// None for what is not there.
fn present<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Runs `work` on a thread that may block. Past the deadline it is left alone.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> Result<T> {
    joined(spawn_blocking(work)).await
}

async fn joined<T>(work: JoinHandle<io::Result<T>>) -> Result<T> {
    match timeout(DEADLINE, work).await {
        Ok(Ok(result)) => result.map_err(fault),
        Ok(Err(panic)) => Err(Error::Internal(panic.into())),
        Err(_) => Err(unavailable(format!("no answer within {} s", DEADLINE.as_secs()))),
    }
}

/// A folder that cannot be used is a dependency that is down, whatever the reason: a full disk, a volume that is gone.
fn fault(error: io::Error) -> Error {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => unavailable("no space is left"),
        _ => unavailable(error),
    }
}
