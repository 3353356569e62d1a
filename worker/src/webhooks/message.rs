//! The request that carries an event.

use bytes::Bytes;
use chrono::{DateTime, SecondsFormat, Utc};
use http::{HeaderMap, HeaderName, HeaderValue, header};
use millwork_shared::infra::crypto::KeyRing;
use millwork_shared::infra::ids::WebhookId;
use millwork_shared::webhooks::queries::Sender;
use millwork_shared::webhooks::{headers_context, secret_context};
use millwork_shared::{Error, Result};

use super::signature::{self, SigningKey};

/// The body: the payload goes in as the client sent it, byte for byte.
pub(super) fn body(event_type: &str, created_at: DateTime<Utc>, payload: &str) -> Bytes {
    let event_type = serde_json::Value::from(event_type);
    let timestamp = created_at.to_rfc3339_opts(SecondsFormat::Millis, true);
    Bytes::from(format!(r#"{{"type":{event_type},"timestamp":"{timestamp}","data":{payload}}}"#))
}

/// The keys that sign for an endpoint now: its secret, and the old one during a rotation.
pub(crate) fn signing_keys(
    ring: &KeyRing,
    webhook: WebhookId,
    secret: &[u8],
    old_secret: Option<&[u8]>,
) -> Result<Vec<SigningKey>> {
    let open = |sealed: &[u8]| -> Result<SigningKey> {
        let secret = ring.open(&secret_context(webhook), sealed)?;
        let secret = String::from_utf8(secret).map_err(|e| Error::Internal(e.into()))?;
        SigningKey::parse(&secret).map_err(|e| Error::Internal(e.into()))
    };
    std::iter::once(secret).chain(old_secret).map(open).collect()
}

/// The endpoint's own headers, then ours, which win.
pub(super) fn headers(
    ring: &KeyRing,
    webhook: WebhookId,
    sender: &Sender,
    message_id: &str,
    now: DateTime<Utc>,
    body: &[u8],
) -> Result<HeaderMap> {
    let mut headers = HeaderMap::new();
    if let Some(sealed) = &sender.sealed_headers {
        let own = ring.open(&headers_context(webhook), sealed)?;
        let own: std::collections::BTreeMap<String, String> = serde_json::from_slice(&own)?;
        for (name, value) in &own {
            insert(&mut headers, name, value)?;
        }
    }
    let secret = sender.sealed_secret.as_deref().ok_or(Error::NotFound("webhook"))?;
    let keys = signing_keys(ring, webhook, secret, sender.sealed_old_secret.as_deref())?;
    for (name, value) in signature::headers(&keys, message_id, now.timestamp(), body) {
        insert(&mut headers, name, &value)?;
    }
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(header::USER_AGENT, HeaderValue::from_static(crate::egress::USER_AGENT));
    Ok(headers)
}

fn insert(headers: &mut HeaderMap, name: &str, value: &str) -> Result<()> {
    let name = HeaderName::try_from(name).map_err(|e| Error::invalid("headers", e.to_string()))?;
    let value = HeaderValue::try_from(value).map_err(|e| Error::invalid("headers", e.to_string()))?;
    headers.insert(name, value);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_payload_is_not_rewritten() {
        let at = "2026-11-21T09:00:00.1234Z".parse().unwrap();
        let payload = "{ \"amount\" : 1.50, \"b\": 1e400, \"big\":12345678901234567890123 }";
        assert_eq!(
            body("order.created", at, payload),
            format!(r#"{{"type":"order.created","timestamp":"2026-11-21T09:00:00.123Z","data":{payload}}}"#)
        );
    }
}
