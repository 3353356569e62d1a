//! Endpoints that want a tenant's events, and the deliveries to them.

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

use crate::infra::crypto::{Secret, random_bytes};
use crate::infra::ids::WebhookId;

/// What no schema can say of an endpoint.
pub mod check;
/// Payloads.
pub mod jobs;
/// Every statement on the tables of webhooks.
pub mod queries;
/// What of an endpoint is kept under the key ring.
pub mod sealed;

/// Endpoints that a tenant may have.
pub const WEBHOOKS_PER_TENANT: i64 = 500;
/// Names and patterns that one endpoint may list.
pub const EVENT_TYPES_MAX: usize = 100;
/// The type of the event that tries an endpoint.
pub const TEST_EVENT_TYPE: &str = "webhook.test";
/// Bytes of an answer's body that are kept with the attempt.
pub const BODY_KEPT_BYTES: usize = 4 * 1024;

/// Headers of an endpoint that Millwork sets itself, beside those that nobody may set.
pub const OWN_HEADERS: [&str; 3] = ["content-type", "user-agent", "traceparent"];

/// A fresh signing secret: `whsec_` and 32 random bytes in base64.
pub fn generate_secret() -> Secret<String> {
    Secret::new(format!("whsec_{}", STANDARD.encode(random_bytes::<32>())))
}

/// What the secret of an endpoint is sealed with, so that it opens in its own row alone.
pub fn secret_context(id: WebhookId) -> String {
    format!("webhooks/{id}/secret")
}

/// What the headers of an endpoint are sealed with.
pub fn headers_context(id: WebhookId) -> String {
    format!("webhooks/{id}/headers")
}

/// What one attempt at a delivery met, kept with the job's attempt.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttemptDetail {
    /// Null when there was no answer.
    pub status: Option<u16>,
    pub latency_ms: u64,
    /// Of the answer, bounded.
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
    /// The first [`BODY_KEPT_BYTES`] of the answer's body, as text.
    pub body: Option<String>,
    /// Why the attempt did not succeed: `http_status`, or what kept it from an answer (`timeout`, `dns`,
    /// `circuit_open` …).
    pub error_class: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fresh_secret_has_the_form_and_strength_that_the_specification_wants() {
        let (one, two) = (generate_secret(), generate_secret());
        assert_ne!(one.expose(), two.expose());
        let key = STANDARD.decode(one.expose().strip_prefix("whsec_").unwrap()).unwrap();
        assert!((24..=64).contains(&key.len()));
    }
}
