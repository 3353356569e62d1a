//! Checks a signed message as a careful receiver does.

use aws_lc_rs::hmac;
use aws_lc_rs::signature::{ED25519, UnparsedPublicKey};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::signature::{ID, SIGNATURE, SYMMETRIC_KEY_BYTES, SYMMETRIC_PREFIX, SecretFault, TIMESTAMP, signed_content};

/// How far a message's time may lie from now.
const TOLERANCE_S: u64 = 300;

/// What a receiver holds: the shared secret, or the sender's public key.
pub enum VerifyingKey {
    Symmetric(Box<hmac::Key>),
    Asymmetric(UnparsedPublicKey<Vec<u8>>),
}

#[derive(Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Missing, or not readable.
    Header(&'static str),
    TooOld,
    FromTheFuture,
    Signature,
}

impl VerifyingKey {
    /// Parses `whsec_…` or `whpk_…`.
    pub fn parse(text: &str) -> Result<Self, SecretFault> {
        let decode = |text: &str| STANDARD.decode(text).map_err(|_| SecretFault::Base64);
        if let Some(text) = text.strip_prefix(SYMMETRIC_PREFIX) {
            let key = decode(text)?;
            let fits = SYMMETRIC_KEY_BYTES.contains(&key.len());
            return if fits {
                Ok(Self::Symmetric(Box::new(hmac::Key::new(hmac::HMAC_SHA256, &key))))
            } else {
                Err(SecretFault::Key)
            };
        }
        let key = decode(text.strip_prefix("whpk_").ok_or(SecretFault::Prefix)?)?;
        Ok(Self::Asymmetric(UnparsedPublicKey::new(&ED25519, key)))
    }

    fn accepts(&self, version: &str, content: &[u8], signature: &[u8]) -> bool {
        match self {
            Self::Symmetric(key) => version == "v1" && hmac::verify(key, content, signature).is_ok(),
            Self::Asymmetric(key) => version == "v1a" && key.verify(content, signature).is_ok(),
        }
    }
}

/// Whether a message with these headers, names in lower case, is genuine and fresh at `now` (Unix seconds).
pub fn verify(key: &VerifyingKey, headers: &[(String, String)], body: &[u8], now: i64) -> Result<(), Refusal> {
    let header = |name: &'static str| {
        headers.iter().find(|(known, _)| known == name).map(|(_, v)| v.as_str()).ok_or(Refusal::Header(name))
    };
    let (id, timestamp, signatures) = (header(ID)?, header(TIMESTAMP)?, header(SIGNATURE)?);
    let timestamp: i64 = timestamp.parse().map_err(|_| Refusal::Header(TIMESTAMP))?;
    if now.abs_diff(timestamp) > TOLERANCE_S {
        return Err(if timestamp < now { Refusal::TooOld } else { Refusal::FromTheFuture });
    }
    let content = signed_content(id, timestamp, body);
    let genuine = signatures
        .split(' ')
        .filter_map(|entry| entry.split_once(','))
        .any(|(version, text)| STANDARD.decode(text).is_ok_and(|signature| key.accepts(version, &content, &signature)));
    if genuine { Ok(()) } else { Err(Refusal::Signature) }
}
