//! `Idempotency-Key`: the first answer of a POST is kept for a day and replayed.
//!
//! ```text
//! let mut tx = match key.begin(&app, &caller, body.hash()).await? {
//!     Begun::Replay(answer) => return Ok(answer.into()),
//!     Begun::Work(tx) => tx,
//! };
//! let webhook = webhooks::queries::insert(&mut tx, …).await?;
//! tx.finish(Created::at(&webhook, app.url(…))?).await
//! ```

use std::ops::{Deref, DerefMut};
use std::sync::Arc;

use millwork_shared::idempotency::{IdempotencyRecord, queries};
use millwork_shared::infra::crypto::KeyRing;
use millwork_shared::infra::db::TenantTx;
use millwork_shared::infra::ids::TenantId;
use poem::Request;
use poem::http::{HeaderName, StatusCode};
use sha2::{Digest, Sha256};

use super::answer::{Answer, Rendered};
use super::caller::Caller;
use super::error::{ApiError, Result};
use super::marked::marked;
use crate::App;

const HEADER: HeaderName = HeaderName::from_static("idempotency-key");
/// Names the extractor in the raw document; [`super::document`] puts the header in its place.
pub(super) const MARKER: &str = "x-millwork-idempotency-key";

/// The request's `Idempotency-Key`, if it has one, and the route it counts for.
#[derive(Debug, Clone)]
pub struct Idempotency {
    pub key: Option<String>,
    /// Method and path, ids included.
    pub route: String,
}

/// What to do about a request.
pub enum Begun {
    /// It was done before: send this.
    Replay(Rendered),
    /// It is new: do it in this transaction.
    Work(Work),
}

/// A tenant's transaction that keeps its answer. Dropped without [`finish`](Self::finish), it rolls back, key and all.
pub struct Work {
    tx: TenantTx,
    claim: Option<Claim>,
}

struct Claim {
    route: String,
    key: String,
    body_hash: [u8; 32],
    keys: Arc<KeyRing>,
}

impl Idempotency {
    /// Reads the header.
    ///
    /// # Errors
    /// 400 when it is not 1 to 255 printable characters.
    pub fn of(request: &Request) -> Result<Self> {
        let route = format!("{} {}", request.method(), request.original_uri().path());
        let Some(value) = request.headers().get(HEADER) else { return Ok(Self { key: None, route }) };
        let key = value.to_str().ok().filter(|key| (1..=255).contains(&key.len())).ok_or_else(|| {
            ApiError::malformed("idempotency_key_invalid", "an Idempotency-Key has 1 to 255 printable ASCII characters")
        })?;
        Ok(Self { key: Some(key.to_owned()), route })
    }

    /// The same key, but one of `asker`'s alone: for what is of a tenant and yet one's own.
    pub fn by(self, asker: impl std::fmt::Display) -> Self {
        Self { route: format!("{} by {asker}", self.route), ..self }
    }

    /// Begins the work in the caller's tenant, or finds that it was done.
    ///
    /// `body_hash` is [`Body::hash`](super::Body::hash), or [`no_body`] for a POST without one.
    ///
    /// # Errors
    /// 409 while a request with the key is running, 422 when the key was used with another body.
    pub async fn begin(self, app: &App, caller: &Caller, body_hash: [u8; 32]) -> Result<Begun> {
        self.begin_in(app, caller.tenant, body_hash).await
    }

    /// [`begin`](Self::begin) in a tenant that the caller is not of: for staff.
    pub async fn begin_in(self, app: &App, tenant: TenantId, body_hash: [u8; 32]) -> Result<Begun> {
        let mut tx = app.db.tenant(tenant).await?;
        let Some(key) = self.key else { return Ok(Begun::Work(Work { tx, claim: None })) };
        let Some(record) = queries::claim(&mut tx, &self.route, &key).await? else {
            let claim = Claim { route: self.route, key, body_hash, keys: app.keys.clone() };
            return Ok(Begun::Work(Work { tx, claim: Some(claim) }));
        };
        tx.commit().await?;
        replay(&record, body_hash, &app.keys).map(Begun::Replay)
    }
}

/// The stored answer, if `body_hash` is that of the request it answered.
pub fn replay(record: &IdempotencyRecord, body_hash: [u8; 32], keys: &KeyRing) -> Result<Rendered> {
    if record.body_hash != body_hash {
        return Err(reused());
    }
    let headers: StoredHeaders = serde_json::from_str(&record.headers).map_err(ApiError::internal)?;
    let body = record.open(keys)?.into();
    Ok(Rendered { status: record.status, location: headers.location, body, replayed: true })
}

/// The key came with another body before.
pub(super) fn reused() -> ApiError {
    let detail = "this Idempotency-Key was used with another body; take a fresh key for another request";
    ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, "idempotency_key_reused", detail)
}

/// The headers of `answer` that a replay repeats, as [`IdempotencyRecord`] keeps them.
pub fn stored_headers(answer: &Rendered) -> Result<String> {
    serde_json::to_string(&StoredHeaders { location: answer.location.clone() }).map_err(ApiError::internal)
}

#[derive(serde::Serialize, serde::Deserialize)]
struct StoredHeaders {
    #[serde(skip_serializing_if = "Option::is_none", default)]
    location: Option<String>,
}

/// The hash of no body.
pub fn no_body() -> [u8; 32] {
    Sha256::digest(b"").into()
}

impl Work {
    /// Keeps the answer with the work and commits both.
    pub async fn finish<T, const STATUS: u16>(mut self, answer: Answer<T, STATUS>) -> Result<Answer<T, STATUS>> {
        if let Some(claim) = self.claim {
            let rendered = answer.rendered();
            let record = IdempotencyRecord::seal(
                &claim.keys,
                (self.tx.tenant(), &claim.route, &claim.key),
                claim.body_hash,
                (rendered.status, stored_headers(rendered)?, &rendered.body),
            )?;
            queries::store(&mut self.tx, &record).await?;
        }
        self.tx.commit().await?;
        Ok(answer)
    }
}

impl<T, const STATUS: u16> From<Rendered> for Answer<T, STATUS> {
    fn from(rendered: Rendered) -> Self {
        Self::from_rendered(rendered)
    }
}

impl Deref for Work {
    type Target = TenantTx;

    fn deref(&self) -> &TenantTx {
        &self.tx
    }
}

impl DerefMut for Work {
    fn deref_mut(&mut self) -> &mut TenantTx {
        &mut self.tx
    }
}

marked!(Idempotency, Header, MARKER, Idempotency::of);
