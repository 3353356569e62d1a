use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use sha2::{Digest, Sha256};
use tokio::runtime::Handle;
use tokio::task::{JoinHandle, spawn_blocking};
use uuid::Uuid;

use super::{Key, UNFINISHED, blocking, joined, make, path};
use crate::Result;
use crate::infra::storage::Stored;

/// As much is gathered before threads write and hash it.
const GATHER_BYTES: usize = 1024 * 1024;

/// A file in `.unfinished` that grows. While one thread writes a lot and another hashes it, the next is gathered.
#[derive(Debug)]
pub(in super::super) struct Writer {
    root: PathBuf,
    key: Key,
    /// None once the file has its place, or is gone.
    unfinished: Option<PathBuf>,
    gathered: Vec<Bytes>,
    gathered_bytes: usize,
    size_bytes: u64,
    /// None after a failure.
    file: Option<Lane<File>>,
    hash: Option<Lane<Sha256>>,
}

/// What takes one lot after the other, on a thread that may block.
#[derive(Debug)]
enum Lane<T> {
    Idle(T),
    Busy(JoinHandle<io::Result<T>>),
}

impl<T: Send + 'static> Lane<T> {
    /// Waits for the lot under way.
    async fn settle(self) -> Result<T> {
        match self {
            Self::Idle(taker) => Ok(taker),
            Self::Busy(work) => joined(work).await,
        }
    }

    fn start(mut taker: T, lot: Arc<[Bytes]>, take: fn(&mut T, &[u8]) -> io::Result<()>) -> Self {
        Self::Busy(spawn_blocking(move || {
            for bytes in lot.iter() {
                take(&mut taker, bytes)?;
            }
            Ok(taker)
        }))
    }
}

impl Writer {
    pub(super) async fn create(root: PathBuf, key: Key) -> Result<Self> {
        let name = format!("{}.{}.{}", key.tenant(), key.object(), Uuid::new_v4());
        let unfinished = root.join(UNFINISHED).join(name);
        let file = blocking({
            let path = unfinished.clone();
            move || match create(&path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    path.parent().map_or(Ok(()), make)?;
                    create(&path)
                }
                created => created,
            }
        })
        .await?;
        Ok(Self {
            root,
            key,
            unfinished: Some(unfinished),
            gathered: Vec::new(),
            gathered_bytes: 0,
            size_bytes: 0,
            file: Some(Lane::Idle(file)),
            hash: Some(Lane::Idle(Sha256::new())),
        })
    }

    pub(in super::super) async fn push(&mut self, chunk: Bytes) -> Result<()> {
        self.gathered_bytes += chunk.len();
        self.gathered.push(chunk);
        if self.gathered_bytes >= GATHER_BYTES { self.flush().await } else { Ok(()) }
    }

    async fn flush(&mut self) -> Result<()> {
        let (file, hash) = self.settle().await?;
        let lot: Arc<[Bytes]> = std::mem::take(&mut self.gathered).into();
        self.size_bytes += std::mem::take(&mut self.gathered_bytes) as u64;
        self.file = Some(Lane::start(file, lot.clone(), |file, bytes| file.write_all(bytes)));
        self.hash = Some(Lane::start(hash, lot, |hash, bytes| {
            hash.update(bytes);
            Ok(())
        }));
        Ok(())
    }

    async fn settle(&mut self) -> Result<(File, Sha256)> {
        let (file, hash) = (self.file.take().ok_or_else(failed)?, self.hash.take().ok_or_else(failed)?);
        Ok((file.settle().await?, hash.settle().await?))
    }

    pub(in super::super) async fn finish(mut self) -> Result<Stored> {
        self.flush().await?;
        let (file, hash) = self.settle().await?;
        let (root, key) = (self.root.clone(), self.key);
        let from = self.unfinished.clone().ok_or_else(failed)?;
        blocking(move || {
            file.sync_all()?;
            place(&root, &from, &path(&root, key))
        })
        .await?;
        self.unfinished = None;
        Ok(Stored { size_bytes: self.size_bytes, sha256: hash.finalize().into() })
    }

    pub(in super::super) async fn abort(mut self) {
        if let Some(path) = self.unfinished.take() {
            let _ = blocking(move || fs::remove_file(path)).await;
        }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        if let (Some(path), Ok(runtime)) = (self.unfinished.take(), Handle::try_current()) {
            drop(runtime.spawn_blocking(move || fs::remove_file(path)));
        }
    }
}

fn create(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)
}

fn failed() -> crate::Error {
    super::unavailable("the write failed before")
}

/// Moves a file to its place, with the folders that it needs, so that it is there after a power cut.
fn place(root: &Path, from: &Path, to: &Path) -> io::Result<()> {
    let (Some(shard), Some(tenant)) = (to.parent(), to.parent().and_then(Path::parent)) else { return Ok(()) };
    let enter = || {
        if !shard.is_dir() {
            make(shard)?;
            sync(tenant)?;
            sync(root)?;
        }
        fs::rename(from, to)
    };
    // A folder goes with the last object in it, perhaps just now.
    for _ in 0..16 {
        match enter() {
            Err(error) if error.kind() == io::ErrorKind::NotFound && from.exists() => {}
            Err(error) => return Err(error),
            Ok(()) => return sync(shard),
        }
    }
    Err(io::Error::other("the folder goes as often as it is made"))
}

fn sync(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Error;
    use crate::infra::ids::{ObjectId, TenantId};

    /// A device that is always full stands for a disk that is.
    #[tokio::test]
    async fn a_full_disk_is_said_and_leaves_nothing_behind() {
        let root = std::env::temp_dir().join(format!("millwork-full-{}", Uuid::new_v4().simple()));
        let key = Key::of(TenantId::generate(), ObjectId::generate());
        for lots in [0, 1, 2] {
            let mut writer = Writer::create(root.clone(), key).await.unwrap();
            writer.file = Some(Lane::Idle(File::options().write(true).open("/dev/full").unwrap()));
            writer.push(vec![0].into()).await.unwrap(); // is gathered only
            let mut failed = None;
            for _ in 0..lots {
                failed = writer.push(vec![0; GATHER_BYTES].into()).await.err();
            }
            assert_eq!(failed.is_some(), lots == 2, "the next lot learns of it");
            let unfinished = writer.unfinished.clone().unwrap();
            let at_the_end = writer.finish().await.unwrap_err();
            let error = failed.unwrap_or(at_the_end);
            let Error::Unavailable { dependency: "storage", cause } = error else { panic!("{error:?}") };
            assert_eq!(cause, "no space is left");
            while unfinished.exists() {
                tokio::task::yield_now().await;
            }
        }
        fs::remove_dir_all(root).unwrap();
    }
}
