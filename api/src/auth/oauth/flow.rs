//! What a browser carries from the beginning of a sign-in to its end.
//!
//! A sealed cookie, so that nothing is stored for those who never come back, and so that a callback counts only in the
//! browser that began: somebody else's link cannot sign a person in to somebody else's account.

use aws_lc_rs::constant_time::verify_slices_are_equal;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use millwork_shared::infra::crypto::{KeyRing, random_bytes};
use poem::http::{HeaderValue, header};
use poem::{FromRequest, Request, RequestBody};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::App;
use crate::http::{ApiError, Result};

/// How long a person may take at the provider.
const VALID_FOR_S: i64 = 600;
/// What the cookie is sealed for.
const CONTEXT: &str = "oauth_flow";
/// Browsers keep such a cookie for this very host, sent over TLS alone.
const SECURE_NAME: &str = "__Host-millwork_oauth";
/// For http://, as in development.
const PLAIN_NAME: &str = "millwork_oauth";

/// A sign-in that was begun.
#[derive(Debug, Serialize, Deserialize)]
pub struct Flow {
    pub provider: String,
    pub state: String,
    pub nonce: String,
    /// Of PKCE, between us and the provider.
    pub verifier: String,
    begun_at: i64,
    #[serde(flatten)]
    pub wish: Wish,
}

/// What is to become of it.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Wish {
    pub tenant: Option<Uuid>,
    pub back: Option<Back>,
}

/// A front end that waits for a code.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Back {
    pub url: String,
    /// SHA-256 of what it will show with the code.
    pub challenge: [u8; 32],
}

impl Flow {
    pub fn begin(provider: &str, wish: Wish, now: i64) -> Self {
        let random = || URL_SAFE_NO_PAD.encode(random_bytes::<32>());
        Self {
            provider: provider.to_owned(),
            state: random(),
            nonce: random(),
            verifier: random(),
            begun_at: now,
            wish,
        }
    }

    /// What `Set-Cookie` says.
    pub fn cookie(&self, app: &App) -> Result<HeaderValue> {
        let text = serde_json::to_vec(self).map_err(ApiError::internal)?;
        let value = URL_SAFE_NO_PAD.encode(app.keys.seal(CONTEXT, &text)?);
        set_cookie(app, &value, VALID_FOR_S)
    }

    /// Whether this is the flow that a callback speaks of.
    ///
    /// # Errors
    /// Says why not.
    pub fn check(&self, provider: &str, state: Option<&str>, now: i64) -> Result<(), &'static str> {
        if !(0..VALID_FOR_S).contains(&(now - self.begun_at)) {
            return Err("it was begun more than ten minutes ago");
        }
        if self.provider != provider {
            return Err("it was begun with another provider");
        }
        let state = state.ok_or("the provider sent no state")?;
        verify_slices_are_equal(state.as_bytes(), self.state.as_bytes()).map_err(|_| "the state is another one")
    }
}

/// `Set-Cookie` that takes the flow from the browser.
pub fn forget(app: &App) -> Result<HeaderValue> {
    set_cookie(app, "", 0)
}

fn set_cookie(app: &App, value: &str, max_age: i64) -> Result<HeaderValue> {
    // Lax: the provider sends the browser back from its own site.
    let (name, secure) = if is_secure(app) { (SECURE_NAME, "; Secure") } else { (PLAIN_NAME, "") };
    let text = format!("{name}={value}; Path=/; Max-Age={max_age}; HttpOnly; SameSite=Lax{secure}");
    HeaderValue::try_from(text).map_err(ApiError::internal)
}

fn is_secure(app: &App) -> bool {
    app.settings.public_url.starts_with("https://")
}

/// The flow that the browser of a request carries, if it opens.
pub struct Carried(pub Option<Flow>);

impl<'a> FromRequest<'a> for Carried {
    async fn from_request(request: &'a Request, _body: &mut RequestBody) -> poem::Result<Self> {
        let app = App::of(request)?;
        let name = if is_secure(app) { SECURE_NAME } else { PLAIN_NAME };
        let cookies = request.headers().get_all(header::COOKIE).iter().filter_map(|line| line.to_str().ok());
        let mut pairs = cookies.flat_map(|line| line.split(';')).filter_map(|pair| pair.trim().split_once('='));
        let value = pairs.find(|(known, _)| *known == name).map(|(_, value)| value);
        Ok(Self(value.and_then(|value| open(&app.keys, value))))
    }
}

fn open(keys: &KeyRing, value: &str) -> Option<Flow> {
    let sealed = URL_SAFE_NO_PAD.decode(value).ok()?;
    serde_json::from_slice(&keys.open(CONTEXT, &sealed).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flow_is_good_for_its_provider_its_state_and_ten_minutes() {
        let flow = Flow::begin("acme", Wish::default(), 1_000);
        let state = Some(flow.state.as_str());
        assert_eq!(flow.check("acme", state, 1_599), Ok(()));
        for (provider, state, now) in [
            ("acme", state, 1_600),
            ("acme", state, 999),
            ("other", state, 1_000),
            ("acme", Some("x"), 1_000),
            ("acme", Some(""), 1_000),
            ("acme", None, 1_000),
        ] {
            assert!(flow.check(provider, state, now).is_err(), "{provider} {state:?} {now}");
        }
    }

    #[test]
    fn a_cookie_that_was_touched_is_none() {
        let keys = KeyRing::parse(&format!("a:{}", base64::engine::general_purpose::STANDARD.encode([7; 32]))).unwrap();
        let flow = Flow::begin("acme", Wish::default(), 0);
        let sealed = keys.seal(CONTEXT, &serde_json::to_vec(&flow).unwrap()).unwrap();
        let value = URL_SAFE_NO_PAD.encode(&sealed);
        assert_eq!(open(&keys, &value).unwrap().verifier, flow.verifier);
        let other = keys.seal("another", &serde_json::to_vec(&flow).unwrap()).unwrap();
        for bad in [&value[1..], "", "é", &URL_SAFE_NO_PAD.encode(other)] {
            assert!(open(&keys, bad).is_none(), "{bad}");
        }
    }
}
