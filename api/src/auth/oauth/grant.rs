//! The authorization code grant with PKCE, by the crate `oauth2` over our own HTTP client.

use std::pin::Pin;

use oauth2::basic::{
    BasicErrorResponse, BasicErrorResponseType, BasicRevocationErrorResponse, BasicTokenIntrospectionResponse,
    BasicTokenType,
};
use oauth2::http::StatusCode;
use oauth2::{
    AsyncHttpClient, AuthType, AuthUrl, AuthorizationCode, Client, ClientId, ClientSecret, CsrfToken, EndpointNotSet,
    EndpointSet, ExtraTokenFields, HttpRequest, HttpResponse, PkceCodeChallenge, PkceCodeVerifier, RedirectUrl,
    RequestTokenError, Scope, StandardRevocableToken, StandardTokenResponse, TokenUrl,
};
use serde::{Deserialize, Serialize};
use url::Url;

use super::calls::{CallError, Calls};
use super::flow::Flow;
use super::settings::ProviderSettings;

/// What an OpenID Connect issuer answers beside the access token.
#[derive(Debug, Serialize, Deserialize)]
pub struct Extra {
    pub id_token: Option<String>,
}

impl ExtraTokenFields for Extra {}

pub type Tokens = StandardTokenResponse<Extra, BasicTokenType>;

type Ready = Client<
    BasicErrorResponse,
    Tokens,
    BasicTokenIntrospectionResponse,
    StandardRevocableToken,
    BasicRevocationErrorResponse,
    EndpointSet,
    EndpointNotSet,
    EndpointNotSet,
    EndpointNotSet,
    EndpointSet,
>;

/// Why there are no tokens.
#[derive(Debug)]
pub enum Refusal {
    /// The code is not good, or not for us, or the verifier is another one.
    Code,
    /// The provider was not reached, or does not know us, or makes no sense.
    Call(CallError),
}

/// We, as a provider knows us.
pub struct Grant(Ready);

impl Grant {
    pub fn new(
        settings: &ProviderSettings,
        (authorization, token): (Url, Url),
        auth_type: AuthType,
        callback: &str,
    ) -> Result<Self, CallError> {
        let callback = RedirectUrl::new(callback.to_owned()).map_err(|error| CallError(error.to_string()))?;
        let client = Client::new(ClientId::new(settings.client_id.clone()))
            .set_client_secret(ClientSecret::new(settings.client_secret.expose().clone()))
            .set_auth_uri(AuthUrl::from_url(authorization))
            .set_token_uri(TokenUrl::from_url(token))
            .set_redirect_uri(callback)
            .set_auth_type(auth_type);
        Ok(Self(client))
    }

    /// Where the browser is sent.
    pub fn address(&self, flow: &Flow, scopes: &[&str], with_nonce: bool) -> Url {
        let verifier = PkceCodeVerifier::new(flow.verifier.clone());
        let mut request = self
            .0
            .authorize_url(|| CsrfToken::new(flow.state.clone()))
            .add_scopes(scopes.iter().map(|scope| Scope::new((*scope).to_owned())))
            .set_pkce_challenge(PkceCodeChallenge::from_code_verifier_sha256(&verifier));
        if with_nonce {
            request = request.add_extra_param("nonce", flow.nonce.clone());
        }
        request.url().0
    }

    /// Tokens for a code.
    pub async fn exchange(&self, calls: &Calls, code: &str, flow: &Flow) -> Result<Tokens, Refusal> {
        let answer = self
            .0
            .exchange_code(AuthorizationCode::new(code.to_owned()))
            .set_pkce_verifier(PkceCodeVerifier::new(flow.verifier.clone()))
            .request_async(calls)
            .await;
        answer.map_err(|error| match error {
            RequestTokenError::ServerResponse(said) if is_about_the_code(said.error()) => Refusal::Code,
            RequestTokenError::ServerResponse(said) => {
                Refusal::Call(CallError(format!("the provider gives no token: {}", said.error().as_ref())))
            }
            RequestTokenError::Request(error) => Refusal::Call(error),
            RequestTokenError::Parse(error, _) => {
                Refusal::Call(CallError(format!("the provider's answer makes no sense: {error}")))
            }
            RequestTokenError::Other(error) => Refusal::Call(CallError(error)),
        })
    }
}

fn is_about_the_code(error: &BasicErrorResponseType) -> bool {
    match error {
        BasicErrorResponseType::InvalidGrant => true,
        BasicErrorResponseType::Extension(name) => name == "bad_verification_code", // GitHub's word for it
        _ => false,
    }
}

/// The way of `oauth2` to a provider.
impl<'c> AsyncHttpClient<'c> for Calls {
    type Error = CallError;
    type Future = Pin<Box<dyn Future<Output = Result<HttpResponse, CallError>> + Send + 'c>>;

    fn call(&'c self, request: HttpRequest) -> Self::Future {
        Box::pin(async move { self.send(request).await.map(plain) })
    }
}

/// GitHub says what is wrong with 200.
fn plain(mut answer: HttpResponse) -> HttpResponse {
    #[derive(Deserialize)]
    struct Refused {
        #[serde(rename = "error")]
        _error: String,
    }
    if answer.status() == StatusCode::OK && serde_json::from_slice::<Refused>(answer.body()).is_ok() {
        *answer.status_mut() = StatusCode::BAD_REQUEST;
    }
    answer
}
