//! `Idempotency-Key` where no tenant asks but a person, one of the staff, or whoever holds a token (decision 43).
//!
//! ```text
//! let kept = key.of_asker(&app, Asker::Person(caller.user), body.hash());
//! let mut tx = app.db.identity().await?;
//! if let Some(answer) = kept.claim(&mut tx).await? {
//!     return Ok(answer);
//! }
//! …
//! let answer = kept.store(&mut tx, NoContent::done()).await?;
//! tx.commit().await?;
//! Ok(answer)
//! ```

use std::sync::Arc;

use millwork_shared::idempotency::personal::{Asker, PersonalAnswer, PersonalTx, Scope};
use millwork_shared::idempotency::queries;
use millwork_shared::infra::crypto::KeyRing;

use super::answer::{Answer, Rendered};
use super::error::{ApiError, Result};
use super::idempotency::{Idempotency, reused};
use super::marked::marked;
use crate::App;

/// Names [`NotKept`] in the raw document.
pub(super) const MARKER: &str = "x-millwork-idempotency-not-kept";

/// A key of one asker, if the request has one.
#[must_use]
#[derive(Debug)]
pub struct Kept(Option<Claim>);

#[derive(Debug)]
struct Claim {
    scope: Scope,
    body_hash: [u8; 32],
    keys: Arc<KeyRing>,
}

impl Idempotency {
    /// The key as one of `asker`'s. `body_hash` as for [`begin`](Self::begin).
    pub fn of_asker(self, app: &App, asker: Asker<'_>, body_hash: [u8; 32]) -> Kept {
        let Some(key) = self.key else { return Kept(None) };
        Kept(Some(Claim { scope: Scope::of(asker, &self.route, &key), body_hash, keys: app.keys.clone() }))
    }
}

impl Kept {
    /// The answer that was given before. Without one the key is this transaction's until it ends.
    ///
    /// # Errors
    /// 409 while a request with the key is running, 422 when the key was used with another body.
    pub async fn claim<Tx: PersonalTx, T, const STATUS: u16>(&self, tx: &mut Tx) -> Result<Option<Answer<T, STATUS>>> {
        let Some(claim) = &self.0 else { return Ok(None) };
        let Some(answer) = queries::claim_personal(tx, &claim.keys, &claim.scope).await? else { return Ok(None) };
        if answer.body_hash != claim.body_hash {
            return Err(reused());
        }
        let PersonalAnswer { status, location, body, .. } = answer;
        Ok(Some(Answer::from_rendered(Rendered { status, location, body: body.into(), replayed: true })))
    }

    /// Keeps `answer` with the work of the transaction that has claimed the key.
    pub async fn store<Tx: PersonalTx, T, const STATUS: u16>(
        &self,
        tx: &mut Tx,
        answer: Answer<T, STATUS>,
    ) -> Result<Answer<T, STATUS>> {
        let Some(claim) = &self.0 else { return Ok(answer) };
        let Rendered { status, location, body, .. } = answer.rendered();
        let body = String::from_utf8(body.to_vec()).map_err(ApiError::internal)?;
        let kept = PersonalAnswer { body_hash: claim.body_hash, status: *status, location: location.clone(), body };
        queries::store_personal(tx, &claim.keys, &claim.scope, &kept).await?;
        Ok(answer)
    }
}

/// An `Idempotency-Key` that is read and not kept: of requests that open or end a session. Why, and what a repeat of each
/// does, is decision 43.
#[derive(Debug)]
pub struct NotKept;

marked!(NotKept, Header, MARKER, |request| Idempotency::of(request).map(|_| NotKept));
