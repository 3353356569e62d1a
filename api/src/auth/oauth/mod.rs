//! Signing in by another provider: OAuth 2.0 with PKCE, and OpenID Connect (decision 0032).

mod account;
/// From a browser's return to its session.
mod arrive;
/// Calls to providers.
mod calls;
/// What a browser carries in the meantime.
mod flow;
mod github;
/// The authorization code grant.
mod grant;
/// Whether an ID token is good.
mod id_token;
/// How the routes that a browser walks through answer.
mod landing;
/// What an issuer publishes, and its word.
mod openid;
/// Who people may sign in by.
pub mod settings;
mod types;

use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use millwork_shared::Error;
use millwork_shared::auth::queries::identities as rows;
use millwork_shared::egress::AllowedNets;
use millwork_shared::infra::crypto::token_hash;
use poem::http::{HeaderValue, header};
use poem::web::Data;
use poem_openapi::OpenApi;
use poem_openapi::param::{Path, Query};
use uuid::Uuid;

use self::account::Person;
use self::arrive::{Returned, grant, land, note, unavailable, with_query};
use self::calls::Calls;
use self::flow::{Back, Carried, Flow, Wish};
use self::landing::{Found, Landing};
use self::openid::{Issuer, Published};
use self::settings::{Kind, OAuthSettings, ProviderSettings};
use self::types::Exchange;
use super::client::From;
use super::types::Session;
use crate::App;
use crate::http::{Answer, ApiError, Body, NotKept, RequestInfo, Result};
use crate::routes::Tag;

/// What an OpenID Connect issuer is asked for.
const SCOPES: [&str; 3] = ["openid", "email", "profile"];

/// The providers, and what is known of them.
#[derive(Debug)]
pub struct OAuth {
    providers: Vec<Provider>,
    return_urls: Vec<String>,
    calls: Calls,
    nets: AllowedNets,
    started: Instant,
}

#[derive(Debug)]
struct Provider {
    settings: ProviderSettings,
    published: Published,
}

impl OAuth {
    pub fn new(settings: &OAuthSettings, nets: &AllowedNets) -> Self {
        let provider =
            |settings: &ProviderSettings| Provider { settings: settings.clone(), published: Published::default() };
        Self {
            providers: settings.providers.iter().map(provider).collect(),
            return_urls: settings.return_urls.clone(),
            calls: Calls::default(),
            nets: nets.clone(),
            started: Instant::now(),
        }
    }

    fn provider(&self, name: &str) -> Result<&Provider> {
        let known = self.providers.iter().find(|provider| provider.settings.name == name);
        known.ok_or_else(|| Error::NotFound("provider").into())
    }

    fn issuer<'a>(&'a self, provider: &'a Provider, offset: Duration) -> Issuer<'a> {
        Issuer {
            name: &provider.settings.issuer,
            published: &provider.published,
            calls: &self.calls,
            nets: &self.nets,
            now: self.started.elapsed() + offset,
        }
    }
}

pub struct OAuthApi;

#[OpenApi(tag = "Tag::Identity")]
impl OAuthApi {
    /// Sign in by another provider
    ///
    /// For a browser to go to, not for programs. It is sent on to the provider (`github`, or one that the operator has
    /// named), and must be back within ten minutes. Without `return_to` the callback answers tokens as `POST
    /// /auth/login` does; with it, the front end there gets a `code` for `POST /auth/oauth/exchange`.
    #[oai(path = "/auth/oauth/:provider", method = "get", operation_id = "auth.oauth")]
    async fn begin(
        &self,
        app: Data<&App>,
        provider: Path<String>,
        /// Where a front end waits: one of the operator's `OAUTH_RETURN_URLS`, word for word
        #[oai(validator(max_length = 500))]
        return_to: Query<Option<String>>,
        /// With `return_to`: the SHA-256, in base64url, of 32 random bytes or more in base64url, which the front end
        /// keeps and shows with the code
        #[oai(validator(max_length = 43))]
        challenge: Query<Option<String>>,
        /// For people who belong to several tenants
        tenant_id: Query<Option<Uuid>>,
    ) -> Result<Found> {
        let provider = app.oauth.provider(&provider)?;
        let back = back(&app.oauth, return_to.0, challenge.0)?;
        let wish = Wish { tenant: tenant_id.0, back };
        let flow = Flow::begin(&provider.settings.name, wish, app.clock.now().timestamp());
        let address = match provider.settings.kind {
            Kind::GitHub => {
                let grant = grant(&app, provider, None).map_err(unavailable)?;
                grant.address(&flow, &github::SCOPES, false)
            }
            Kind::OpenId => {
                let metadata = app.oauth.issuer(provider, app.clock.offset()).metadata().await.map_err(unavailable)?;
                let grant = grant(&app, provider, Some(&metadata)).map_err(unavailable)?;
                grant.address(&flow, &SCOPES, true)
            }
        };
        Ok(Found { location: address.into(), cookie: flow.cookie(&app)? })
    }

    /// Come back from another provider
    ///
    /// Where the provider sends the browser. An account is opened that was linked before, or that is of the same
    /// address if that is proven both here and there; otherwise a person and a tenant of theirs are made, where
    /// registration is open. Whoever has a second factor gets 401 `otp_required` with an `exchange_code` for `POST
    /// /auth/oauth/exchange`.
    #[oai(path = "/auth/oauth/:provider/callback", method = "get", operation_id = "auth.oauth_callback")]
    #[expect(clippy::too_many_arguments, reason = "the provider's parameters")]
    async fn callback(
        &self,
        app: Data<&App>,
        request: RequestInfo,
        from: From,
        carried: Carried,
        provider: Path<String>,
        /// For the provider, once
        #[oai(validator(max_length = 4096))]
        code: Query<Option<String>>,
        /// Which sign-in it is
        #[oai(validator(max_length = 200))]
        state: Query<Option<String>>,
        /// Who the provider says it is
        #[oai(validator(max_length = 500))]
        iss: Query<Option<String>>,
        /// Why there is no code
        #[oai(validator(max_length = 200))]
        error: Query<Option<String>>,
    ) -> Result<Landing> {
        let provider = app.oauth.provider(&provider)?;
        let back = carried.0.as_ref().and_then(|flow| flow.wish.back.clone());
        let answer = Returned { code: code.0, state: state.0, iss: iss.0, error: error.0 };
        let landed = land(&app, provider, carried.0, answer, &request, &from.0).await;
        let Err(error) = landed else { return landed };
        note(&app, provider, &error, &request).await;
        let Some(back) = back else {
            let no_store = HeaderValue::from_static("no-store");
            return Err(error
                .with_header(header::SET_COOKIE, flow::forget(&app)?)
                .with_header(header::CACHE_CONTROL, no_store));
        };
        let location = with_query(&back.url, &[("error", error.code()), ("request_id", request.id())])?;
        Ok(Landing::Back(Found { location, cookie: flow::forget(&app)? }))
    }

    /// Exchange a code for tokens
    ///
    /// The code comes from the callback. It is good once, for five minutes; a wrong `otp` does not use it up.
    #[oai(path = "/auth/oauth/exchange", method = "post", operation_id = "auth.oauth_exchange")]
    async fn exchange(
        &self,
        app: Data<&App>,
        request: RequestInfo,
        from: From,
        _key: NotKept,
        body: Body<Exchange>,
    ) -> Result<Answer<Session>> {
        let hash = token_hash(&body.code);
        let shown = body.verifier.as_deref().map(token_hash);
        let mut tx = app.db.identity().await?;
        let code = rows::find_code(&mut tx, hash).await?;
        let good =
            |code: &rows::Code| code.challenge.as_deref().is_none_or(|wanted| shown.is_some_and(|s| s == *wanted));
        let Some(code) = code.filter(good) else {
            tx.commit().await?;
            if let Some(address) = request.address() {
                app.limits.address_failed(address).await;
            }
            let detail =
                "the code was used before, has expired, or comes without what its challenge was made of; begin again";
            return Err(ApiError::unauthenticated("code_invalid", detail));
        };
        let person = Person { user: code.user_id, identity: code.identity, wished: code.wished_tenant };
        let proofs = (body.otp.as_deref(), Some(hash));
        Answer::new(&account::admit(&app, tx, &person, proofs, (&from.0, &request.cause())).await?)
    }
}

/// The front end that a browser is to be sent back to.
fn back(oauth: &OAuth, return_to: Option<String>, challenge: Option<String>) -> Result<Option<Back>> {
    let fault = |detail: &'static str| ApiError::malformed("parameter_invalid", detail);
    let Some(url) = return_to else {
        let alone = "parameter `challenge`: it is of use with `return_to` alone";
        return if challenge.is_some() { Err(fault(alone)) } else { Ok(None) };
    };
    if !oauth.return_urls.contains(&url) {
        let detail = "parameter `return_to`: none of the addresses that the operator allows (OAUTH_RETURN_URLS)";
        return Err(ApiError::malformed("return_url_unknown", detail));
    }
    let digest = challenge.and_then(|text| URL_SAFE_NO_PAD.decode(text).ok()).and_then(|bytes| bytes.try_into().ok());
    let needed = "parameter `challenge`: with `return_to` it is needed, 43 characters: a SHA-256 in base64url";
    Ok(Some(Back { url, challenge: digest.ok_or_else(|| fault(needed))? }))
}
