//! Making the keys that sign access tokens.

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};

use super::queries::signing_keys::{SigningKey, context};
use crate::Result;
use crate::infra::crypto::KeyRing;
use crate::infra::ids::SigningKeyId;

/// A fresh key, sealed.
pub fn generate(ring: &KeyRing) -> Result<SigningKey> {
    let fault = |what: &str| anyhow::anyhow!("a signing key could not be {what}");
    let document = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).map_err(|_| fault("made"))?;
    let pair = Ed25519KeyPair::from_pkcs8(document.as_ref()).map_err(|_| fault("read back"))?;
    let id = SigningKeyId::generate();
    Ok(SigningKey {
        id,
        public_key: pair.public_key().as_ref().to_vec(),
        sealed_private: ring.seal(&context(id), document.as_ref())?,
        signs: true,
    })
}
