//! The keys that sign access tokens take turns.

use std::sync::Arc;
use std::time::Duration;

use millwork_shared::auth::jobs::RotateSigningKeys;
use millwork_shared::auth::queries::signing_keys::{OVERLAP, SIGNS_FOR};
use millwork_shared::infra::ids::JobId;
use millwork_shared::maintenance::PLATFORM;
use millwork_worker::auth::rotate_signing_keys::rotate_signing_keys;
use millwork_worker::context::Context;
use millwork_worker::runtime::Run;
use millwork_worker::webhooks;
use serde_json::json;

use crate::support::{PASSWORD, Tenant, TestApp};

/// Runs the job twice, as may happen.
async fn rotate(app: &TestApp) {
    let webhooks = webhooks::Settings { schedule: "1h".parse().unwrap(), timeout: Duration::from_secs(5) };
    let context = Context::for_test(&app.db, app.app.keys.clone(), Default::default(), webhooks).unwrap();
    let context = Arc::new(context);
    for _ in 0..2 {
        let run = Arc::new(Run::for_test(PLATFORM, JobId::generate()));
        rotate_signing_keys(RotateSigningKeys {}, run, context.clone()).await.unwrap();
    }
}

/// Ids of the published keys, newest first.
async fn published(app: &TestApp) -> Vec<String> {
    let keys = app.anonymous().get("//.well-known/jwks.json").await.expect(200);
    keys["keys"].as_array().unwrap().iter().map(|key| key["kid"].as_str().unwrap().to_owned()).collect()
}

/// A fresh access token, and the key that signed it.
async fn token(app: &TestApp, tenant: &Tenant<'_>) -> (String, String) {
    let body = json!({ "email": tenant.email, "password": PASSWORD });
    let session = app.anonymous().post("/auth/login", body).await.expect(200);
    let token = session["data"]["access_token"].as_str().unwrap().to_owned();
    let kid = jsonwebtoken::decode_header(&token).unwrap().kid.unwrap();
    (token, kid)
}

#[tokio::test]
async fn a_key_is_published_before_it_signs_and_until_what_it_signed_has_expired() {
    let app = TestApp::start().await;
    rotate(&app).await;
    assert!(app.db.sql("select id::text from signing_keys").await.is_empty(), "who signs first makes the first key");
    let acme = app.tenant("acme").await;
    let (_, first) = token(&app, &acme).await;
    rotate(&app).await;
    assert_eq!(published(&app).await, std::slice::from_ref(&first), "its time is not over");

    app.advance(SIGNS_FOR).await;
    rotate(&app).await;
    let [second, also] = published(&app).await.try_into().unwrap();
    assert_eq!(also, first);
    assert_eq!(token(&app, &acme).await.1, first, "those who check have not read the new one yet");

    app.advance(OVERLAP - Duration::from_secs(10)).await;
    let (last_of_first, kid) = token(&app, &acme).await;
    assert_eq!(kid, first);
    app.advance(Duration::from_secs(310)).await;
    assert_eq!(token(&app, &acme).await.1, second);
    rotate(&app).await;
    app.bearer(last_of_first).get("/auth/me").await.expect(200);
    assert_eq!(published(&app).await, [second.clone(), first]);

    app.advance(OVERLAP).await;
    rotate(&app).await;
    app.advance(Duration::from_secs(300)).await;
    assert_eq!(published(&app).await, std::slice::from_ref(&second));
    let (token, kid) = token(&app, &acme).await;
    assert_eq!(kid, second);
    app.bearer(token).get("/auth/me").await.expect(200);
}
