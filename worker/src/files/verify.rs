//! The kind `file.verify`.

use std::sync::Arc;

use futures::TryStreamExt;
use millwork_shared::files::jobs::VerifyFile;
use millwork_shared::files::media::{self, HEAD_BYTES};
use millwork_shared::files::queries::{self as rows, VersionRow};
use millwork_shared::infra::ids::TenantId;
use millwork_shared::infra::storage::Key;
use millwork_shared::jobs::Outcome;
use millwork_shared::objects::TOUCH;
use millwork_shared::objects::queries as objects;
use millwork_shared::{Error, Result};
use serde_json::value::to_raw_value;
use sha2::{Digest, Sha256};
use tokio::time::Instant;
use tracing::instrument;

use crate::context::Context;
use crate::runtime::Run;

/// What is in storage.
struct Looked {
    size_bytes: i64,
    sha256: [u8; 32],
    head: Vec<u8>,
}

/// Looks at what a client sent straight to storage: whether it is all there and what was announced. Only then may anybody
/// have it. What is refused is given up at once.
///
/// Safe to run twice: a version that was looked at is left as it is.
#[instrument(name = "job.file.verify", skip_all, fields(file.id = %job.file))]
pub async fn verify(job: VerifyFile, run: Arc<Run>, ctx: Arc<Context>) -> Result<Outcome> {
    let mut tx = ctx.db.tenant(run.tenant).await?;
    let found = async {
        let file = rows::get(&mut tx, job.file).await?;
        Ok((file.name, rows::get_version(&mut tx, job.file, job.number).await?))
    };
    let (name, version) = match found.await {
        Err(Error::NotFound(_)) => return Ok(Outcome::Done(None)), // it was deleted meanwhile
        found => found?,
    };
    tx.commit().await?;
    if version.state != "verifying" {
        return Ok(Outcome::Done(None));
    }
    let verdict = match look(&ctx, run.tenant, &version).await? {
        None => Err("nothing was sent".to_owned()),
        Some(looked) => judge(&looked, &version, &name, &ctx).map(|media_type| (media_type, looked)),
    };
    let mut tx = ctx.db.tenant(run.tenant).await?;
    let stored = match &verdict {
        Ok((media_type, looked)) => {
            objects::store(&mut tx, version.object_id, looked.size_bytes, &looked.sha256).await?;
            rows::verified(&mut tx, job.file, job.number, Ok(media_type)).await
        }
        Err(why) => {
            objects::abandon(&mut tx, version.object_id).await?;
            rows::verified(&mut tx, job.file, job.number, Err(why)).await
        }
    };
    match stored {
        Err(Error::NotFound(_)) => return Ok(Outcome::Done(None)),
        stored => stored?,
    }
    tx.commit().await?;
    let refused = verdict.err();
    tracing::info!(refused = refused.as_deref(), "a direct upload was looked at");
    Ok(Outcome::Done(Some(to_raw_value(&serde_json::json!({ "ready": refused.is_none(), "refused": refused }))?)))
}

/// Reads the object as it streams; None when there is none.
async fn look(ctx: &Context, tenant: TenantId, version: &VersionRow) -> Result<Option<Looked>> {
    let key = Key::of(tenant, version.object_id);
    // One byte more than was announced is enough to see that there are more.
    let most = version.claimed_bytes.unwrap_or_default() as u64 + 1;
    let Some(mut bytes) = ctx.storage.read(&key, 0..most).await? else { return Ok(None) };
    let (mut size_bytes, mut hash, mut head) = (0, Sha256::new(), Vec::new());
    let mut touched = Instant::now();
    while let Some(piece) = bytes.try_next().await? {
        size_bytes += piece.len() as i64;
        if head.len() < HEAD_BYTES {
            head.extend_from_slice(&piece[..piece.len().min(HEAD_BYTES - head.len())]);
        }
        hash.update(&piece);
        if touched.elapsed() >= TOUCH {
            let mut tx = ctx.db.tenant(tenant).await?;
            objects::touch(&mut tx, version.object_id).await?;
            tx.commit().await?;
            touched = Instant::now();
        }
    }
    Ok(Some(Looked { size_bytes, sha256: hash.finalize().into(), head }))
}

/// The media type by the content, or why it is refused.
fn judge(looked: &Looked, version: &VersionRow, name: &str, ctx: &Context) -> Result<String, String> {
    let announced = version.claimed_bytes.unwrap_or_default();
    if looked.size_bytes > announced {
        return Err(format!("{announced} bytes were announced, and more were sent"));
    }
    if looked.size_bytes < announced {
        return Err(format!("{announced} bytes were announced, and {} were sent", looked.size_bytes));
    }
    if version.claimed_sha256.as_deref().is_some_and(|claimed| claimed != looked.sha256) {
        return Err("the SHA-256 of what was sent is not the one that was announced".to_owned());
    }
    media::identify(&looked.head, Some(&version.media_type), name, &ctx.media_types)
        .map_err(|refusal| refusal.to_string())
}
