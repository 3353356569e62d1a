use bytes::{Bytes, BytesMut};
use reqwest::header::ETAG;
use s3::command::{Command, Multipart};
use s3::serde_types::{CompleteMultipartUploadData, InitiateMultipartUploadResponse, Part};
use s3::signing::uri_encode;
use sha2::{Digest, Sha256};
use tokio::runtime::Handle;
use tokio::task::{JoinSet, spawn_blocking};

use super::call::{read, sign};
use super::{Fault, Key, S3};
use crate::infra::storage::Stored;
use crate::infra::tasks;
use crate::{Error, Result};

/// Of all parts but the last; five MiB is the least that services take.
const PART_BYTES: usize = 8 * 1024 * 1024;
/// Parts that a service takes for one object, which so has 78 GiB at most.
const MOST_PARTS: u32 = 10_000;
/// Parts of one object on their way while the next is gathered.
const UNDER_WAY: usize = 2;
/// What a reader is told the content is comes from the database.
const MEDIA_TYPE: &str = "application/octet-stream";

/// Sends parts as they fill; what is smaller than one goes as it is.
///
/// The service checks each part against the SHA-256 that is signed and the MD5 beside it, and the list of parts at the end.
#[derive(Debug)]
pub(in super::super) struct Writer {
    s3: S3,
    key: Key,
    gathered: BytesMut,
    /// None after a failure.
    hash: Option<Sha256>,
    size_bytes: u64,
    /// The service's name for it, once there is more than one part.
    upload: Option<String>,
    started: u32,
    sending: JoinSet<Result<Part, Fault>>,
    sent: Vec<Part>,
}

impl S3 {
    pub(in super::super) fn write(&self, key: Key) -> Writer {
        Writer {
            s3: self.clone(),
            key,
            gathered: BytesMut::new(),
            hash: Some(Sha256::new()),
            size_bytes: 0,
            upload: None,
            started: 0,
            sending: JoinSet::new(),
            sent: Vec::new(),
        }
    }
}

impl Writer {
    pub(in super::super) async fn push(&mut self, mut chunk: Bytes) -> Result<()> {
        while !chunk.is_empty() {
            let piece = chunk.split_to(chunk.len().min(PART_BYTES - self.gathered.len()));
            self.gathered.extend_from_slice(&piece);
            if self.gathered.len() == PART_BYTES {
                self.send_part().await?;
            }
        }
        Ok(())
    }

    pub(in super::super) async fn finish(mut self) -> Result<Stored> {
        if self.upload.is_none() {
            self.send_whole().await?;
        } else {
            if !self.gathered.is_empty() {
                self.send_part().await?;
            }
            while let Some(sent) = self.sending.join_next().await {
                self.note(sent)?;
            }
            self.complete().await?;
        }
        let hash = self.hash.take().ok_or_else(failed)?;
        Ok(Stored { size_bytes: self.size_bytes, sha256: hash.finalize().into() })
    }

    pub(in super::super) async fn abort(mut self) {
        // A part that arrives after the end of its upload would stay.
        self.sending.shutdown().await;
        if let Some(upload) = self.upload.take() {
            give_up(self.s3.clone(), self.key, upload).await;
        }
    }

    async fn send_whole(&mut self) -> Result<()> {
        let signed = self.sign(None).await?;
        self.s3.send(&signed, self.s3.deadlines.part).await?;
        Ok(())
    }

    async fn send_part(&mut self) -> Result<()> {
        if self.started == MOST_PARTS {
            let most = u64::from(MOST_PARTS) * PART_BYTES as u64;
            return Err(Error::invalid("content", format!("is longer than the {most} bytes that the storage takes")));
        }
        while self.sending.len() >= UNDER_WAY {
            if let Some(sent) = self.sending.join_next().await {
                self.note(sent)?;
            }
        }
        let upload = match &self.upload {
            Some(upload) => upload.clone(),
            None => self.initiate().await?,
        };
        self.started += 1;
        let number = self.started;
        let room = self.s3.parts.clone().acquire_owned().await.map_err(anyhow::Error::from)?;
        let signed = self.sign(Some((number, upload))).await?;
        let s3 = self.s3.clone();
        tasks::join(&mut self.sending, async move {
            let _room = room;
            let answer = s3.send(&signed, s3.deadlines.part).await?;
            let etag = answer.headers.get(ETAG).and_then(|etag| etag.to_str().ok());
            let etag = etag.ok_or_else(|| Fault::strange("a part has no tag"))?.to_owned();
            Ok(Part { part_number: number, etag })
        });
        Ok(())
    }

    /// Hashes what was gathered and signs it, on a thread that may take its time.
    async fn sign(&mut self, part: Option<(u32, String)>) -> Result<super::call::Signed> {
        let body = std::mem::take(&mut self.gathered).freeze();
        self.size_bytes += body.len() as u64;
        let mut hash = self.hash.take().ok_or_else(failed)?;
        let (bucket, path) = (self.s3.bucket.clone(), self.key.to_string());
        let work = move || {
            hash.update(&body);
            let upload = part.map(|(number, upload)| (number, uri_encode(&upload, true)));
            let command = Command::PutObject {
                content: &body,
                content_type: MEDIA_TYPE,
                custom_headers: None,
                multipart: upload.as_ref().map(|(number, upload)| Multipart::new(*number, upload)),
            };
            (hash, futures::executor::block_on(sign(&bucket, &path, command, body.clone())))
        };
        let (hash, signed) = spawn_blocking(work).await.map_err(anyhow::Error::from)?;
        self.hash = Some(hash);
        Ok(signed?)
    }

    async fn initiate(&mut self) -> Result<String> {
        let command = Command::InitiateMultipartUpload { content_type: MEDIA_TYPE };
        let answer = self.s3.call(&self.key.to_string(), command, Bytes::new()).await?;
        let answer: InitiateMultipartUploadResponse = read(&answer.body)?;
        self.upload = Some(answer.upload_id.clone());
        Ok(answer.upload_id)
    }

    fn note(&mut self, sent: Result<Result<Part, Fault>, tokio::task::JoinError>) -> Result<()> {
        self.sent.push(sent.map_err(anyhow::Error::from)??);
        Ok(())
    }

    async fn complete(&mut self) -> Result<()> {
        let Some(upload) = self.upload.clone() else { return Ok(()) };
        self.sent.sort_by_key(|part| part.part_number);
        let data = CompleteMultipartUploadData { parts: std::mem::take(&mut self.sent) };
        let body = Bytes::from(data.to_string());
        let command = Command::CompleteMultipartUpload { upload_id: &uri_encode(&upload, true), data };
        let signed = self.s3.sign(&self.key.to_string(), command, body).await?;
        match self.s3.send(&signed, self.s3.deadlines.part).await {
            Ok(_) => {}
            // The answer to an earlier try may have been lost.
            Err(Fault::Absent) if self.s3.head(self.key).await?.is_some_and(|s| s.size_bytes == self.size_bytes) => {}
            Err(fault) => return Err(fault.into()),
        }
        self.upload = None;
        Ok(())
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        if let (Some(upload), Ok(_)) = (self.upload.take(), Handle::try_current()) {
            let (s3, key, mut sending) = (self.s3.clone(), self.key, std::mem::take(&mut self.sending));
            tasks::detach(async move {
                sending.shutdown().await;
                give_up(s3, key, upload).await;
            });
        }
    }
}

async fn give_up(s3: S3, key: Key, upload: String) {
    if let Err(fault) = s3.abort(key, &upload).await {
        let error = Error::from(fault);
        tracing::warn!(%error, error.category = %error.category(), "an upload is left to the sweep");
    }
}

fn failed() -> Error {
    super::unavailable("the write failed before")
}
