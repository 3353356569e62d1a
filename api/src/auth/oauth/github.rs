//! GitHub, or a GitHub Enterprise Server: OAuth 2.0 without OpenID Connect. Who somebody is, its REST API says.

use oauth2::http::{HeaderMap, HeaderValue, header};
use oauth2::{AccessToken, AuthType};
use serde::Deserialize;
use url::Url;

use super::calls::{CallError, Calls};
use super::openid::bearer;

/// The scopes asked for.
pub const SCOPES: [&str; 2] = ["read:user", "user:email"];
/// GitHub takes the secret in the body.
pub const AUTH_TYPE: AuthType = AuthType::RequestBody;
/// The version of its API.
const VERSION: &str = "2022-11-28";

/// Where the browser is sent, and where codes are exchanged.
pub fn endpoints(base: &str) -> Result<(Url, Url), CallError> {
    Ok((below(base, "login/oauth/authorize")?, below(base, "login/oauth/access_token")?))
}

/// A person, as GitHub knows them.
#[derive(Debug, PartialEq)]
pub struct Person {
    /// Their number, which no renaming changes.
    pub id: u64,
    pub name: String,
    /// The primary address, if it was proven.
    pub email: Option<String>,
}

#[derive(Deserialize)]
struct User {
    id: u64,
    login: String,
    name: Option<String>,
}

#[derive(Deserialize)]
struct Address {
    email: String,
    primary: bool,
    verified: bool,
}

/// Whose access token it is.
pub async fn ask(calls: &Calls, base: &str, token: &AccessToken) -> Result<Person, CallError> {
    let api = if Url::parse(base).is_ok_and(|url| url.host_str() == Some("github.com")) {
        "https://api.github.com".to_owned()
    } else {
        format!("{}/api/v3", base.trim_end_matches('/'))
    };
    let mut headers: HeaderMap = bearer(token)?;
    headers.insert(header::ACCEPT, HeaderValue::from_static("application/vnd.github+json"));
    headers.insert("x-github-api-version", HeaderValue::from_static(VERSION));
    let user: User = calls.get(&below(&api, "user")?, headers.clone()).await?;
    let addresses: Vec<Address> = calls.get(&below(&api, "user/emails?per_page=100")?, headers).await?;
    let email = addresses.into_iter().find(|address| address.primary && address.verified).map(|address| address.email);
    Ok(Person { id: user.id, name: user.name.filter(|name| !name.trim().is_empty()).unwrap_or(user.login), email })
}

fn below(base: &str, path: &str) -> Result<Url, CallError> {
    let address = format!("{}/{path}", base.trim_end_matches('/'));
    Url::parse(&address).map_err(|error| CallError(format!("{address}: {error}")))
}
