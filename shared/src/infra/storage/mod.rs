//! Where the bytes of objects are: a folder, or a bucket of an S3 service.
//!
//! An object is whole or not there at all, never changes, and its name is made of ids alone: what users call it is a matter
//! of the database. Every call has a deadline, and holds a few megabytes at most, however large the object.

use std::sync::Arc;
use std::time::Duration;

use ::url::Url;
use bytes::Bytes;
use chrono::{DateTime, Utc};
use futures::stream::BoxStream;

use crate::infra::disk::Volume;
use crate::{Error, Result};

/// A folder on a disk of ours.
mod folder;
/// The names of objects.
mod key;
/// A bucket of an S3 service.
mod s3;
/// STORAGE_URL.
mod url;

use folder::Folder;
pub use key::Key;
use s3::S3;

pub use self::url::{BucketUrl, Keys, StorageArgs, StorageUrl};

/// What [`Error::Unavailable`] calls it.
const DEPENDENCY: &str = "storage";

/// The place of all objects. Clones are the same place.
#[derive(Debug, Clone)]
pub struct Storage(Arc<Backend>);

#[derive(Debug)]
enum Backend {
    Folder(Folder),
    S3(S3),
}

/// How long an S3 service may take.
#[derive(Debug, Clone, Copy)]
pub struct Deadlines {
    pub connect: Duration,
    /// One try of a request without content.
    pub call: Duration,
    /// One try of a part, eight megabytes.
    pub part: Duration,
    /// Between two pieces of content that comes.
    pub idle: Duration,
    /// Tries of one request in all.
    pub tries: u32,
}

impl Default for Deadlines {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(3),
            call: Duration::from_secs(10),
            part: Duration::from_secs(60),
            idle: Duration::from_secs(30),
            tries: 3,
        }
    }
}

/// Content on its way to a reader.
pub type ByteStream = BoxStream<'static, Result<Bytes>>;

/// What is known of an object without reading it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stat {
    pub size_bytes: u64,
    pub modified_at: DateTime<Utc>,
}

/// What a [`Writer`] wrote.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stored {
    pub size_bytes: u64,
    pub sha256: [u8; 32],
}

/// An object in a listing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    pub key: Key,
    pub size_bytes: u64,
    pub modified_at: DateTime<Utc>,
}

/// A write that has not come to its end, perhaps because nobody is at it any more.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Unfinished {
    pub key: Key,
    /// Tells it from others of the same key.
    pub upload: String,
    /// When it began, or when it last grew where that is known.
    pub touched_at: DateTime<Utc>,
}

/// What a reader is to take the content of a link for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Download {
    /// The whole `Content-Disposition`.
    pub disposition: String,
    pub media_type: String,
}

/// What a client is to send by a link; the link is good for nothing else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Upload {
    pub size_bytes: u64,
    pub media_type: String,
    pub sha256: Option<[u8; 32]>,
}

/// A link that takes one object, and the headers that its request must have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PresignedPut {
    pub url: Url,
    pub headers: Vec<(String, String)>,
}

/// Room, as far as the storage tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Space {
    pub free_bytes: Option<u64>,
    pub size_bytes: Option<u64>,
}

impl Storage {
    /// The storage that `url` names. A folder is made, if need be; a bucket is not asked for yet.
    ///
    /// # Errors
    /// Says why a folder cannot be made, or that keys are missing.
    pub fn open(url: &StorageUrl, keys: Option<&Keys>, deadlines: Deadlines) -> anyhow::Result<Self> {
        let backend = match (url, keys) {
            (StorageUrl::Folder(root), _) => Backend::Folder(Folder::open(root)?),
            (StorageUrl::Bucket(url), Some(keys)) => Backend::S3(S3::new(url, keys, deadlines)?),
            (StorageUrl::Bucket(_), None) => anyhow::bail!("there are no keys for the bucket"),
        };
        Ok(Self(Arc::new(backend)))
    }

    /// Objects below `root`.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn folder(root: impl AsRef<std::path::Path>) -> anyhow::Result<Self> {
        Ok(Self(Arc::new(Backend::Folder(Folder::open(root.as_ref())?))))
    }

    /// Begins to write an object, which is there when [`Writer::finish`] has returned.
    pub async fn write(&self, key: &Key) -> Result<Writer> {
        match &*self.0 {
            Backend::Folder(folder) => folder.write(*key).await.map(|w| Writer(Inner::Folder(Box::new(w)))),
            Backend::S3(s3) => Ok(Writer(Inner::S3(Box::new(s3.write(*key))))),
        }
    }

    /// None when the object is absent.
    pub async fn head(&self, key: &Key) -> Result<Option<Stat>> {
        match &*self.0 {
            Backend::Folder(folder) => folder.head(*key).await,
            Backend::S3(s3) => s3.head(*key).await,
        }
    }

    /// The bytes of `range`, as far as the object has them. None when it is absent.
    ///
    /// A stream that ends with an error has failed; one that was dropped is forgotten.
    pub async fn read(&self, key: &Key, range: std::ops::Range<u64>) -> Result<Option<ByteStream>> {
        match &*self.0 {
            Backend::Folder(folder) => folder.read(*key, range).await,
            Backend::S3(s3) => s3.read(*key, range).await,
        }
    }

    /// Deletes an object, if it is there.
    pub async fn delete(&self, key: &Key) -> Result<()> {
        match &*self.0 {
            Backend::Folder(folder) => folder.delete(*key).await,
            Backend::S3(s3) => s3.delete(*key).await,
        }
    }

    /// The first `limit` objects of all tenants behind `after`, in the order of their keys: by tenant, then by id, as
    /// PostgreSQL sorts them. Fewer than `limit` are the last.
    ///
    /// What others write and delete meanwhile may be among them or not; everything else is.
    pub async fn list(&self, after: Option<&Key>, limit: usize) -> Result<Vec<Entry>> {
        match &*self.0 {
            Backend::Folder(folder) => folder.list(after.copied(), limit).await,
            Backend::S3(s3) => s3.list(after.copied(), limit).await,
        }
    }

    /// The first `limit` unfinished writes behind `after`, in a stable order. Fewer than `limit` are the last.
    pub async fn unfinished(&self, after: Option<&Unfinished>, limit: usize) -> Result<Vec<Unfinished>> {
        match &*self.0 {
            Backend::Folder(folder) => folder.unfinished(after, limit).await,
            Backend::S3(s3) => s3.unfinished(after, limit).await,
        }
    }

    /// Gives a write up that nobody is at any more, and frees what it took.
    pub async fn abandon(&self, unfinished: &Unfinished) -> Result<()> {
        match &*self.0 {
            Backend::Folder(folder) => folder.abandon(unfinished).await,
            Backend::S3(s3) => s3.abandon(unfinished).await,
        }
    }

    /// A link to read an object without us. None for a folder, whose objects the API serves.
    pub fn presign_get(&self, key: &Key, expires: Duration, as_: &Download) -> Result<Option<Url>> {
        match &*self.0 {
            Backend::Folder(_) => Ok(None),
            Backend::S3(s3) => s3.presign_get(*key, expires, as_).map(Some),
        }
    }

    /// A link to write an object without us. None for a folder.
    pub fn presign_put(&self, key: &Key, expires: Duration, what: &Upload) -> Result<Option<PresignedPut>> {
        match &*self.0 {
            Backend::Folder(_) => Ok(None),
            Backend::S3(s3) => s3.presign_put(*key, expires, what).map(Some),
        }
    }

    /// The volume that a folder is on.
    pub fn volume(&self) -> Option<Volume> {
        match &*self.0 {
            Backend::Folder(folder) => Some(folder.volume()),
            Backend::S3(_) => None,
        }
    }

    /// Whether it answers, and what room is left.
    pub async fn space(&self) -> Result<Space> {
        match &*self.0 {
            Backend::Folder(folder) => folder.space().await,
            Backend::S3(s3) => s3.space().await,
        }
    }
}

/// An object that is being written. Dropped, it is given up.
#[derive(Debug)]
pub struct Writer(Inner);

#[derive(Debug)]
enum Inner {
    Folder(Box<folder::Writer>),
    S3(Box<s3::Writer>),
}

impl Writer {
    /// Takes the next bytes, and waits while it has too many.
    ///
    /// # Errors
    /// [`Error::Unavailable`] when the storage is down or full. Nothing more can be written then.
    pub async fn push(&mut self, chunk: Bytes) -> Result<()> {
        match &mut self.0 {
            Inner::Folder(writer) => writer.push(chunk).await,
            Inner::S3(writer) => writer.push(chunk).await,
        }
    }

    /// Makes the object appear, for good.
    pub async fn finish(self) -> Result<Stored> {
        match self.0 {
            Inner::Folder(writer) => writer.finish().await,
            Inner::S3(writer) => writer.finish().await,
        }
    }

    /// Gives the object up. A failure is no matter: what is left is [`Storage::unfinished`].
    pub async fn abort(self) {
        match self.0 {
            Inner::Folder(writer) => writer.abort().await,
            Inner::S3(writer) => writer.abort().await,
        }
    }
}

fn unavailable(cause: impl std::fmt::Display) -> Error {
    Error::Unavailable { dependency: DEPENDENCY, cause: cause.to_string() }
}
