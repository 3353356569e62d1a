//! Secrets at rest and hashes of tokens.

use std::fmt;

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest, Sha256};

/// A value that does not print.
#[derive(Clone, PartialEq, Eq, serde::Deserialize)]
#[serde(transparent)]
pub struct Secret<T>(T);

impl<T> Secret<T> {
    pub fn new(value: T) -> Self {
        Self(value)
    }

    /// The value itself; the call is what a reviewer looks for.
    pub fn expose(&self) -> &T {
        &self.0
    }
}

impl<T> fmt::Debug for Secret<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[secret]")
    }
}

/// The key ring of `MASTER_KEYS`: the first key seals, every key opens.
///
/// A sealed value is `key id length (1 byte) | key id | nonce (12) | AES-256-GCM ciphertext and tag`. The context (table
/// and row) is authenticated too, so that a value copied to another row does not open.
pub struct KeyRing {
    keys: Vec<(String, LessSafeKey)>,
}

impl fmt::Debug for KeyRing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.keys.iter().map(|(id, _)| id)).finish()
    }
}

impl KeyRing {
    /// Parses `id:base64(32 bytes)[,…]`.
    ///
    /// # Errors
    /// Says which entry is wrong, without its key.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut keys: Vec<(String, LessSafeKey)> = Vec::new();
        for (n, entry) in text.split(',').map(str::trim).enumerate() {
            let n = n + 1;
            let (id, key) = entry.split_once(':').ok_or(format!("entry {n} is not of the form id:base64"))?;
            if id.is_empty() || id.len() > 32 || keys.iter().any(|(known, _)| known == id) {
                return Err(format!("entry {n}: an id has 1 to 32 characters and appears once"));
            }
            let bytes = STANDARD.decode(key).map_err(|_| format!("key `{id}` is not base64"))?;
            let key = UnboundKey::new(&AES_256_GCM, &bytes)
                .map_err(|_| format!("key `{id}` has {} bytes; it needs 32 (openssl rand -base64 32)", bytes.len()))?;
            keys.push((id.to_owned(), LessSafeKey::new(key)));
        }
        Ok(Self { keys })
    }

    /// The id of the key that seals.
    pub fn first_id(&self) -> &str {
        self.keys.first().map_or("", |(id, _)| id)
    }

    /// Seals `plain` under the first key.
    pub fn seal(&self, context: &str, plain: &[u8]) -> crate::Result<Vec<u8>> {
        let (id, key) = self.keys.first().ok_or_else(|| anyhow::anyhow!("the key ring is empty"))?;
        let nonce: [u8; NONCE_LEN] = rand::random();
        let mut body = plain.to_vec();
        key.seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::from(context.as_bytes()), &mut body)
            .map_err(|_| anyhow::anyhow!("sealing failed"))?;
        let mut sealed = Vec::with_capacity(1 + id.len() + NONCE_LEN + body.len());
        sealed.push(id.len() as u8);
        sealed.extend_from_slice(id.as_bytes());
        sealed.extend_from_slice(&nonce);
        sealed.extend_from_slice(&body);
        Ok(sealed)
    }

    /// Opens what [`seal`](Self::seal) made under any key of the ring and the same context.
    pub fn open(&self, context: &str, sealed: &[u8]) -> crate::Result<Vec<u8>> {
        let broken = || anyhow::anyhow!("a sealed value of {context} is damaged");
        let (&id_len, rest) = sealed.split_first().ok_or_else(broken)?;
        let (id, rest) = rest.split_at_checked(id_len as usize).ok_or_else(broken)?;
        let (nonce, body) = rest.split_first_chunk::<NONCE_LEN>().ok_or_else(broken)?;
        let (_, key) = self.keys.iter().find(|(known, _)| known.as_bytes() == id).ok_or_else(|| {
            anyhow::anyhow!("{context} is sealed under key `{}`, which MASTER_KEYS lacks", String::from_utf8_lossy(id))
        })?;
        let mut body = body.to_vec();
        let plain = key
            .open_in_place(Nonce::assume_unique_for_key(*nonce), Aad::from(context.as_bytes()), &mut body)
            .map_err(|_| broken())?
            .len();
        body.truncate(plain);
        Ok(body)
    }
}

/// SHA-256 of a token that is itself random: what is stored instead of the token.
pub fn token_hash(token: &str) -> [u8; 32] {
    Sha256::digest(token.as_bytes()).into()
}

/// `N` random bytes from the operating system's generator.
pub fn random_bytes<const N: usize>() -> [u8; N] {
    rand::random()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ring(ids: &[(&str, u8)]) -> KeyRing {
        let text: Vec<_> = ids.iter().map(|(id, b)| format!("{id}:{}", STANDARD.encode([*b; 32]))).collect();
        KeyRing::parse(&text.join(",")).unwrap()
    }

    #[test]
    fn a_rotated_ring_still_opens_what_the_old_key_sealed() {
        let sealed = ring(&[("a", 1)]).seal("webhooks/1", b"whsec").unwrap();
        assert_eq!(ring(&[("b", 2), ("a", 1)]).open("webhooks/1", &sealed).unwrap(), b"whsec");
        assert!(ring(&[("b", 2)]).open("webhooks/1", &sealed).unwrap_err().to_string().contains("key `a`"));
    }

    #[test]
    fn a_value_moved_to_another_row_or_damaged_does_not_open() {
        let ring = ring(&[("a", 1)]);
        let mut sealed = ring.seal("webhooks/1", b"whsec").unwrap();
        assert!(ring.open("webhooks/2", &sealed).is_err());
        *sealed.last_mut().unwrap() ^= 1;
        assert!(ring.open("webhooks/1", &sealed).is_err());
        for cut in 0..sealed.len() {
            assert!(ring.open("webhooks/1", &sealed[..cut]).is_err());
        }
    }

    #[test]
    fn faults_of_the_ring_name_the_entry_and_not_the_key() {
        for (text, says) in [("x", "entry 1"), ("a:AAAA", "3 bytes"), ("a:!", "not base64"), ("", "entry 1")] {
            assert!(KeyRing::parse(text).unwrap_err().contains(says), "{text}");
        }
    }
}
