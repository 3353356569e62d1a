//! From a browser's return to its session.

use millwork_shared::audit;
use millwork_shared::auth::Client;
use millwork_shared::auth::queries::identities as rows;
use millwork_shared::infra::crypto::token_hash;
use millwork_shared::infra::ids::TenantId;
use millwork_shared::maintenance::PLATFORM;
use oauth2::TokenResponse;
use poem::http::StatusCode;
use serde_json::json;
use url::Url;

use super::account::{self, Word};
use super::calls::CallError;
use super::flow::{self, Flow};
use super::grant::{Grant, Refusal};
use super::id_token::{self, Expected};
use super::landing::{Found, Landing};
use super::openid::{self, Doubt};
use super::settings::{Kind, ProviderSettings};
use super::{Provider, github};
use crate::App;
use crate::http::{Answer, ApiError, RequestInfo, Result};

/// After it a client may try a provider again that did not answer.
const RETRY_AFTER_S: u32 = 5;

/// What a provider sent with the browser.
pub struct Returned {
    pub code: Option<String>,
    pub state: Option<String>,
    pub iss: Option<String>,
    pub error: Option<String>,
}

/// Everything between the browser's return and its session.
pub async fn land(
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
            let detail = "send `code`, the `exchange_code` of this answer, and `otp`, a code of the authenticator app \
                          or a recovery code, to \
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

pub fn grant(app: &App, provider: &Provider, metadata: Option<&openid::Metadata>) -> Result<Grant, CallError> {
    let settings = &provider.settings;
    let callback = app.url(&format!("/api/v1/auth/oauth/{}/callback", settings.name));
    let (endpoints, auth_type) = match metadata {
        None => (github::endpoints(&settings.issuer)?, github::AUTH_TYPE),
        Some(of) => ((of.authorization_endpoint.clone(), of.token_endpoint.clone()), of.auth_type.clone()),
    };
    Grant::new(settings, endpoints, auth_type, &callback)
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

pub fn unavailable(error: CallError) -> ApiError {
    tracing::warn!(%error, error.category = "dependency", "an identity provider is of no use");
    let detail = "the identity provider does not answer as it should; try again in a moment, or sign in otherwise";
    ApiError::unavailable(detail, RETRY_AFTER_S).by_dependency()
}

pub fn with_query(url: &str, pairs: &[(&str, &str)]) -> Result<String> {
    let mut url = Url::parse(url).map_err(ApiError::internal)?;
    url.query_pairs_mut().extend_pairs(pairs);
    Ok(url.into())
}

/// Writes a refusal down with the platform, for nobody knows whose it is, and counts what only forgers and guessers run
/// into.
pub async fn note(app: &App, provider: &Provider, error: &ApiError, request: &RequestInfo) {
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
