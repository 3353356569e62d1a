//! Verifies a Standard Webhooks signature as a receiver does.
//!
//! Written apart from the sender's code, so that the demo checks what was sent and not what the sender believes. Only
//! `v1` (HMAC-SHA256); <https://www.standardwebhooks.com> has the specification.

use anyhow::{Context, Result, bail, ensure};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

const TOLERANCE_S: u64 = 300;

/// The three headers of a delivery.
#[derive(Debug, Clone, Copy)]
pub struct Signed<'a> {
    pub id: &'a str,
    pub timestamp: &'a str,
    pub signature: &'a str,
}

/// Fails unless one of the signatures is right and the timestamp is within five minutes of `now_s` (unix seconds).
pub fn verify(secret: &str, signed: Signed<'_>, body: &[u8], now_s: u64) -> Result<()> {
    let key = secret.strip_prefix("whsec_").with_context(|| "a webhook secret begins with whsec_")?;
    let key = STANDARD.decode(key).context("the part of the secret after whsec_ is no base64")?;
    ensure!(!key.is_empty(), "the secret is empty");

    let timestamp = signed.timestamp;
    let sent_s: u64 = timestamp.parse().with_context(|| format!("webhook-timestamp {timestamp:?} is no number"))?;
    ensure!(
        sent_s.abs_diff(now_s) <= TOLERANCE_S,
        "webhook-timestamp {sent_s} is more than {TOLERANCE_S} s from {now_s}"
    );

    for signature in signed.signature.split(' ').filter_map(|versioned| versioned.strip_prefix("v1,")) {
        let Ok(signature) = STANDARD.decode(signature) else { continue };
        let mut mac = Hmac::<Sha256>::new_from_slice(&key)?;
        mac.update(format!("{}.{timestamp}.", signed.id).as_bytes());
        mac.update(body);
        if mac.verify_slice(&signature).is_ok() {
            return Ok(()); // compared in constant time
        }
    }
    bail!("no v1 signature in {:?} fits the body", signed.signature)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Secret, id, timestamp, body, signature: the specification's published vectors.
    const VECTORS: [(&str, &str, &str, &str, &str); 2] = [
        (
            "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
            "msg_p5jXN8AQM9LWM0D4loKWxJek",
            "1614265330",
            r#"{"test": 2432232314}"#,
            "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
        ),
        (
            "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD",
            "msg_27UH4WbU6Z5A5EzD8u03UvzRbpk",
            "1649367553",
            r#"{"email":"test@example.com","username":"test_user"}"#,
            "v1,tZ1I4/hDygAJgO5TYxiSd6Sd0kDW6hPenDe+bTa3Kkw=",
        ),
    ];

    #[test]
    fn the_published_vectors_verify() {
        for (secret, id, timestamp, body, signature) in VECTORS {
            let now_s: u64 = timestamp.parse().unwrap();
            for signatures in [signature.to_owned(), format!("v1a,bm8= v1,bm8= {signature}")] {
                for now_s in [now_s, now_s + TOLERANCE_S, now_s - TOLERANCE_S] {
                    verify(secret, Signed { id, timestamp, signature: &signatures }, body.as_bytes(), now_s).unwrap();
                }
            }
        }
    }

    #[test]
    fn what_is_not_right_is_refused() {
        let (secret, id, timestamp, body, signature) = VECTORS[0];
        let now_s: u64 = timestamp.parse().unwrap();
        let right = Signed { id, timestamp, signature };
        let truncated = &signature[..signature.len() - 4];
        let other_version = signature.replace("v1,", "v2,");
        for (case, secret, signed, body, now_s) in [
            ("empty key", "whsec_", right, body, now_s),
            ("no prefix", &secret[6..], right, body, now_s),
            ("other key", VECTORS[1].0, right, body, now_s),
            ("too old", secret, right, body, now_s + TOLERANCE_S + 1),
            ("too new", secret, right, body, now_s - TOLERANCE_S - 1),
            ("timestamp no number", secret, Signed { timestamp: "soon", ..right }, body, now_s),
            ("other timestamp", secret, Signed { timestamp: "1614265331", ..right }, body, now_s),
            ("other id", secret, Signed { id: "msg_other", ..right }, body, now_s),
            ("other body", secret, right, "{}", now_s),
            ("no signature", secret, Signed { signature: "", ..right }, body, now_s),
            ("empty signature", secret, Signed { signature: "v1,", ..right }, body, now_s),
            ("truncated", secret, Signed { signature: truncated, ..right }, body, now_s),
            ("unknown version", secret, Signed { signature: &other_version, ..right }, body, now_s),
        ] {
            assert!(verify(secret, signed, body.as_bytes(), now_s).is_err(), "{case}");
        }
    }
}
