//! An endpoint as clients see it.

use std::collections::BTreeMap;

use millwork_shared::infra::crypto::KeyRing;
use millwork_shared::webhooks::headers_context;
use millwork_shared::webhooks::queries::WebhookRow;

use super::types::Webhook;
use crate::http::{ApiError, Result};

/// With the names of its headers.
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
