//! What of an endpoint is kept under the key ring.

use std::collections::BTreeMap;

use super::{headers_context, secret_context};
use crate::Result;
use crate::infra::crypto::KeyRing;
use crate::infra::ids::WebhookId;

pub fn seal_secret(keys: &KeyRing, id: WebhookId, secret: &str) -> Result<Vec<u8>> {
    keys.seal(&secret_context(id), secret.as_bytes())
}

pub fn open_secret(keys: &KeyRing, id: WebhookId, sealed: &[u8]) -> Result<String> {
    Ok(String::from_utf8(keys.open(&secret_context(id), sealed)?).map_err(anyhow::Error::from)?)
}

/// None for no headers.
pub fn seal_headers(keys: &KeyRing, id: WebhookId, headers: &BTreeMap<String, String>) -> Result<Option<Vec<u8>>> {
    if headers.is_empty() {
        return Ok(None);
    }
    Ok(Some(keys.seal(&headers_context(id), &serde_json::to_vec(headers)?)?))
}
