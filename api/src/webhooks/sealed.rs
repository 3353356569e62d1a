//! What of an endpoint is kept under the key ring.

use std::collections::BTreeMap;

use millwork_shared::infra::crypto::KeyRing;
use millwork_shared::infra::ids::WebhookId;
use millwork_shared::webhooks::queries::WebhookRow;
use millwork_shared::webhooks::{headers_context, secret_context};

use super::types::Webhook;
use crate::http::{ApiError, Result};

pub fn seal_secret(keys: &KeyRing, id: WebhookId, secret: &str) -> Result<Vec<u8>> {
    Ok(keys.seal(&secret_context(id), secret.as_bytes())?)
}

pub fn open_secret(keys: &KeyRing, id: WebhookId, sealed: &[u8]) -> Result<String> {
    String::from_utf8(keys.open(&secret_context(id), sealed)?).map_err(ApiError::internal)
}

/// None for no headers.
pub fn seal_headers(keys: &KeyRing, id: WebhookId, headers: &BTreeMap<String, String>) -> Result<Option<Vec<u8>>> {
    if headers.is_empty() {
        return Ok(None);
    }
    let text = serde_json::to_vec(headers).map_err(ApiError::internal)?;
    Ok(Some(keys.seal(&headers_context(id), &text)?))
}

/// The endpoint as clients see it, with the names of its headers.
pub fn show(keys: &KeyRing, mut row: WebhookRow) -> Result<Webhook> {
    let headers: BTreeMap<String, String> = match row.sealed_headers.take() {
        Some(sealed) => {
            let text = keys.open(&headers_context(row.id), &sealed)?;
            serde_json::from_slice(&text).map_err(ApiError::internal)?
        }
        None => BTreeMap::new(),
    };
    Ok(Webhook::new(row, headers.into_keys()))
}
