//! Whether an ID token is good, by OpenID Connect Core 3.1.3.7. No I/O.

use jsonwebtoken::jwk::{Jwk, KeyAlgorithm, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use serde::Deserialize;
use serde_json::Value;

/// Asymmetric ones alone: by a symmetric one whoever knows the client's secret could sign, and with `none` anyone.
const ALGORITHMS: [Algorithm; 9] = [
    Algorithm::RS256,
    Algorithm::RS384,
    Algorithm::RS512,
    Algorithm::PS256,
    Algorithm::PS384,
    Algorithm::PS512,
    Algorithm::ES256,
    Algorithm::ES384,
    Algorithm::EdDSA,
];
/// How far the provider's clock may be from ours.
const LEEWAY_S: f64 = 60.0;
const LONGEST_SUBJECT: usize = 255;

/// What is wrong with a token, for people.
pub type Fault = &'static str;

/// What a token must say.
#[derive(Debug, Clone, Copy)]
pub struct Expected<'a> {
    pub issuer: &'a str,
    pub client_id: &'a str,
    pub nonce: &'a str,
    /// Unix seconds.
    pub now: i64,
}

/// What an ID token, or the answer about its subject, says of a person.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Claims {
    pub sub: String,
    pub email: Option<String>,
    email_verified: Option<Value>,
    pub name: Option<String>,
}

impl Claims {
    /// The address, if the provider says that it was proven. Some say so in quotes.
    pub fn proven_email(&self) -> Option<&str> {
        let proven = matches!(&self.email_verified, Some(Value::Bool(true)))
            || self.email_verified.as_ref().and_then(Value::as_str) == Some("true");
        self.email.as_deref().filter(|_| proven)
    }
}

#[derive(Deserialize)]
struct Checked {
    iss: String,
    aud: Audience,
    azp: Option<String>,
    exp: f64,
    iat: f64,
    nbf: Option<f64>,
    nonce: Option<String>,
    #[serde(flatten)]
    claims: Claims,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Audience {
    One(String),
    Many(Vec<String>),
}

/// How a token says that it was signed.
#[derive(Debug)]
pub struct Signed {
    algorithm: Algorithm,
    kid: Option<String>,
}

/// Reads a token's header.
pub fn signed(token: &str) -> Result<Signed, Fault> {
    let header = jsonwebtoken::decode_header(token).map_err(|_| "it is no JWT with a signature that we know")?;
    if !ALGORITHMS.contains(&header.alg) {
        return Err("it is not signed with a private key of the provider's");
    }
    Ok(Signed { algorithm: header.alg, kid: header.kid })
}

/// The key that such a token was signed with. Without a key id in the token, there must be one that fits alone.
pub fn choose<'a>(keys: &'a [Jwk], signed: &Signed) -> Option<&'a Jwk> {
    let wanted = KeyAlgorithm::from(signed.algorithm);
    let mut fitting = keys.iter().filter(|key| {
        let common = &key.common;
        let is_for_signing = common.public_key_use.as_ref().is_none_or(|of| *of == PublicKeyUse::Signature);
        let is_named = signed.kid.is_none() || common.key_id == signed.kid;
        let family = DecodingKey::from_jwk(key).is_ok_and(|key| key.family() == signed.algorithm.family());
        is_for_signing && is_named && family && common.key_algorithm.is_none_or(|alg| alg == wanted)
    });
    let first = fitting.next();
    if signed.kid.is_none() && fitting.next().is_some() { None } else { first }
}

/// Checks signature and claims of a token.
pub fn check(token: &str, signed: &Signed, key: &Jwk, expected: &Expected<'_>) -> Result<Claims, Fault> {
    let key = DecodingKey::from_jwk(key).map_err(|_| "its key cannot be read")?;
    let mut validation = Validation::new(signed.algorithm);
    // Below, by the issuer's rules and a clock that tests can move.
    validation.required_spec_claims.clear();
    validation.validate_exp = false;
    validation.validate_aud = false;
    let token = jsonwebtoken::decode::<Checked>(token, &key, &validation)
        .map_err(|_| "its signature does not fit, or a claim is missing or malformed")?;
    let Checked { iss, aud, azp, exp, iat, nbf, nonce, claims } = token.claims;
    let now = expected.now as f64;
    let for_us = |name: &String| name == expected.client_id;
    if iss != expected.issuer {
        return Err("it is of another issuer");
    }
    let for_others_too = match &aud {
        Audience::One(name) if for_us(name) => false,
        Audience::Many(names) if names.iter().any(for_us) => names.len() > 1,
        _ => return Err("it is for another client"),
    };
    if azp.as_ref().map_or(for_others_too, |party| !for_us(party)) {
        return Err("it was made for another party");
    }
    if exp + LEEWAY_S <= now {
        return Err("it has expired");
    }
    if iat - LEEWAY_S > now || nbf.is_some_and(|from| from - LEEWAY_S > now) {
        return Err("it is of the future: a clock is wrong");
    }
    if nonce.as_deref() != Some(expected.nonce) {
        return Err("it answers another sign-in (its nonce is another one)");
    }
    if claims.sub.is_empty() || claims.sub.len() > LONGEST_SUBJECT {
        return Err("its subject has not 1 to 255 characters");
    }
    Ok(claims)
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::encoding::AsDer;
    use aws_lc_rs::rsa::{KeyPair as RsaKeyPair, KeySize};
    use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};
    use jsonwebtoken::{EncodingKey, Header};
    use serde_json::json;

    use super::*;

    const NOW: i64 = 1_800_000_000;
    const EXPECTED: Expected<'_> = Expected { issuer: "https://login.example", client_id: "us", nonce: "n", now: NOW };

    fn rsa(kid: &str) -> (EncodingKey, Jwk) {
        let pair = RsaKeyPair::generate(KeySize::Rsa2048).unwrap();
        let der: aws_lc_rs::encoding::Pkcs8V1Der<'_> = pair.as_der().unwrap();
        // Within PKCS#8 the key is the last part, behind 26 bytes that say what it is.
        key(EncodingKey::from_rsa_der(&der.as_ref()[26..]), Algorithm::RS256, kid)
    }

    fn ec(kid: &str) -> (EncodingKey, Jwk) {
        let der = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap().to_pkcs8v1().unwrap();
        key(EncodingKey::from_ec_der(der.as_ref()), Algorithm::ES256, kid)
    }

    fn key(key: EncodingKey, algorithm: Algorithm, kid: &str) -> (EncodingKey, Jwk) {
        let mut public = Jwk::from_encoding_key(&key, algorithm).unwrap();
        public.common.key_id = Some(kid.to_owned());
        (key, public)
    }

    fn claims() -> Value {
        json!({
            "iss": "https://login.example", "sub": "7", "aud": "us", "exp": NOW + 60, "iat": NOW, "nonce": "n",
            "email": "a@b.example", "email_verified": true,
        })
    }

    fn token(key: &EncodingKey, algorithm: Algorithm, kid: Option<&str>, claims: &Value) -> String {
        let header = Header { kid: kid.map(str::to_owned), ..Header::new(algorithm) };
        jsonwebtoken::encode(&header, claims, key).unwrap()
    }

    fn judge(token: &str, keys: &[Jwk]) -> Result<Claims, Fault> {
        let signed = signed(token)?;
        let key = choose(keys, &signed).ok_or("no key")?;
        check(token, &signed, key, &EXPECTED)
    }

    #[test]
    fn a_good_token_is_good_by_any_kind_of_key() {
        let ((rsa, rsa_public), (ec, ec_public)) = (rsa("r"), ec("e"));
        let keys = [rsa_public, ec_public];
        for (key, algorithm, kid) in
            [(&rsa, Algorithm::RS256, Some("r")), (&ec, Algorithm::ES256, Some("e")), (&ec, Algorithm::ES256, None)]
        {
            let claims = judge(&token(key, algorithm, kid, &claims()), &keys).unwrap();
            assert_eq!((claims.sub.as_str(), claims.proven_email()), ("7", Some("a@b.example")));
        }
        let mut among_others = claims();
        among_others["aud"] = json!(["us", "them"]);
        among_others["azp"] = json!("us");
        judge(&token(&ec, Algorithm::ES256, Some("e"), &among_others), &keys).unwrap();
    }

    #[test]
    fn what_does_not_fit_is_refused_with_the_reason() {
        let (key, public) = ec("e");
        for (claim, value, reason) in [
            ("iss", json!("https://login.example/"), "another issuer"),
            ("aud", json!("them"), "another client"),
            ("aud", json!([]), "another client"),
            ("aud", json!(["us", "them"]), "another party"),
            ("azp", json!("them"), "another party"),
            ("exp", json!(NOW - 60), "expired"),
            ("exp", Value::Null, "malformed"),
            ("iat", json!(NOW + 61), "future"),
            ("nbf", json!(NOW + 61), "future"),
            ("nonce", json!("m"), "nonce"),
            ("nonce", Value::Null, "nonce"),
            ("sub", json!(""), "subject"),
            ("sub", json!("x".repeat(256)), "subject"),
            ("sub", json!(7), "malformed"),
        ] {
            let mut claims = claims();
            claims[claim] = value.clone();
            let fault = judge(&token(&key, Algorithm::ES256, Some("e"), &claims), std::slice::from_ref(&public));
            assert!(fault.as_ref().is_err_and(|fault| fault.contains(reason)), "{claim}={value}: {fault:?}");
        }
        let mut late = claims();
        late["exp"] = json!(NOW - 59);
        judge(&token(&key, Algorithm::ES256, Some("e"), &late), &[public]).unwrap();
    }

    #[test]
    fn nobody_signs_with_what_is_public_or_shared() {
        use base64::Engine;
        use base64::engine::general_purpose::URL_SAFE_NO_PAD;
        let ((_, public), (stranger, _)) = (ec("e"), ec("e"));
        let keys = [public.clone()];
        let by_stranger = token(&stranger, Algorithm::ES256, Some("e"), &claims());
        assert!(judge(&by_stranger, &keys).unwrap_err().contains("signature"));
        // The public key as the secret of an HMAC, and the client's secret too.
        let shared = EncodingKey::from_secret(&serde_json::to_vec(&public).unwrap());
        let by_all = token(&shared, Algorithm::HS256, Some("e"), &claims());
        assert!(judge(&by_all, &keys).unwrap_err().contains("private key"));
        let unsigned =
            [&json!({ "alg": "none", "kid": "e" }), &claims()].map(|part| URL_SAFE_NO_PAD.encode(part.to_string()));
        assert!(judge(&format!("{}.{}.", unsigned[0], unsigned[1]), &keys).is_err());
        // A token that says RS256 and names a key on a curve.
        let (rsa, _) = rsa("e");
        assert_eq!(judge(&token(&rsa, Algorithm::RS256, Some("e"), &claims()), &keys), Err("no key"));
    }

    #[test]
    fn a_key_is_chosen_by_what_it_is_for() {
        let ((key, public), (_, other)) = (ec("e"), ec("f"));
        let without_kid = token(&key, Algorithm::ES256, None, &claims());
        assert_eq!(judge(&without_kid, &[public.clone(), other]), Err("no key"), "two fit");
        let named = token(&key, Algorithm::ES256, Some("e"), &claims());
        let mut for_encryption = public.clone();
        for_encryption.common.public_key_use = Some(PublicKeyUse::Encryption);
        assert_eq!(judge(&named, &[for_encryption]), Err("no key"));
        let mut for_another = public;
        for_another.common.key_algorithm = Some(KeyAlgorithm::ES384);
        assert_eq!(judge(&named, &[for_another]), Err("no key"));
    }

    #[test]
    fn an_address_counts_when_the_provider_says_that_it_is_proven() {
        for (said, proven) in [
            (json!(true), true),
            (json!("true"), true),
            (json!(false), false),
            (json!("false"), false),
            (json!(1), false),
            (Value::Null, false),
        ] {
            let claims = json!({ "sub": "7", "email": "a@b.example", "email_verified": said });
            let claims: Claims = serde_json::from_value(claims).unwrap();
            assert_eq!(claims.proven_email().is_some(), proven, "{said}");
        }
    }
}
