//! First answers by `Idempotency-Key`, written in the transaction of the work they answer.

use crate::Result;
use crate::infra::crypto::KeyRing;
use crate::infra::ids::TenantId;

/// Answers to people and to staff.
pub mod personal;
/// Every statement on `idempotency_keys` and `personal_answers`.
pub mod queries;

/// The answer that a key stands for. The body is sealed: it may show a secret that is shown only once.
#[derive(Debug, Clone)]
pub struct IdempotencyRecord {
    pub tenant: TenantId,
    /// Method and path.
    pub route: String,
    pub key: String,
    /// SHA-256 of the request's body.
    pub body_hash: [u8; 32],
    pub status: u16,
    /// The headers that are replayed, as a JSON object.
    pub headers: String,
    pub sealed_body: Vec<u8>,
}

impl IdempotencyRecord {
    /// Seals `body` for this tenant, route and key alone.
    pub fn seal(
        keys: &KeyRing,
        (tenant, route, key): (TenantId, &str, &str),
        body_hash: [u8; 32],
        (status, headers, body): (u16, String, &[u8]),
    ) -> Result<Self> {
        let sealed_body = keys.seal(&context(tenant, route, key), body)?;
        Ok(Self { tenant, route: route.to_owned(), key: key.to_owned(), body_hash, status, headers, sealed_body })
    }

    /// The body as it was first sent.
    pub fn open(&self, keys: &KeyRing) -> Result<Vec<u8>> {
        keys.open(&context(self.tenant, &self.route, &self.key), &self.sealed_body)
    }
}

pub(crate) fn context(tenant: TenantId, route: &str, key: &str) -> String {
    format!("idempotency_keys/{tenant}/{route}/{key}")
}
