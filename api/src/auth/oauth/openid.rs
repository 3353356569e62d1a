//! An OpenID Connect issuer: what it publishes of itself, and its word on who somebody is.

use std::sync::Arc;
use std::time::Duration;

use jsonwebtoken::jwk::Jwk;
use millwork_shared::egress::{AllowedNets, Target};
use oauth2::http::{HeaderMap, HeaderValue, header};
use oauth2::{AccessToken, AuthType};
use serde::Deserialize;
use serde_json::Value;
use tokio::sync::Mutex;
use url::Url;

use super::calls::{CallError, Calls};
use super::id_token::{self, Claims, Expected};
use super::settings::is_loopback;

/// How long what an issuer publishes is used before it is read again.
const FRESH_FOR: Duration = Duration::from_secs(3_600);
/// How long it may be used when it cannot be read again.
const STALE_FOR: Duration = Duration::from_secs(24 * 3_600);
/// How long an issuer is left alone that did not answer.
const REST: Duration = Duration::from_secs(2);
const MOST_KEYS: usize = 64;

/// What an issuer says of itself.
#[derive(Debug)]
pub struct Metadata {
    pub authorization_endpoint: Url,
    pub token_endpoint: Url,
    userinfo_endpoint: Option<Url>,
    jwks_uri: Url,
    pub auth_type: AuthType,
    /// Whether its answers name it (RFC 9207).
    pub names_itself: bool,
}

/// `/.well-known/openid-configuration`, as far as it is of use.
#[derive(Deserialize)]
struct Document {
    issuer: String,
    authorization_endpoint: String,
    token_endpoint: String,
    userinfo_endpoint: Option<String>,
    jwks_uri: String,
    #[serde(default)]
    token_endpoint_auth_methods_supported: Vec<String>,
    #[serde(default)]
    authorization_response_iss_parameter_supported: bool,
}

/// Remembers what was published.
#[derive(Debug, Default)]
pub struct Published {
    metadata: Mutex<Kept<Metadata>>,
    keys: Mutex<Kept<Vec<Jwk>>>,
}

#[derive(Debug)]
struct Kept<T> {
    value: Option<(Arc<T>, Duration)>,
    failed: Option<(CallError, Duration)>,
}

impl<T> Default for Kept<T> {
    fn default() -> Self {
        Self { value: None, failed: None }
    }
}

impl<T> Kept<T> {
    fn younger_than(&self, age: Duration, now: Duration) -> Option<Arc<T>> {
        self.value.as_ref().filter(|(_, at)| now.saturating_sub(*at) < age).map(|(value, _)| value.clone())
    }

    /// What is kept if it will do, or else what is read now. The others wait for whoever reads.
    async fn or_read(
        &mut self,
        now: Duration,
        will_do: impl Fn(&T) -> bool,
        read: impl Future<Output = Result<T, CallError>>,
    ) -> Result<Arc<T>, CallError> {
        if let Some(fresh) = self.younger_than(FRESH_FOR, now).filter(|value| will_do(value)) {
            return Ok(fresh);
        }
        let resting = self.failed.as_ref().filter(|(_, at)| now.saturating_sub(*at) < REST);
        let error = match resting {
            Some((error, _)) => error.clone(),
            None => match read.await {
                Ok(value) => {
                    let value = Arc::new(value);
                    (self.value, self.failed) = (Some((value.clone(), now)), None);
                    return Ok(value);
                }
                Err(error) => {
                    tracing::warn!(%error, error.category = "dependency", "an identity provider cannot be read");
                    self.failed = Some((error.clone(), now));
                    error
                }
            },
        };
        self.younger_than(STALE_FOR, now).ok_or(error)
    }
}

/// Where an issuer is called.
#[derive(Debug, Clone, Copy)]
pub struct Issuer<'a> {
    pub name: &'a str,
    pub published: &'a Published,
    pub calls: &'a Calls,
    pub nets: &'a AllowedNets,
    /// Since the start, moved along with a test's clock.
    pub now: Duration,
}

/// Why an issuer's word does not count.
#[derive(Debug)]
pub enum Doubt {
    /// It could not be asked.
    Call(CallError),
    /// What it said is not good.
    Token(id_token::Fault),
}

impl From<CallError> for Doubt {
    fn from(error: CallError) -> Self {
        Self::Call(error)
    }
}

impl From<id_token::Fault> for Doubt {
    fn from(fault: id_token::Fault) -> Self {
        Self::Token(fault)
    }
}

impl Issuer<'_> {
    pub async fn metadata(&self) -> Result<Arc<Metadata>, CallError> {
        let mut kept = self.published.metadata.lock().await;
        kept.or_read(self.now, |_| true, self.read_metadata()).await
    }

    async fn read_metadata(&self) -> Result<Metadata, CallError> {
        let address = format!("{}/.well-known/openid-configuration", self.name.trim_end_matches('/'));
        let address = Url::parse(&address).map_err(|error| CallError(format!("{address}: {error}")))?;
        let document: Document = self.calls.get(&address, HeaderMap::new()).await?;
        metadata(self.name, self.nets, document).map_err(|fault| CallError(format!("{address}: {fault}")))
    }

    /// Whom an ID token is about.
    pub async fn check(
        &self,
        id_token: &str,
        expected: &Expected<'_>,
        access_token: &AccessToken,
    ) -> Result<Claims, Doubt> {
        let metadata = self.metadata().await?;
        let signed = id_token::signed(id_token)?;
        let keys = {
            let mut kept = self.published.keys.lock().await;
            // A key that is not known yet makes the keys be read again: they take turns.
            let known = |keys: &Vec<Jwk>| id_token::choose(keys, &signed).is_some();
            kept.or_read(self.now, known, self.read_keys(&metadata.jwks_uri)).await?
        };
        let key = id_token::choose(&keys, &signed).ok_or("it is signed by a key that the provider does not publish")?;
        let claims = id_token::check(id_token, &signed, key, expected)?;
        let Some(userinfo) = metadata.userinfo_endpoint.as_ref().filter(|_| claims.email.is_none()) else {
            return Ok(claims);
        };
        let more: Claims = self.calls.get(userinfo, bearer(access_token)?).await?;
        if more.sub != claims.sub {
            return Err(Doubt::Token("its subject is not the person that the provider tells of"));
        }
        Ok(more)
    }

    async fn read_keys(&self, address: &Url) -> Result<Vec<Jwk>, CallError> {
        #[derive(Deserialize)]
        struct Set {
            keys: Vec<Value>,
        }
        let set: Set = self.calls.get(address, HeaderMap::new()).await?;
        // Keys of kinds that we do not know are not ours to complain about.
        Ok(set.keys.into_iter().filter_map(|key| serde_json::from_value(key).ok()).take(MOST_KEYS).collect())
    }
}

/// `Authorization: Bearer …`.
pub fn bearer(token: &AccessToken) -> Result<HeaderMap, CallError> {
    let value = HeaderValue::try_from(format!("Bearer {}", token.secret()));
    let mut value = value.map_err(|_| CallError("the access token fits no header".to_owned()))?;
    value.set_sensitive(true);
    Ok(HeaderMap::from_iter([(header::AUTHORIZATION, value)]))
}

/// Checks what an issuer says of itself.
fn metadata(issuer: &str, nets: &AllowedNets, document: Document) -> Result<Metadata, String> {
    if document.issuer != issuer {
        return Err(format!("it calls itself `{}`; the variable that ends in _ISSUER must be that", document.issuer));
    }
    let home = Url::parse(issuer).map_err(|error| error.to_string())?;
    let endpoint = |text: &str| -> Result<Url, String> {
        let url = Url::parse(text).map_err(|error| format!("`{text}`: {error}"))?;
        let secure = url.scheme() == "https" || (is_loopback(&home) && is_loopback(&url) && url.scheme() == "http");
        if !secure {
            return Err(format!("`{text}` is not https://"));
        }
        // The operator chose the issuer and so its host. What it names beyond that is somebody's else word.
        if url.host() != home.host() {
            Target::parse(text, nets).map_err(|fault| format!("`{text}`: {fault}"))?;
        }
        Ok(url)
    };
    let methods = document.token_endpoint_auth_methods_supported;
    let takes = |name: &str| methods.iter().any(|method| method == name);
    // Without a word about it, the one that the specification names.
    let in_header = methods.is_empty() || takes("client_secret_basic");
    if !in_header && !takes("client_secret_post") {
        return Err("it takes no client secret, neither client_secret_basic nor client_secret_post".to_owned());
    }
    Ok(Metadata {
        authorization_endpoint: endpoint(&document.authorization_endpoint)?,
        token_endpoint: endpoint(&document.token_endpoint)?,
        userinfo_endpoint: document.userinfo_endpoint.as_deref().map(endpoint).transpose()?,
        jwks_uri: endpoint(&document.jwks_uri)?,
        auth_type: if in_header { AuthType::BasicAuth } else { AuthType::RequestBody },
        names_itself: document.authorization_response_iss_parameter_supported,
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(issuer: &str, change: &[(&str, Value)]) -> Result<Metadata, String> {
        let mut document = json!({
            "issuer": issuer,
            "authorization_endpoint": "https://login.example/auth",
            "token_endpoint": "https://tokens.example/token",
            "jwks_uri": "https://keys.example/jwks",
        });
        for (name, value) in change {
            document[*name] = value.clone();
        }
        metadata(issuer, &AllowedNets::default(), serde_json::from_value(document).unwrap())
    }

    #[test]
    fn an_issuer_is_taken_by_its_own_name_alone_and_leads_to_no_private_address() {
        read("https://login.example", &[]).unwrap();
        for (name, value, fault) in [
            ("issuer", "https://login.example/", "calls itself"),
            ("token_endpoint", "http://login.example/token", "is not https://"),
            ("token_endpoint", "https://169.254.169.254/token", "must not be called"),
            ("jwks_uri", "https://localhost/jwks", "must not be called"),
            ("userinfo_endpoint", "/me", "relative URL"),
            ("authorization_endpoint", "http://127.0.0.1/auth", "is not https://"),
        ] {
            let said = read("https://login.example", &[(name, json!(value))]).unwrap_err();
            assert!(said.contains(fault), "{name}={value}: {said}");
        }
        // One on the operator's own network, which its own host may be.
        for name in ["authorization_endpoint", "token_endpoint", "jwks_uri"] {
            let there = json!("https://10.0.0.5/x");
            assert!(read("https://10.0.0.5", &[(name, there)]).is_ok(), "{name}");
        }
        let loopback = json!("http://127.0.0.1:9/token");
        assert!(read("http://127.0.0.1:9", &[("token_endpoint", loopback)]).is_ok());
    }

    #[test]
    fn the_secret_is_sent_in_the_way_that_the_issuer_takes() {
        for (methods, expected) in [
            (json!([]), Some(AuthType::BasicAuth)),
            (json!(["client_secret_post", "client_secret_basic"]), Some(AuthType::BasicAuth)),
            (json!(["client_secret_post"]), Some(AuthType::RequestBody)),
            (json!(["private_key_jwt"]), None),
        ] {
            let read = read("https://login.example", &[("token_endpoint_auth_methods_supported", methods.clone())]);
            let found = read.ok().map(|metadata| matches!(metadata.auth_type, AuthType::BasicAuth));
            assert_eq!(found, expected.map(|kind| matches!(kind, AuthType::BasicAuth)), "{methods}");
        }
    }

    #[tokio::test]
    async fn what_is_published_is_read_once_an_hour_and_outlives_an_issuer_that_is_down() {
        let mut kept = Kept::<u32>::default();
        let s = Duration::from_secs;
        let down = || async { Err(CallError("down".to_owned())) };
        assert!(kept.or_read(s(0), |_| true, down()).await.is_err());
        assert!(kept.or_read(s(1), |_| true, async { Ok(1) }).await.is_err(), "it is left alone for two seconds");
        assert_eq!(*kept.or_read(s(2), |_| true, async { Ok(1) }).await.unwrap(), 1);
        assert_eq!(*kept.or_read(s(3_601), |_| true, async { Ok(2) }).await.unwrap(), 1);
        assert_eq!(*kept.or_read(s(3_601), |_| false, async { Ok(2) }).await.unwrap(), 2, "it will not do");
        assert_eq!(*kept.or_read(s(9_000), |_| true, down()).await.unwrap(), 2);
        assert!(kept.or_read(s(99_000), |_| true, down()).await.is_err(), "after a day it is too old");
    }
}
