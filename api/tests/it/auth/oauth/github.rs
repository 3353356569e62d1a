//! GitHub, played by a small server that insists on what GitHub's documentation asks for.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use millwork_api::auth::oauth::settings::{Kind, ProviderSettings};
use millwork_api::config::Registration;
use millwork_shared::infra::crypto::{Secret, token_hash};
use millwork_shared::infra::tasks;
use poem::http::StatusCode;
use poem::listener::TcpAcceptor;
use poem::web::{Data, Form, Json, Query, Redirect};
use poem::{EndpointExt, IntoResponse, Request, Response, Route, get, handler, post};
use serde_json::{Value, json};

use super::{PUBLIC_URL, Stage, account};
use crate::support::Reply;

const TOKEN: &str = "gho_16C7e42F292c6912E7710c838347Ae178B4a";

#[derive(Clone, Default)]
struct GitHub {
    /// Of a code, the challenge that it was asked for with.
    codes: Arc<Mutex<HashMap<String, String>>>,
    emails: Arc<Mutex<Value>>,
    user: Arc<Mutex<Value>>,
}

#[handler]
fn authorize(Query(asked): Query<HashMap<String, String>>, github: Data<&GitHub>) -> Response {
    for (name, value) in [
        ("client_id", "us"),
        ("scope", "read:user user:email"),
        ("response_type", "code"),
        ("code_challenge_method", "S256"),
    ] {
        assert_eq!(asked[name], value);
    }
    let code = uuid::Uuid::new_v4().simple().to_string();
    github.codes.lock().unwrap().insert(code.clone(), asked["code_challenge"].clone());
    Redirect::see_other(format!("{}?code={code}&state={}", asked["redirect_uri"], asked["state"])).into_response()
}

#[handler]
fn token(Form(asked): Form<HashMap<String, String>>, request: &Request, github: Data<&GitHub>) -> Json<Value> {
    assert_eq!(request.header("accept"), Some("application/json"), "else GitHub answers a form");
    assert_eq!((asked["client_id"].as_str(), asked["client_secret"].as_str()), ("us", "secret"));
    let challenge = github.codes.lock().unwrap().remove(&asked["code"]);
    let shown = URL_SAFE_NO_PAD.encode(token_hash(&asked["code_verifier"]));
    if challenge != Some(shown) {
        return Json(json!({
            "error": "bad_verification_code",
            "error_description": "The code passed is incorrect or expired.",
            "error_uri": "https://docs.github.com/apps/managing-oauth-apps",
        }));
    }
    Json(json!({ "access_token": TOKEN, "scope": "read:user,user:email", "token_type": "bearer" }))
}

fn rest(request: &Request, answer: &Mutex<Value>) -> Response {
    let expected = [
        ("authorization", format!("Bearer {TOKEN}")),
        ("accept", "application/vnd.github+json".to_owned()),
        ("x-github-api-version", "2022-11-28".to_owned()),
    ];
    for (name, value) in expected {
        assert_eq!(request.header(name), Some(value.as_str()));
    }
    if request.header("user-agent").is_none_or(str::is_empty) {
        return StatusCode::FORBIDDEN.into_response();
    }
    Json(answer.lock().unwrap().clone()).into_response()
}

#[handler]
fn user(request: &Request, github: Data<&GitHub>) -> Response {
    rest(request, &github.user)
}

#[handler]
fn emails(request: &Request, github: Data<&GitHub>) -> Response {
    rest(request, &github.emails)
}

/// An API that lets people in by the GitHub that is played.
async fn stage() -> (Stage, GitHub) {
    let github = GitHub::default();
    *github.user.lock().unwrap() =
        json!({ "id": 583_231, "login": "octocat", "name": null, "email": "public@x.example" });
    *github.emails.lock().unwrap() = json!([
        { "email": "second@octo.example", "primary": false, "verified": true, "visibility": null },
        { "email": "octocat@octo.example", "primary": true, "verified": true, "visibility": "private" },
    ]);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let issuer = format!("http://{}", listener.local_addr().unwrap());
    let routes = Route::new()
        .at("/login/oauth/authorize", get(authorize))
        .at("/login/oauth/access_token", post(token))
        .at("/api/v3/user", get(user))
        .at("/api/v3/user/emails", get(emails))
        .data(github.clone());
    let acceptor = TcpAcceptor::from_tokio(listener).unwrap();
    tasks::spawn("github", poem::Server::new_with_acceptor(acceptor).run(routes));
    let provider = ProviderSettings {
        name: "github".to_owned(),
        client_id: "us".to_owned(),
        client_secret: Secret::new("secret".to_owned()),
        kind: Kind::GitHub,
        issuer,
    };
    (Stage::knowing(vec![provider], Registration::Open, PUBLIC_URL).await, github)
}

/// The way there and back, which GitHub does not ask about the second time.
async fn sign_in(stage: &mut Stage) -> Reply {
    let begun = stage.browser.get(&format!("{PUBLIC_URL}/api/v1/auth/oauth/github")).await;
    assert_eq!(begun.status, 302, "{}", begun.text());
    let back = stage.browser.get(begun.header("location")).await;
    stage.browser.get(back.header("location")).await
}

#[tokio::test]
async fn somebody_whom_github_knows_gets_an_account_by_their_primary_address() {
    let (mut stage, github) = stage().await;
    let session = sign_in(&mut stage).await.expect(200)["data"].clone();
    assert_eq!(session["user"]["email"], "octocat@octo.example");
    assert_eq!(session["user"]["name"], "octocat");
    // The number stays when all else changes.
    *github.user.lock().unwrap() = json!({ "id": 583_231, "login": "renamed", "name": "Mona" });
    *github.emails.lock().unwrap() = json!([{ "email": "new@octo.example", "primary": true, "verified": false }]);
    let again = sign_in(&mut stage).await.expect(200)["data"].clone();
    assert_eq!(again["user"]["id"], session["user"]["id"]);
    let kept = "select issuer || ' ' || subject || ' ' || provider from identities";
    let kept = stage.app.db.sql(kept).await.remove(0).unwrap();
    assert!(kept.starts_with("http://127.0.0.1:") && kept.ends_with(" 583231 github"), "{kept}");
}

#[tokio::test]
async fn an_address_that_is_not_both_primary_and_proven_is_not_taken() {
    let (mut stage, github) = stage().await;
    account(&stage.app, "octocat@octo.example", true).await;
    for addresses in [
        json!([{ "email": "octocat@octo.example", "primary": true, "verified": false }]),
        json!([{ "email": "octocat@octo.example", "primary": false, "verified": true }]),
        json!([]),
    ] {
        *github.emails.lock().unwrap() = addresses;
        sign_in(&mut stage).await.problem(403, "email_unverified");
    }
}

#[tokio::test]
async fn what_github_refuses_with_200_is_refused() {
    let (mut stage, github) = stage().await;
    let begun = stage.browser.get(&format!("{PUBLIC_URL}/api/v1/auth/oauth/github")).await;
    let back = stage.browser.get(begun.header("location")).await;
    github.codes.lock().unwrap().clear();
    stage.browser.get(back.header("location")).await.problem(400, "code_refused");
    *github.user.lock().unwrap() = json!({ "message": "Bad credentials" });
    sign_in(&mut stage).await.problem(503, "unavailable");
}
