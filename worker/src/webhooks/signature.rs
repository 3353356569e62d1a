//! Standard Webhooks 1.0.0: what is signed, and how a signature is written.

use std::fmt;

use aws_lc_rs::hmac;
use aws_lc_rs::signature::Ed25519KeyPair;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

pub const ID: &str = "webhook-id";
pub const TIMESTAMP: &str = "webhook-timestamp";
pub const SIGNATURE: &str = "webhook-signature";

/// What a symmetric secret begins with, and how many bytes of key the specification wants behind it.
pub(super) const SYMMETRIC_PREFIX: &str = "whsec_";
pub(super) const SYMMETRIC_KEY_BYTES: std::ops::RangeInclusive<usize> = 24..=64;
const ASYMMETRIC_PREFIX: &str = "whsk_";

/// A secret that signs.
pub enum SigningKey {
    /// `v1`: HMAC-SHA256 under a `whsec_` secret, which the receiver has too.
    Symmetric(Box<hmac::Key>),
    /// `v1a`: Ed25519 under a `whsk_` secret, of which the receiver has the public half.
    Asymmetric(Ed25519KeyPair),
}

/// Why a secret does not sign.
#[derive(Debug, thiserror::Error)]
pub enum SecretFault {
    #[error("a signing secret begins with whsec_ or whsk_")]
    Prefix,
    #[error("a signing secret is base64 behind its prefix")]
    Base64,
    #[error("a whsec_ secret holds 24 to 64 bytes, a whsk_ secret an Ed25519 seed and its public key")]
    Key,
}

impl SigningKey {
    pub fn parse(secret: &str) -> Result<Self, SecretFault> {
        let decode = |text: &str| STANDARD.decode(text).map_err(|_| SecretFault::Base64);
        if let Some(text) = secret.strip_prefix(SYMMETRIC_PREFIX) {
            let key = decode(text)?;
            if !SYMMETRIC_KEY_BYTES.contains(&key.len()) {
                return Err(SecretFault::Key);
            }
            return Ok(Self::Symmetric(Box::new(hmac::Key::new(hmac::HMAC_SHA256, &key))));
        }
        let key = decode(secret.strip_prefix(ASYMMETRIC_PREFIX).ok_or(SecretFault::Prefix)?)?;
        let (seed, public) = key.split_at_checked(32).ok_or(SecretFault::Key)?;
        let pair = Ed25519KeyPair::from_seed_and_public_key(seed, public).map_err(|_| SecretFault::Key)?;
        Ok(Self::Asymmetric(pair))
    }

    /// One entry of the `webhook-signature` header.
    pub fn sign(&self, id: &str, timestamp: i64, body: &[u8]) -> String {
        let content = signed_content(id, timestamp, body);
        match self {
            Self::Symmetric(key) => format!("v1,{}", STANDARD.encode(hmac::sign(key, &content))),
            Self::Asymmetric(pair) => format!("v1a,{}", STANDARD.encode(pair.sign(&content))),
        }
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[signing key]")
    }
}

/// The three headers of a message. During a rotation several keys sign, and the receiver accepts any of them.
///
/// `id` stays the same for every attempt at one message and has no `.`; `timestamp` is this attempt's, in Unix seconds.
pub fn headers(keys: &[SigningKey], id: &str, timestamp: i64, body: &[u8]) -> [(&'static str, String); 3] {
    let signatures: Vec<_> = keys.iter().map(|key| key.sign(id, timestamp, body)).collect();
    [(ID, id.to_owned()), (TIMESTAMP, timestamp.to_string()), (SIGNATURE, signatures.join(" "))]
}

pub(super) fn signed_content(id: &str, timestamp: i64, body: &[u8]) -> Vec<u8> {
    let mut content = format!("{id}.{timestamp}.").into_bytes();
    content.extend_from_slice(body);
    content
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::webhooks::verify::{Refusal, VerifyingKey, verify};

    const V1_SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    const V1_ID: &str = "msg_p5jXN8AQM9LWM0D4loKWxJek";
    const V1_TIME: i64 = 1_614_265_330;
    const V1_BODY: &[u8] = br#"{"test": 2432232314}"#;
    const V1_SIGNATURE: &str = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=";
    const V2_SECRET: &str = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";
    const V3_SECRET: &str =
        "whsk_6Xb/dCcHpPea21PS1N9VY/NZW723CEc77N4rJCubMbfVKIDij2HKpMKkioLlX0dRqSKJp4AJ6p9lMicMFs6Kvg==";
    const V3_PUBLIC: &str = "whpk_1SiA4o9hyqTCpIqC5V9HUakiiaeACeqfZTInDBbOir4=";
    const V3_SIGNATURE: &str =
        "v1a,hnO3f9T8Ytu9HwrXslvumlUpqtNVqkhqw/enGzPCXe5BdqzCInXqYXFymVJaA7AZdpXwVLPo3mNl8EM+m7TBAg==";

    fn key(secret: &str) -> SigningKey {
        SigningKey::parse(secret).unwrap()
    }

    /// The headers of vector V1 with one replaced, or left out.
    fn v1_headers(name: &str, value: Option<&str>) -> Vec<(String, String)> {
        let time = V1_TIME.to_string();
        [(ID, V1_ID), (TIMESTAMP, time.as_str()), (SIGNATURE, V1_SIGNATURE)]
            .into_iter()
            .filter_map(|(known, v)| Some((known.to_owned(), if known == name { value? } else { v }.to_owned())))
            .collect()
    }

    fn verdict(headers: &[(String, String)], now: i64) -> Result<(), Refusal> {
        verify(&VerifyingKey::parse(V1_SECRET).unwrap(), headers, V1_BODY, now)
    }

    #[test]
    fn the_published_vectors_are_signed_alike() {
        let v2_body = br#"{"email":"test@example.com","username":"test_user"}"#;
        assert_eq!(key(V1_SECRET).sign(V1_ID, V1_TIME, V1_BODY), V1_SIGNATURE);
        assert_eq!(
            key(V2_SECRET).sign("msg_27UH4WbU6Z5A5EzD8u03UvzRbpk", 1_649_367_553, v2_body),
            "v1,tZ1I4/hDygAJgO5TYxiSd6Sd0kDW6hPenDe+bTa3Kkw="
        );
        assert_eq!(key(V3_SECRET).sign(V1_ID, V1_TIME, V1_BODY), V3_SIGNATURE);
    }

    #[test]
    fn secrets_that_cannot_sign_are_refused() {
        let short = format!("whsec_{}", STANDARD.encode([1; 23]));
        let long = format!("whsec_{}", STANDARD.encode([1; 65]));
        let half = format!("whsk_{}", STANDARD.encode([1; 32]));
        let mismatched = format!("whsk_{}", STANDARD.encode([1; 64]));
        for bad in ["", "whsec_", "whsk_", "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_!!!", V3_PUBLIC]
            .into_iter()
            .chain([short.as_str(), &long, &half, &mismatched])
        {
            assert!(SigningKey::parse(bad).is_err(), "{bad}");
        }
        assert!(VerifyingKey::parse("whsec_").is_err());
    }

    #[test]
    fn a_receiver_accepts_a_message_within_five_minutes() {
        let headers = v1_headers("", None);
        for now in [V1_TIME, V1_TIME - 300, V1_TIME + 300] {
            assert_eq!(verdict(&headers, now), Ok(()));
        }
        assert_eq!(verdict(&headers, V1_TIME + 301), Err(Refusal::TooOld));
        assert_eq!(verdict(&headers, V1_TIME - 301), Err(Refusal::FromTheFuture));
    }

    #[test]
    fn a_receiver_refuses_what_is_missing_or_mangled() {
        let v2 = V1_SIGNATURE.replace("v1,", "v2,");
        for (name, value, refusal) in [
            (ID, None, Refusal::Header(ID)),
            (TIMESTAMP, None, Refusal::Header(TIMESTAMP)),
            (SIGNATURE, None, Refusal::Header(SIGNATURE)),
            (TIMESTAMP, Some("hello"), Refusal::Header(TIMESTAMP)),
            (ID, Some("msg_other"), Refusal::Signature),
            (SIGNATURE, Some(""), Refusal::Signature),
            (SIGNATURE, Some("v1,"), Refusal::Signature),
            (SIGNATURE, Some("v1"), Refusal::Signature),
            (SIGNATURE, Some(&V1_SIGNATURE[..V1_SIGNATURE.len() - 8]), Refusal::Signature),
            (SIGNATURE, Some(&v2), Refusal::Signature),
            (SIGNATURE, Some(V3_SIGNATURE), Refusal::Signature),
        ] {
            assert_eq!(verdict(&v1_headers(name, value), V1_TIME), Err(refusal), "{name}: {value:?}");
        }
        let key = VerifyingKey::parse(V1_SECRET).unwrap();
        assert_eq!(verify(&key, &v1_headers("", None), b"{}", V1_TIME), Err(Refusal::Signature));
    }

    #[test]
    fn one_right_signature_among_others_is_enough() {
        let among = format!("v2,AAAA v1,AAAA {V1_SIGNATURE} {V3_SIGNATURE}");
        let headers = v1_headers(SIGNATURE, Some(&among));
        assert_eq!(verdict(&headers, V1_TIME), Ok(()));
        let public = VerifyingKey::parse(V3_PUBLIC).unwrap();
        assert_eq!(verify(&public, &headers, V1_BODY, V1_TIME), Ok(()));
    }

    #[test]
    fn during_a_rotation_the_old_and_the_new_secret_both_verify() {
        let signed = headers(&[key(V2_SECRET), key(V1_SECRET)], V1_ID, V1_TIME, V1_BODY);
        let signed: Vec<_> = signed.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        for secret in [V1_SECRET, V2_SECRET] {
            let key = VerifyingKey::parse(secret).unwrap();
            assert_eq!(verify(&key, &signed, V1_BODY, V1_TIME), Ok(()));
        }
    }

    #[test]
    fn a_key_does_not_print() {
        assert_eq!(format!("{:?}", key(V1_SECRET)), "[signing key]");
    }
}
