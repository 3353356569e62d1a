//! A bucket of an S3 service. `tenant/object` is the key there too.
//!
//! The crate rust-s3 signs requests and knows the forms of answers; they are sent by an HTTP client of ours, which has a
//! deadline for each and holds no body whole (decision 0036).

use std::fmt;
use std::net::Ipv4Addr;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use chrono::{DateTime, Utc};
use futures::{StreamExt, stream};
use reqwest::StatusCode;
use reqwest::header::{CONTENT_LENGTH, HeaderMap, LAST_MODIFIED};
use s3::Bucket;
use s3::command::Command;
use s3::creds::Credentials;
use s3::region::Region;
use s3::serde_types::{ListBucketResult, ListMultipartUploadsResult};
use s3::signing::uri_encode;
use tokio::sync::Semaphore;
use url::Url;

use super::url::{BucketUrl, Keys};
use super::{ByteStream, Deadlines, Entry, Key, Space, Stat, Unfinished, unavailable};
use crate::Result;

/// One request: signed, sent, tried again, understood.
mod call;
/// What can go wrong, and what it means.
mod fault;
/// Links for clients.
mod presign;
/// Parts on their way.
mod write;

use fault::Fault;
pub(super) use write::Writer;

/// Objects or uploads that a service tells of at once.
const MOST_KEYS: usize = 1_000;
/// Parts on their way in this process, of all uploads.
const PARTS_UNDER_WAY: usize = 16;

#[derive(Clone)]
pub(super) struct S3 {
    http: reqwest::Client,
    bucket: Arc<Bucket>,
    /// As clients reach it.
    public: Arc<Bucket>,
    deadlines: Deadlines,
    parts: Arc<Semaphore>,
}

impl S3 {
    pub(super) fn new(url: &BucketUrl, keys: &Keys, deadlines: Deadlines) -> anyhow::Result<Self> {
        #[expect(clippy::disallowed_methods, reason = "its address is the operator's, and each call has a deadline")]
        let mut http = reqwest::Client::builder()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(deadlines.connect)
            .http1_only();
        let public = url.public_endpoint.as_ref().or(url.endpoint.as_ref());
        let own = bucket(url, url.endpoint.as_ref(), keys)?;
        // Names below `localhost` are this machine (RFC 6761), which not every resolver knows: a bucket's is one of them.
        if let Some(host) = Url::parse(&own.url())?.host_str().filter(|host| host.ends_with(".localhost")) {
            http = http.resolve(host, (Ipv4Addr::LOCALHOST, 0).into());
        }
        Ok(Self {
            http: http.build()?,
            bucket: Arc::new(own),
            public: Arc::new(bucket(url, public, keys)?),
            deadlines,
            parts: Arc::new(Semaphore::new(PARTS_UNDER_WAY)),
        })
    }

    pub(super) async fn head(&self, key: Key) -> Result<Option<Stat>> {
        match self.call(&key.to_string(), Command::HeadObject, Bytes::new()).await {
            Ok(answer) => Ok(Some(stat(&answer.headers)?)),
            Err(Fault::Absent) => Ok(None),
            Err(fault) => Err(fault.into()),
        }
    }

    pub(super) async fn read(&self, key: Key, range: Range<u64>) -> Result<Option<ByteStream>> {
        if range.is_empty() {
            return Ok(self.head(key).await?.map(|_| stream::empty().boxed()));
        }
        let last = (range.end - 1).min(i64::MAX as u64); // some services read no more
        let command = Command::GetObjectRange { start: range.start.min(last), end: Some(last) };
        let response = match self.open(&key.to_string(), command).await {
            Ok(response) if response.status() == StatusCode::OK && range.start > 0 => {
                return Err(unavailable("a part of an object was asked for and all of it came"));
            }
            Ok(response) => response,
            Err(Fault::Absent) => return Ok(None),
            Err(Fault::Status(StatusCode::RANGE_NOT_SATISFIABLE, _)) => return Ok(Some(stream::empty().boxed())),
            Err(fault) => return Err(fault.into()),
        };
        let idle = self.deadlines.idle;
        let pieces = stream::try_unfold(response, move |mut response| async move {
            match tokio::time::timeout(idle, response.chunk()).await {
                Ok(Ok(piece)) => Ok(piece.map(|piece| (piece, response))),
                Ok(Err(error)) => Err(Fault::from(error).into()),
                Err(_) => Err(unavailable("the content stopped coming")),
            }
        });
        Ok(Some(pieces.boxed()))
    }

    pub(super) async fn delete(&self, key: Key) -> Result<()> {
        match self.call(&key.to_string(), Command::DeleteObject, Bytes::new()).await {
            Ok(_) | Err(Fault::Absent) => Ok(()),
            Err(fault) => Err(fault.into()),
        }
    }

    pub(super) async fn list(&self, after: Option<Key>, limit: usize) -> Result<Vec<Entry>> {
        let mut page = Vec::new();
        let mut after = after.map(|key| key.to_string());
        while page.len() < limit {
            let command = Command::ListObjectsV2 {
                prefix: String::new(),
                delimiter: None,
                continuation_token: None,
                start_after: after,
                max_keys: Some(MOST_KEYS.min(limit - page.len())),
            };
            let answer: ListBucketResult = self.ask(command).await?;
            after = answer.contents.last().map(|object| object.key.clone());
            for object in answer.contents {
                // What others keep in the bucket is none of ours.
                let Some(key) = Key::parse(&object.key) else { continue };
                let modified_at = moment(&object.last_modified)?;
                page.push(Entry { key, size_bytes: object.size, modified_at });
            }
            if !answer.is_truncated || after.is_none() {
                break;
            }
        }
        Ok(page)
    }

    pub(super) async fn unfinished(&self, after: Option<&Unfinished>, limit: usize) -> Result<Vec<Unfinished>> {
        let mut page = Vec::new();
        let (mut key_marker, mut upload_id_marker) =
            after.map(|after| (after.key.to_string(), after.upload.clone())).unzip();
        while page.len() < limit {
            let command = Command::ListMultipartUploads {
                prefix: None,
                delimiter: None,
                key_marker: key_marker.take(),
                upload_id_marker: upload_id_marker.take(),
                max_uploads: Some(MOST_KEYS.min(limit - page.len())),
            };
            let answer: ListMultipartUploadsResult = match self.ask(command).await {
                // Such a service forgets them by itself, or not at all.
                Err(Fault::Status(StatusCode::NOT_IMPLEMENTED, _)) => break,
                other => other?,
            };
            for upload in answer.uploads {
                let Some(key) = Key::parse(&upload.key) else { continue };
                let touched_at = moment(&upload.initiated)?;
                page.push(Unfinished { key, upload: upload.id, touched_at });
            }
            key_marker = answer.next_marker.filter(|marker| !marker.is_empty());
            upload_id_marker = answer.next_upload_id_marker.filter(|marker| !marker.is_empty());
            if !answer.is_truncated || key_marker.is_none() {
                break;
            }
        }
        Ok(page)
    }

    pub(super) async fn abandon(&self, unfinished: &Unfinished) -> Result<()> {
        Ok(self.abort(unfinished.key, &unfinished.upload).await?)
    }

    async fn abort(&self, key: Key, upload: &str) -> Result<(), Fault> {
        let upload_id = &uri_encode(upload, true);
        match self.call(&key.to_string(), Command::AbortMultipartUpload { upload_id }, Bytes::new()).await {
            Ok(_) | Err(Fault::Absent) => Ok(()),
            Err(fault) => Err(fault),
        }
    }

    /// Asked once, and not told how much room there is.
    pub(super) async fn space(&self) -> Result<Space> {
        let command = Command::ListObjectsV2 {
            prefix: String::new(),
            delimiter: None,
            continuation_token: None,
            start_after: None,
            max_keys: Some(1),
        };
        let signed = self.sign("/", command, Bytes::new()).await?;
        self.attempt(&signed, self.deadlines.call).await?;
        Ok(Space { free_bytes: None, size_bytes: None })
    }
}

fn bucket(url: &BucketUrl, endpoint: Option<&Url>, keys: &Keys) -> anyhow::Result<Bucket> {
    let region = match endpoint {
        Some(endpoint) => {
            let endpoint = endpoint.as_str().trim_end_matches('/').to_owned();
            Region::Custom { region: url.region.clone(), endpoint }
        }
        None => url.region.parse().map_err(|_| anyhow::anyhow!("`{}` is no region of Amazon's", url.region))?,
    };
    let credentials = Credentials::new(Some(&keys.id), Some(keys.secret.expose()), None, None, None)?;
    let bucket = Bucket::new(&url.name, region, credentials)?;
    Ok(if url.path_style { *bucket.with_path_style() } else { *bucket })
}

fn stat(headers: &HeaderMap) -> Result<Stat> {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    let size_bytes = text(CONTENT_LENGTH).and_then(|text| text.parse().ok());
    let modified_at = text(LAST_MODIFIED).and_then(|text| DateTime::parse_from_rfc2822(text).ok());
    match (size_bytes, modified_at) {
        (Some(size_bytes), Some(modified_at)) => Ok(Stat { size_bytes, modified_at: modified_at.to_utc() }),
        _ => Err(unavailable("an object has neither length nor date")),
    }
}

fn moment(text: &str) -> Result<DateTime<Utc>, Fault> {
    DateTime::parse_from_rfc3339(text).map(|at| at.to_utc()).map_err(Fault::strange)
}

impl fmt::Debug for S3 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("S3").field("bucket", &self.bucket.name).field("region", &self.bucket.region).finish()
    }
}

/// Seconds of a link, which has one at least and a week at most.
fn seconds(expires: Duration) -> u32 {
    u32::try_from(expires.as_secs()).unwrap_or(u32::MAX).clamp(1, 604_800)
}
