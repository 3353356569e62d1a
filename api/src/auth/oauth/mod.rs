//! Signing in by another provider: OAuth 2.0 with PKCE, and OpenID Connect (decision 0032).

mod account;
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
use millwork_shared::audit;
use millwork_shared::auth::Client;
use millwork_shared::auth::queries::identities as rows;
use millwork_shared::egress::AllowedNets;
use millwork_shared::infra::crypto::token_hash;
use millwork_shared::infra::ids::TenantId;
use millwork_shared::maintenance::PLATFORM;
use oauth2::TokenResponse;
use poem::http::{HeaderValue, StatusCode, header};
use poem::web::Data;
use poem_openapi::OpenApi;
use poem_openapi::param::{Path, Query};
use serde_json::json;
use url::Url;
use uuid::Uuid;

use self::account::{Person, Word};
use self::calls::{CallError, Calls};
use self::flow::{Back, Carried, Flow, Wish};
use self::grant::{Grant, Refusal};
use self::id_token::Expected;
use self::landing::{Found, Landing};
use self::openid::{Doubt, Issuer, Published};
use self::settings::{Kind, OAuthSettings, ProviderSettings};
use self::types::Exchange;
use super::client::From;
use super::types::Session;
use crate::App;
use crate::http::{Answer, ApiError, Body, RequestInfo, Result};
use crate::routes::Tag;

/// What an OpenID Connect issuer is asked for.
const SCOPES: [&str; 3] = ["openid", "email", "profile"];
/// After it a client may try a provider again that did not answer.
const RETRY_AFTER_S: u32 = 5;

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
    /// named), and must be back within ten minutes. Without `return_to` the callback answers tokens as `POST /auth/login`
    /// does; with it, the front end there gets a `code` for `POST /auth/oauth/exchange`.
    #[oai(path = "/auth/oauth/:provider", method = "get", operation_id = "auth.oauth")]
    async fn begin(
        &self,
        app: Data<&App>,
        provider: Path<String>,
        /// Where a front end waits: one of the operator's `OAUTH_RETURN_URLS`, word for word
        #[oai(validator(max_length = 500))]
        return_to: Query<Option<String>>,
        /// With `return_to`: the SHA-256, in base64url, of 32 random bytes or more in base64url, which the front end keeps and
        /// shows with the code
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
    /// Where the provider sends the browser. An account is opened that was linked before, or that is of the same address if
    /// that is proven both here and there; otherwise a person and a tenant of theirs are made, where registration is open.
    /// Whoever has a second factor gets 401 `otp_required` with an `exchange_code` for `POST /auth/oauth/exchange`.
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

/// What a provider sent with the browser.
struct Returned {
    code: Option<String>,
    state: Option<String>,
    iss: Option<String>,
    error: Option<String>,
}

/// Everything between the browser's return and its session.
async fn land(
    app: &App,
    provider: &Provider,
    flow: Option<Flow>,
    answer: Returned,
    request: &RequestInfo,
    client: &Client,
) -> Result<Landing> {
    let flow = flow.ok_or_else(|| stateless("this browser has not begun one"))?;
    let now = app.clock.now().timestamp();
    flow.check(&provider.settings.name, answer.state.as_deref(), now).map_err(stateless)?;
    let mut tx = app.db.identity().await?;
    let first = rows::spend_state(&mut tx, token_hash(&flow.state)).await?;
    tx.commit().await?;
    if !first {
        return Err(stateless("it came to its end before"));
    }
    let word = word(app, provider, answer, &flow).await?;
    let cause = request.cause();
    let person = account::find(app, word, flow.wish.tenant.map(TenantId), &cause).await?;
    if let Some(back) = &flow.wish.back {
        let code = account::code_for(app, &person, Some(back.challenge)).await?;
        let location = with_query(&back.url, &[("code", &code)])?;
        return Ok(Landing::Back(Found { location, cookie: flow::forget(app)? }));
    }
    let tx = app.db.identity().await?;
    match account::admit(app, tx, &person, (None, None), (client, &cause)).await {
        Ok(session) => Ok(Landing::Here(Answer::new(&session)?, flow::forget(app)?)),
        Err(error) if error.code() == "otp_required" => {
            let code = account::code_for(app, &person, None).await?;
            let detail = "send `code`, the `exchange_code` of this answer, and `otp`, a code of the authenticator app or a recovery code, to \
                          POST /auth/oauth/exchange within five minutes";
            Err(ApiError::unauthenticated("otp_required", detail).with("exchange_code", code))
        }
        Err(error) => Err(error),
    }
}

/// The provider's word on who the person is.
async fn word(app: &App, provider: &Provider, answer: Returned, flow: &Flow) -> Result<Word> {
    let settings = &provider.settings;
    let issuer = app.oauth.issuer(provider, app.clock.offset());
    let metadata = match settings.kind {
        Kind::GitHub => None,
        Kind::OpenId => Some(issuer.metadata().await.map_err(unavailable)?),
    };
    let names_itself = metadata.as_ref().is_some_and(|metadata| metadata.names_itself);
    check_issuer(settings, names_itself, answer.iss.as_deref())?;
    if let Some(error) = answer.error {
        return Err(given_up(&error));
    }
    let no_code = || ApiError::malformed("code_missing", "the provider sent neither a code nor an error; begin again");
    let code = answer.code.filter(|code| !code.is_empty()).ok_or_else(no_code)?;
    let grant = grant(app, provider, metadata.as_deref()).map_err(unavailable)?;
    let tokens = grant.exchange(&app.oauth.calls, &code, flow).await.map_err(|refusal| match refusal {
        Refusal::Code => ApiError::malformed("code_refused", "the provider does not take its code back; begin again"),
        Refusal::Call(error) => unavailable(error),
    })?;
    let word = |subject, email, name| Word {
        issuer: settings.issuer.clone(),
        provider: settings.name.clone(),
        subject,
        email,
        name,
    };
    if metadata.is_none() {
        let person =
            github::ask(&app.oauth.calls, &settings.issuer, tokens.access_token()).await.map_err(unavailable)?;
        return Ok(word(person.id.to_string(), person.email, Some(person.name)));
    }
    let id_token = tokens.extra_fields().id_token.as_deref().ok_or_else(|| doubted("there is none"))?;
    let expected = Expected {
        issuer: &settings.issuer,
        client_id: &settings.client_id,
        nonce: &flow.nonce,
        now: app.clock.now().timestamp(),
    };
    let claims = issuer.check(id_token, &expected, tokens.access_token()).await.map_err(|doubt| match doubt {
        Doubt::Call(error) => unavailable(error),
        Doubt::Token(fault) => doubted(fault),
    })?;
    let email = claims.proven_email().map(str::to_owned);
    Ok(word(claims.sub, email, claims.name))
}

fn grant(app: &App, provider: &Provider, metadata: Option<&openid::Metadata>) -> Result<Grant, CallError> {
    let settings = &provider.settings;
    let callback = app.url(&format!("/api/v1/auth/oauth/{}/callback", settings.name));
    let (endpoints, auth_type) = match metadata {
        None => (github::endpoints(&settings.issuer)?, github::AUTH_TYPE),
        Some(of) => ((of.authorization_endpoint.clone(), of.token_endpoint.clone()), of.auth_type.clone()),
    };
    Grant::new(settings, endpoints, auth_type, &callback)
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

/// RFC 9207: an answer that names another issuer was meant for another client.
fn check_issuer(settings: &ProviderSettings, names_itself: bool, iss: Option<&str>) -> Result<()> {
    let fits = match (iss, settings.kind) {
        (None, _) => !names_itself,
        (Some(iss), Kind::OpenId) => iss == settings.issuer,
        (Some(iss), Kind::GitHub) => {
            iss.strip_prefix(&settings.issuer).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        }
    };
    let detail = "the answer is not of the provider that the sign-in was begun with; begin again";
    if fits { Ok(()) } else { Err(ApiError::malformed("issuer_mismatch", detail)) }
}

/// The person or the provider ended it.
fn given_up(error: &str) -> ApiError {
    match error {
        "access_denied" => {
            let detail =
                "the provider was not allowed to tell who you are; begin again and agree, or sign in otherwise";
            ApiError::new(StatusCode::FORBIDDEN, "access_denied", detail)
        }
        "server_error" | "temporarily_unavailable" => unavailable(CallError(error.to_owned())),
        _ => {
            let plain = error.len() <= 60 && error.bytes().all(|b| b.is_ascii_lowercase() || b == b'_');
            let error = if plain { error } else { "unknown" };
            ApiError::malformed(
                "provider_error",
                "the provider ended the sign-in; `provider_error` is its word for why",
            )
            .with("provider_error", error)
        }
    }
}

fn stateless(why: &'static str) -> ApiError {
    ApiError::malformed("oauth_state_invalid", format!("there is no such sign-in under way: {why}. Begin again"))
}

fn doubted(fault: id_token::Fault) -> ApiError {
    ApiError::unauthenticated("id_token_invalid", format!("the provider's ID token is not good: {fault}. Begin again"))
}

fn unavailable(error: CallError) -> ApiError {
    tracing::warn!(%error, error.category = "dependency", "an identity provider is of no use");
    let detail = "the identity provider does not answer as it should; try again in a moment, or sign in otherwise";
    ApiError::unavailable(detail, RETRY_AFTER_S).by_dependency()
}

fn with_query(url: &str, pairs: &[(&str, &str)]) -> Result<String> {
    let mut url = Url::parse(url).map_err(ApiError::internal)?;
    url.query_pairs_mut().extend_pairs(pairs);
    Ok(url.into())
}

/// Writes a refusal down with the platform, for nobody knows whose it is, and counts what only forgers and guessers run into.
async fn note(app: &App, provider: &Provider, error: &ApiError, request: &RequestInfo) {
    if !error.status().is_client_error() || error.code() == "otp_required" {
        return;
    }
    let suspicious =
        ["oauth_state_invalid", "issuer_mismatch", "code_refused", "id_token_invalid"].contains(&error.code());
    if let Some(address) = request.address().filter(|_| suspicious) {
        app.limits.address_failed(address).await;
    }
    let write = async {
        let mut tx = app.db.tenant(PLATFORM).await?;
        let after = json!({ "code": error.code(), "detail": error.detail() });
        let resource = ("oauth_provider", provider.settings.name.as_str());
        audit::queries::record(&mut tx, "oauth.refused", resource, Some(&after)).await?;
        tx.commit().await
    };
    if let Err(error) = write.await {
        tracing::warn!(%error, "a refused sign-in was not written down");
    }
}
