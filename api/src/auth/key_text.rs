//! The form of an API key: `mw_<env>_<prefix>_<secret>`.

use millwork_shared::infra::crypto::{Secret, token_hash};
use rand::distr::{Alphanumeric, SampleString};

const PREFIX_LEN: usize = 12;
/// 40 characters of 62 are 238 bits.
const SECRET_LEN: usize = 40;

/// A fresh key. Its text is shown once; what is stored is the hash, and the prefix to find it by.
pub struct NewKey {
    pub text: Secret<String>,
    pub prefix: String,
    pub hash: [u8; 32],
}

/// `environment` is a label for people and for scanners of leaked secrets; it proves nothing.
pub fn generate(environment: &str) -> NewKey {
    let mut random = rand::rng();
    let prefix = Alphanumeric.sample_string(&mut random, PREFIX_LEN);
    let secret = Alphanumeric.sample_string(&mut random, SECRET_LEN);
    let text = format!("mw_{environment}_{prefix}_{secret}");
    NewKey { hash: token_hash(&text), text: Secret::new(text), prefix }
}

/// Whether `token` claims to be an API key rather than an access token.
pub fn looks_like(token: &str) -> bool {
    token.starts_with("mw_")
}

/// The public part of a well-formed key.
pub fn prefix(token: &str) -> Option<&str> {
    let mut parts = token.strip_prefix("mw_")?.split('_');
    let (environment, prefix, secret) = (parts.next()?, parts.next()?, parts.next()?);
    let well_formed = |part: &str, len| part.len() == len && part.bytes().all(|b| b.is_ascii_alphanumeric());
    let fits = !environment.is_empty() && well_formed(prefix, PREFIX_LEN) && well_formed(secret, SECRET_LEN);
    (fits && parts.next().is_none()).then_some(prefix)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fresh_key_is_well_formed_and_others_are_not() {
        let key = generate("test");
        let text = key.text.expose();
        assert_eq!(prefix(text), Some(key.prefix.as_str()));
        assert_ne!(generate("test").prefix, key.prefix);
        for bad in ["mw_", "mw_test_abc_def", &text[..text.len() - 1], &format!("{text}_x"), &text[3..]] {
            assert_eq!(prefix(bad), None, "{bad}");
        }
    }
}
