//! Content on its way from a client to storage.

use bytes::Bytes;
use millwork_shared::files::media::{self, HEAD_BYTES, Refusal};
use millwork_shared::infra::db::{PATIENCE, TenantTx};
use millwork_shared::infra::ids::{ObjectId, TenantId};
use millwork_shared::infra::storage::{Key, Stored, Writer};
use millwork_shared::infra::tasks;
use millwork_shared::objects::TOUCH;
use millwork_shared::objects::queries::{self as objects};
use poem::http::StatusCode;
use tokio::time::Instant;

use crate::App;
use crate::http::upload::FileForm;
use crate::http::{ApiError, Result};
use crate::quotas;

/// What a form has around its file, at least: reserved bytes are taken from the size of the whole.
const FORM_BYTES: u64 = 128;
/// What is reserved at first, and at least each time, of content whose size is not known.
const STEP_BYTES: i64 = 1024 * 1024;

/// A file that came, and is in storage. Dropped before it is [`kept`](Self::keep), it is given up.
pub struct Received {
    pub pending: Pending,
    pub stored: Stored,
    pub media_type: String,
    /// What the client calls it.
    pub name: String,
}

/// The row of an object that nothing refers to yet.
pub struct Pending {
    app: App,
    tenant: TenantId,
    pub object: ObjectId,
    settled: bool,
}

struct Receiving {
    pending: Pending,
    writer: Option<Writer>,
    quota: i64,
    /// Whether the client said how much it sends.
    sized: bool,
    reserved: i64,
    received: i64,
    touched: Instant,
}

/// Stores the file of a form as it comes: its type is looked at before anything is stored, its size on the way.
///
/// # Errors
/// 400 for what is no such form, 408 for a client that is too slow, 409 without room in the quota, 413 and 415 for a file
/// that is too large or of a type that is not allowed, 422 for one that is not what it is called, 503 while storage is
/// down. Nothing stays of it.
pub async fn file(app: &App, tenant: TenantId, form: &mut FileForm) -> Result<Received> {
    let most = app.settings.files.max_size_bytes;
    if form.at_most().is_some_and(|whole| whole > most + crate::http::streamed::FORM_BYTES) {
        return Err(too_large(most));
    }
    let mut part = form.file().await?;
    let name = super::types::clean_name(part.name().unwrap_or("file"), "/file")?;
    let claimed = part.media_type();
    let (mut head, mut begun) = (Vec::new(), Vec::<Bytes>::new());
    let mut ended = false;
    while head.len() < HEAD_BYTES && !ended {
        match part.chunk().await? {
            Some(chunk) => {
                head.extend_from_slice(&chunk[..chunk.len().min(HEAD_BYTES - head.len())]);
                begun.push(chunk);
            }
            None => ended = true,
        }
    }
    let media_type =
        media::identify(&head, claimed.as_deref(), &name, &app.settings.files.media_types).map_err(refused)?;
    let at_most = form.at_most().map(|whole| whole.saturating_sub(FORM_BYTES).min(most));
    let mut receiving = Receiving::begin(app, tenant, at_most).await?;
    for chunk in begun {
        receiving.push(chunk, most).await?;
    }
    while !ended {
        match part.chunk().await? {
            Some(chunk) => receiving.push(chunk, most).await?,
            None => ended = true,
        }
    }
    let (pending, stored) = receiving.finish().await?;
    Ok(Received { pending, stored, media_type, name })
}

impl Receiving {
    async fn begin(app: &App, tenant: TenantId, at_most: Option<u64>) -> Result<Self> {
        let quota = quotas::storage(app, tenant).await;
        let reserved = at_most.map_or(0, |bytes| bytes as i64);
        let object = quotas::reserve(app, tenant, reserved, quota).await?;
        let pending = Pending { app: app.clone(), tenant, object, settled: false };
        let writer = app.storage.write(&Key::of(tenant, object)).await?;
        Ok(Self {
            pending,
            writer: Some(writer),
            quota,
            sized: at_most.is_some(),
            reserved,
            received: 0,
            touched: Instant::now(),
        })
    }

    async fn push(&mut self, chunk: Bytes, most: u64) -> Result<()> {
        self.received += chunk.len() as i64;
        if self.received as u64 > most {
            return Err(too_large(most));
        }
        if self.received > self.reserved {
            self.grow().await?;
        } else if self.touched.elapsed() >= TOUCH {
            let mut tx = self.pending.app.db.tenant(self.pending.tenant).await?;
            objects::touch(&mut tx, self.pending.object).await?;
            tx.commit().await?;
            self.touched = Instant::now();
        }
        match &mut self.writer {
            Some(writer) => Ok(writer.push(chunk).await?),
            None => Ok(()),
        }
    }

    /// Takes more of the quota: what is needed, or as much again as there was, if there is room for that.
    async fn grow(&mut self) -> Result<()> {
        let needed = self.received - self.reserved;
        let step = if self.sized { needed } else { needed.max(self.reserved.max(STEP_BYTES)) };
        let (app, tenant, object) = (&self.pending.app, self.pending.tenant, self.pending.object);
        let mut by = step;
        if let Err(error) = quotas::grow(app, tenant, object, step, self.quota).await {
            if step == needed || error.code() != "storage_quota_exceeded" {
                return Err(error);
            }
            quotas::grow(app, tenant, object, needed, self.quota).await?;
            by = needed;
        }
        self.reserved += by;
        self.touched = Instant::now();
        Ok(())
    }

    async fn finish(mut self) -> Result<(Pending, Stored)> {
        let writer =
            self.writer.take().ok_or_else(|| ApiError::internal(anyhow::anyhow!("an upload without a writer")))?;
        let stored = writer.finish().await?;
        Ok((self.pending, stored))
    }
}

impl Pending {
    /// Makes the object one that is all there, in the transaction of what refers to it. Call
    /// [`settle`](Self::settle) once that is committed.
    pub async fn keep(&self, tx: &mut TenantTx, stored: &Stored) -> Result<()> {
        Ok(objects::store(tx, self.object, stored.size_bytes as i64, &stored.sha256).await?)
    }

    /// It is referred to.
    pub fn settle(mut self) {
        self.settled = true;
    }
}

impl Drop for Pending {
    /// Whatever stopped it, the client going away included: what was reserved is given back now, and the sweep deletes
    /// what is left.
    fn drop(&mut self) {
        if self.settled {
            return;
        }
        let (app, tenant, object) = (self.app.clone(), self.tenant, self.object);
        tasks::detach(async move {
            let abandon = async {
                let mut tx = app.db.tenant(tenant).await?;
                objects::abandon(&mut tx, object).await?;
                tx.commit().await
            };
            match tokio::time::timeout(PATIENCE, abandon).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::warn!(%error, %object, "an upload is given up later, by the sweep"),
                Err(_) => tracing::warn!(%object, "an upload is given up later, by the sweep"),
            }
        });
    }
}

fn too_large(most: u64) -> ApiError {
    let detail = format!("a file has at most {most} bytes here");
    ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, "file_too_large", detail)
}

/// 415 for what is not stored here, 422 for what is not what it is called.
pub fn refused(refusal: Refusal) -> ApiError {
    let status = match refusal {
        Refusal::Mismatch { .. } => StatusCode::UNPROCESSABLE_ENTITY,
        Refusal::NotAllowed { .. } => StatusCode::UNSUPPORTED_MEDIA_TYPE,
    };
    ApiError::new(status, refusal.code(), refusal.to_string())
}
