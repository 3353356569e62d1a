//! Signing in by another provider: a real one, `oidc-provider`, in a process of its own on loopback; GitHub is played.

mod accounts;
pub mod browser;
mod front_end;
mod github;
mod refused;

use millwork_api::auth::oauth::settings::{Kind, OAuthSettings, ProviderSettings};
use millwork_api::config::Registration;
use millwork_shared::infra::crypto::Secret;
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{Options, Reply, TestApp};
use browser::Browser;

/// What people reach the API by. Nobody resolves it: the browser knows where that is.
pub const PUBLIC_URL: &str = "https://api.example";
pub const RETURN_URL: &str = "https://app.example/signed-in?from=millwork";

/// An API that knows a provider, and a person before a browser.
struct Stage {
    app: TestApp,
    browser: Browser,
}

/// How it differs from the usual.
struct Scene {
    /// Of the two running ones: the second puts the address into the ID token.
    issuer: usize,
    /// What our registration with the provider says beside the address of the callback.
    client: Value,
    registration: Registration,
    public_url: &'static str,
}

impl Default for Scene {
    fn default() -> Self {
        Self { issuer: 0, client: json!({}), registration: Registration::Open, public_url: PUBLIC_URL }
    }
}

fn issuer(index: usize) -> String {
    let issuers = std::env::var("MILLWORK_TEST_ISSUERS")
        .expect("MILLWORK_TEST_ISSUERS is not set: run the tests by `cargo dev test`");
    issuers.split(',').nth(index).unwrap().to_owned()
}

/// Registers us with a running provider, as `name`.
pub async fn registered(name: &str, public_url: &str, index: usize, mut client: Value) -> ProviderSettings {
    let issuer = issuer(index);
    client["redirect_uris"] = json!([format!("{public_url}/api/v1/auth/oauth/{name}/callback")]);
    let us = crate::support::Client::new(&issuer, None).request(Method::POST, "//reg").json(&client);
    let us = Reply::of(us).await.expect(201);
    ProviderSettings {
        name: name.to_owned(),
        client_id: us["client_id"].as_str().unwrap().to_owned(),
        client_secret: Secret::new(us["client_secret"].as_str().unwrap().to_owned()),
        kind: Kind::OpenId,
        issuer,
    }
}

impl Stage {
    async fn new() -> Self {
        Self::with(Scene::default()).await
    }

    async fn with(scene: Scene) -> Self {
        let provider = registered("acme", scene.public_url, scene.issuer, scene.client).await;
        Self::knowing(vec![provider], scene.registration, scene.public_url).await
    }

    async fn knowing(providers: Vec<ProviderSettings>, registration: Registration, public_url: &str) -> Self {
        let oauth = OAuthSettings { providers, return_urls: vec![RETURN_URL.to_owned()] };
        let public_url = public_url.to_owned();
        let options = Options { oauth, registration, public_url: Some(public_url.clone()), ..Options::default() };
        let app = TestApp::start_with(options).await;
        Self { browser: Browser::new(&public_url, &app.url), app }
    }

    /// Begins: where the browser is sent.
    async fn begin(&mut self) -> String {
        self.begin_with("").await
    }

    async fn begin_with(&mut self, query: &str) -> String {
        let reply = self.browser.get(&format!("{PUBLIC_URL}/api/v1/auth/oauth/acme{query}")).await;
        assert_eq!(reply.status, 302, "{}", reply.text());
        assert_eq!(reply.header("cache-control"), "no-store");
        reply.header("location").to_owned()
    }

    /// Begins and agrees at the provider: where that sends the browser back to.
    async fn agreed(&mut self, login: &str) -> String {
        let address = self.begin().await;
        self.browser.agree(&address, login).await
    }

    /// The whole way.
    async fn sign_in(&mut self, login: &str) -> Reply {
        let back = self.agreed(login).await;
        self.browser.get(&back).await
    }

    /// What the platform's audit entries say of refusals.
    async fn refusals(&self) -> Vec<String> {
        let sql = "select after->>'code' from audit_logs where action = 'oauth.refused' order by id";
        self.app.db.sql(sql).await.into_iter().flatten().collect()
    }
}

/// An account made by a password, whose address was proven to us or not.
async fn account(app: &TestApp, email: &str, proven: bool) -> Value {
    let body = json!({
        "tenant_name": "Acme", "name": "Ann", "email": email, "password": crate::support::PASSWORD,
    });
    let session = app.anonymous().post("/auth/register", body).await.expect(201)["data"].clone();
    if proven {
        app.db.sql(format!("update users set verified_at = ledger_now() where email = '{email}'")).await;
    }
    session
}
