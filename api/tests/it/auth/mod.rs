//! Registering, signing in and out, and going on.

mod keys;
pub mod mfa;
pub mod oauth;
pub mod recovery;
mod sessions;

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use millwork_api::config::Registration;
use millwork_shared::infra::crypto::token_hash;
use millwork_shared::tenants::Role;
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{Options, PASSWORD, Reply, TestApp};

fn register(email: &str) -> Value {
    json!({ "tenant_name": "Acme", "name": "Ann", "email": email, "password": PASSWORD })
}

#[tokio::test]
async fn registering_makes_person_tenant_session_and_two_mails_at_once() {
    let app = TestApp::start().await;
    let trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let request = app.anonymous().request(Method::POST, "/auth/register").header("traceparent", trace);
    let reply = Reply::of(request.json(&register("Ann@Acme.Example"))).await;
    let session = &reply.expect(201)["data"];
    assert_eq!(session["token_type"], "Bearer");
    assert_eq!(session["expires_in"], 900);
    assert_eq!(session["user"]["email"], "Ann@Acme.Example");
    assert_eq!(session["user"]["email_verified_at"], Value::Null);
    assert_eq!(session["tenant"]["name"], "Acme");

    let me = app.bearer(session["access_token"].as_str().unwrap()).get("/auth/me").await.expect(200);
    assert_eq!(me["data"]["user"], session["user"]);
    assert_eq!(me["data"]["tenant"], session["tenant"]);
    assert_eq!(me["data"]["roles"], json!(["owner"]));
    assert!(me["data"]["permissions"].as_array().unwrap().contains(&json!("api_keys:write")));

    let owner = app.db.owner().await;
    let mails = jobs(&owner).await;
    let user = session["user"]["id"].as_str().unwrap();
    let kinds: Vec<_> = mails.iter().map(|(kind, queue, ..)| (kind.as_str(), queue.as_str())).collect();
    assert_eq!(kinds, [("auth.send_verification", "email"), ("auth.send_welcome", "email")]);
    for (_, _, payload, request_id, traceparent) in &mails {
        assert_eq!(serde_json::from_str::<Value>(payload).unwrap(), json!({ "user": user }), "ids only");
        assert_eq!(request_id.as_deref(), Some(reply.header("x-request-id")));
        assert_eq!(traceparent.as_deref(), Some(trace));
    }
}

/// Kind, queue, payload, request id and trace of every job.
async fn jobs(owner: &sqlx::PgPool) -> Vec<(String, String, String, Option<String>, Option<String>)> {
    let query = sqlx::query_as("select kind, queue, payload, request_id, traceparent from jobs order by kind");
    query.fetch_all(owner).await.unwrap()
}

#[tokio::test]
async fn an_address_registers_once_whatever_its_letters() {
    let app = TestApp::start().await;
    app.anonymous().post("/auth/register", register("ann@acme.example")).await.expect(201);
    app.anonymous().post("/auth/register", register("ANN@acme.example")).await.problem(409, "email_taken");
    let tenants: i64 = sqlx::query_scalar("select count(*) from tenants where name = 'Acme'")
        .fetch_one(&app.db.owner().await)
        .await
        .unwrap();
    assert_eq!(tenants, 1, "the refused registration left nothing behind");
}

#[tokio::test]
async fn of_registrations_with_one_address_at_once_one_wins() {
    let app = TestApp::start().await;
    let client = app.anonymous();
    let replies =
        futures::future::join_all((0..4).map(|_| client.post("/auth/register", register("a@b.example")))).await;
    let mut statuses: Vec<_> = replies.iter().map(|reply| reply.status).collect();
    statuses.sort_unstable();
    assert_eq!(statuses, [201, 409, 409, 409]);
}

#[tokio::test]
async fn registration_can_be_closed() {
    for registration in [Registration::Closed, Registration::Invite] {
        let app = TestApp::start_with(Options { registration, ..Options::default() }).await;
        app.anonymous().post("/auth/register", register("a@b.example")).await.problem(403, "registration_closed");
    }
}

#[tokio::test]
async fn wrong_mail_and_wrong_password_answer_alike() {
    let app = TestApp::start().await;
    let acme = app.tenant("acme").await;
    let login = |email: &str, password: &str| {
        let body = json!({ "email": email, "password": password });
        let client = app.anonymous();
        async move { client.post("/auth/login", body).await }
    };
    let upper = acme.email.to_uppercase();
    assert_eq!(login(&upper, PASSWORD).await.expect(200)["data"]["tenant"]["id"], acme.id.to_string());
    let mut answers = Vec::new();
    for (email, password) in [(acme.email.as_str(), "wrong password!"), ("nobody@acme.example", PASSWORD)] {
        let mut problem = login(email, password).await.problem(401, "login_refused");
        problem["request_id"].take();
        answers.push(problem);
    }
    assert_eq!(answers[0], answers[1]);
}

#[tokio::test]
async fn an_unknown_mail_costs_as_much_work_as_a_wrong_password() {
    let app = TestApp::start().await;
    let acme = app.tenant("acme").await;
    for email in [acme.email.as_str(), "nobody@acme.example"] {
        let before = millwork_api::auth::passwords::verifications();
        let body = json!({ "email": email, "password": "wrong password!" });
        app.anonymous().post("/auth/login", body).await.problem(401, "login_refused");
        let checked = millwork_api::auth::passwords::verifications() - before;
        assert!(checked >= 1, "{email} was refused without the work of a check, which tells that nobody has it");
    }
}

#[tokio::test]
async fn a_deactivated_person_is_out_everywhere() {
    let app = TestApp::start().await;
    let acme = app.tenant("acme").await;
    let key = acme.api_key(&["jobs:read"]).await;
    key.get("/auth/me").await.expect(200);
    sqlx::query("update users set deactivated_at = now()").execute(&app.db.owner().await).await.unwrap();
    app.advance(Duration::from_secs(5)).await;
    acme.owner.get("/auth/me").await.problem(401, "token_invalid");
    key.get("/auth/me").await.problem(401, "token_invalid");
    let body = json!({ "email": acme.email, "password": PASSWORD });
    app.anonymous().post("/auth/login", body).await.problem(401, "login_refused");
    let body = json!({ "refresh_token": acme.refresh_token });
    app.anonymous().post("/auth/refresh", body).await.problem(401, "refresh_token_invalid");
}

#[tokio::test]
async fn a_person_of_two_tenants_chooses_and_no_other_tenant_opens() {
    let app = TestApp::start().await;
    let (acme, other, third) = (app.tenant("acme").await, app.tenant("other").await, app.tenant("third").await);
    let mut tx = app.db.db.identity().await.unwrap();
    let join = millwork_shared::tenants::queries::insert_membership(&mut tx, other.id, acme.owner_id, Role::Viewer);
    join.await.unwrap();
    tx.commit().await.unwrap();
    let login = |tenant: Value| {
        let body = json!({ "email": acme.email, "password": PASSWORD, "tenant_id": tenant });
        let client = app.anonymous();
        async move { client.post("/auth/login", body).await }
    };
    assert_eq!(login(Value::Null).await.expect(200)["data"]["tenant"]["id"], acme.id.to_string());
    let session = login(json!(other.id)).await.expect(200);
    assert_eq!(session["data"]["tenant"]["id"], other.id.to_string());
    let viewer = app.bearer(session["data"]["access_token"].as_str().unwrap());
    assert_eq!(viewer.get("/auth/me").await.expect(200)["data"]["roles"], json!(["viewer"]));
    viewer.get("/api-keys").await.expect(200);
    let body = json!({ "name": "x", "permissions": ["jobs:read"] });
    let problem = viewer.post("/api-keys", body).await.problem(403, "permission_missing");
    assert_eq!(problem["permission"], "api_keys:write");
    login(json!(third.id)).await.problem(403, "not_a_member");
}

#[tokio::test]
async fn an_access_token_ends_after_a_quarter_of_an_hour_and_is_refreshed() {
    let app = TestApp::start().await;
    let acme = app.tenant("acme").await;
    acme.owner.get("/auth/me").await.expect(200);
    app.advance(Duration::from_secs(15 * 60 + 1)).await;
    acme.owner.get("/auth/me").await.problem(401, "token_expired");
    let body = json!({ "refresh_token": acme.refresh_token });
    let fresh = app.anonymous().post("/auth/refresh", body).await.expect(200);
    app.bearer(fresh["data"]["access_token"].as_str().unwrap()).get("/auth/me").await.expect(200);
}

#[tokio::test]
async fn a_refresh_token_that_rested_too_long_is_refused() {
    let app = TestApp::start().await;
    let acme = app.tenant("acme").await;
    app.advance(Duration::from_secs(30 * 24 * 3600 + 1)).await;
    let body = json!({ "refresh_token": acme.refresh_token });
    app.anonymous().post("/auth/refresh", body).await.problem(401, "refresh_token_invalid");
}

#[tokio::test]
async fn signing_out_ends_this_session_at_once_and_no_other() {
    let app = TestApp::start().await;
    let acme = app.tenant("acme").await;
    let body = json!({ "email": acme.email, "password": PASSWORD });
    let other = app.anonymous().post("/auth/login", body).await.expect(200);
    let other = app.bearer(other["data"]["access_token"].as_str().unwrap());
    for client in [&acme.owner, &other] {
        client.get("/auth/me").await.expect(200);
    }
    acme.owner.post_empty("/auth/logout").await.expect(204);
    acme.owner.get("/auth/me").await.problem(401, "token_invalid");
    acme.owner.post_empty("/auth/logout").await.problem(401, "token_invalid");
    let body = json!({ "refresh_token": acme.refresh_token });
    app.anonymous().post("/auth/refresh", body).await.problem(401, "refresh_token_invalid");
    other.get("/auth/me").await.expect(200);
    let key = other.post("/api-keys", json!({ "name": "x", "permissions": ["jobs:read"] })).await.expect(201);
    let key = app.bearer(key["data"]["secret"].as_str().unwrap());
    key.post_empty("/auth/logout").await.problem(409, "not_a_session");
}

#[tokio::test]
async fn a_role_that_was_taken_away_is_gone_within_seconds() {
    let app = TestApp::start().await;
    let acme = app.tenant("acme").await;
    let admin = acme.member(Role::Admin).await;
    let body = json!({ "name": "x", "permissions": ["jobs:read"] });
    admin.post("/api-keys", body.clone()).await.expect(201);
    let demote = "update memberships set role = 'viewer' where role = 'admin'";
    sqlx::query(demote).execute(&app.db.owner().await).await.unwrap();
    app.advance(Duration::from_secs(5)).await;
    admin.post("/api-keys", body).await.problem(403, "permission_missing");
}

#[tokio::test]
async fn an_address_is_proven_once_by_the_token_of_the_mail() {
    let app = TestApp::start().await;
    let acme = app.tenant("acme").await;
    let verify = |token: &str| {
        let (client, body) = (app.anonymous(), json!({ "token": token }));
        async move { client.post("/auth/verify-email", body).await }
    };
    let store = "insert into one_time_tokens (id, user_id, purpose, token_hash, expires_at)
                 values (gen_random_uuid(), $1, $2, $3, now() + interval '1 hour')";
    let pool = app.db.owner().await;
    for (purpose, token) in [("verify_email", "good"), ("verify_email", "late"), ("reset_password", "other")] {
        let hash = token_hash(token).to_vec();
        sqlx::query(store).bind(acme.owner_id).bind(purpose).bind(hash).execute(&pool).await.unwrap();
    }
    verify("unknown").await.problem(404, "not_found");
    verify("other").await.problem(404, "not_found");
    verify("good").await.expect(204);
    verify("good").await.problem(410, "token_spent");
    let me = acme.owner.get("/auth/me").await.expect(200);
    assert!(me["data"]["user"]["email_verified_at"].is_string(), "{me}");
    app.advance(Duration::from_secs(3601)).await;
    verify("late").await.problem(410, "token_spent");
}

#[tokio::test]
async fn anyone_can_check_an_access_token_by_the_published_keys() {
    let app = TestApp::start().await;
    let acme = app.tenant("acme").await;
    let token = acme.owner.token.clone().unwrap();
    let keys: jsonwebtoken::jwk::JwkSet =
        serde_json::from_value(app.anonymous().get("//.well-known/jwks.json").await.expect(200)).unwrap();
    let header = jsonwebtoken::decode_header(&token).unwrap();
    let key = keys.find(header.kid.as_deref().unwrap()).unwrap();
    let validation = jsonwebtoken::Validation::new(jsonwebtoken::Algorithm::EdDSA);
    let key = jsonwebtoken::DecodingKey::from_jwk(key).unwrap();
    let claims = jsonwebtoken::decode::<Value>(&token, &key, &validation).unwrap().claims;
    assert_eq!(claims["sub"], acme.owner_id.to_string());
    assert_eq!(claims["tid"], acme.id.to_string());
    assert_eq!(claims["role"], "owner");
    assert_eq!(claims["exp"].as_i64().unwrap() - claims["iat"].as_i64().unwrap(), 900);
    assert!(claims["jti"].is_string());
}

#[tokio::test]
async fn a_token_that_was_changed_is_refused() {
    let app = TestApp::start().await;
    let (acme, other) = (app.tenant("acme").await, app.tenant("other").await);
    let token = acme.owner.token.clone().unwrap();
    let [head, claims, signature] = token.split('.').collect::<Vec<_>>().try_into().unwrap();
    let mut changed: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(claims).unwrap()).unwrap();
    changed["tid"] = json!(other.id);
    let changed = URL_SAFE_NO_PAD.encode(changed.to_string());
    let unsigned = URL_SAFE_NO_PAD.encode(json!({ "alg": "none", "typ": "JWT" }).to_string());
    for forged in [
        format!("{head}.{changed}.{signature}"),
        format!("{unsigned}.{claims}."),
        format!("{unsigned}.{claims}.{signature}"),
        format!("{head}.{claims}"),
        format!("{head}.{claims}.{}", signature.to_uppercase()),
    ] {
        app.bearer(&forged).get("/auth/me").await.problem(401, "token_invalid");
    }
    acme.owner.get("/auth/me").await.expect(200);
}

#[tokio::test]
async fn processes_that_start_together_agree_on_one_signing_key() {
    let app = TestApp::start().await;
    let keys = futures::future::join_all((0..6).map(|_| async {
        let client = app.anonymous();
        client.get("//.well-known/jwks.json").await.expect(200)
    }));
    let keys = keys.await;
    assert!(keys.iter().all(|set| *set == keys[0]), "{keys:?}");
    let stored: i64 =
        sqlx::query_scalar("select count(*) from signing_keys").fetch_one(&app.db.owner().await).await.unwrap();
    assert_eq!(stored, 1);
}
