//! Proving an address again, and passwords: forgotten, changed, refused.

use std::time::Duration;

use argon2::password_hash::PasswordHasher;
use argon2::{Algorithm, Argon2, Params, Version};
use millwork_shared::auth::queries::passwords;
use millwork_shared::infra::crypto::token_hash;
use serde_json::{Value, json};

use crate::support::{PASSWORD, Reply, TestApp};

const FRESH: &str = "quiet copper teapot";

async fn login(app: &TestApp, email: &str, password: &str) -> Reply {
    app.anonymous().post("/auth/login", json!({ "email": email, "password": password })).await
}

async fn reset(app: &TestApp, token: &str, password: &str) -> Reply {
    app.anonymous().post("/auth/reset-password", json!({ "token": token, "password": password })).await
}

/// Stores tokens as the mail's handler does.
pub async fn store_tokens(app: &TestApp, user: impl std::fmt::Display, purpose: &str, tokens: &[&str]) {
    for token in tokens {
        let hash: String = token_hash(token).iter().map(|byte| format!("{byte:02x}")).collect();
        app.db
            .sql(format!(
                "insert into one_time_tokens (id, user_id, purpose, token_hash, expires_at)
                 values (gen_random_uuid(), '{user}', '{purpose}', '\\x{hash}', ledger_now() + interval '1 hour')"
            ))
            .await;
    }
}

#[tokio::test]
async fn forgetting_a_password_is_answered_and_worked_on_alike_for_everyone() {
    let app = TestApp::start().await;
    let acme = app.tenant("acme").await;
    let mut answers = Vec::new();
    for email in [acme.email.to_uppercase().as_str(), "nobody@acme.example"] {
        let reply = app.anonymous().post("/auth/forgot-password", json!({ "email": email })).await;
        answers.push(reply.expect(202));
    }
    assert_eq!(answers[0], answers[1]);
    let jobs = "select concat(tenant_id, ' ', payload) from jobs where kind = 'auth.send_password_reset' order by id";
    let platform = millwork_shared::maintenance::PLATFORM;
    let known = Some(format!("{platform} {}", json!({ "user": acme.owner_id })));
    assert_eq!(app.db.sql(jobs).await, [known, Some(format!("{platform} {}", json!({ "user": null })))]);
    let seen = acme.owner.get("/jobs?kind=auth.send_password_reset").await.expect(200);
    assert_eq!(seen["data"], json!([]), "it is nobody's business in the tenant");
}

#[tokio::test]
async fn a_link_from_the_mail_sets_another_password_once_and_ends_all_sessions() {
    let app = TestApp::start().await;
    let acme = app.tenant("acme").await;
    let key = acme.api_key(&["jobs:read"]).await;
    store_tokens(&app, acme.owner_id, "reset_password", &["good", "second"]).await;
    store_tokens(&app, acme.owner_id, "verify_email", &["other"]).await;
    acme.owner.get("/auth/me").await.expect(200);

    for unknown in ["unknown", "other"] {
        reset(&app, unknown, FRESH).await.problem(404, "not_found");
    }
    let problem = reset(&app, "good", "Password1234!").await.problem(422, "body_invalid");
    assert_eq!(
        (&problem["errors"][0]["pointer"], &problem["errors"][0]["code"]),
        (&json!("/password"), &json!("password_weak"))
    );
    assert_eq!(reset(&app, "good", "short").await.problem(422, "body_invalid")["errors"][0]["pointer"], "/password");
    login(&app, &acme.email, PASSWORD).await.expect(200);

    reset(&app, "good", FRESH).await.expect(204);
    acme.owner.get("/auth/me").await.problem(401, "token_invalid");
    let body = json!({ "refresh_token": acme.refresh_token });
    app.anonymous().post("/auth/refresh", body).await.problem(401, "refresh_token_invalid");
    login(&app, &acme.email, PASSWORD).await.problem(401, "login_refused");
    let session = login(&app, &acme.email, FRESH).await.expect(200);
    assert!(session["data"]["user"]["email_verified_at"].is_string(), "whoever has the mail has the address");
    for token in ["good", "second"] {
        reset(&app, token, "yet another teapot").await.problem(410, "token_spent");
    }
    key.get("/auth/me").await.expect(200);
    let told = "select concat(payload::json->>'notice', ' ', payload::json->>'user')
                  from jobs where kind = 'auth.send_notice'";
    assert_eq!(app.db.sql(told).await, [Some(format!("password_changed {}", acme.owner_id))]);
}

#[tokio::test]
async fn a_link_that_came_too_late_or_to_one_who_left_sets_no_password() {
    let app = TestApp::start().await;
    let acme = app.tenant("acme").await;
    store_tokens(&app, acme.owner_id, "reset_password", &["late"]).await;
    app.advance(Duration::from_secs(3_600)).await;
    reset(&app, "late", FRESH).await.problem(410, "token_spent");
    store_tokens(&app, acme.owner_id, "reset_password", &["left"]).await;
    app.db.sql("update users set deactivated_at = now()").await;
    reset(&app, "left", FRESH).await.problem(404, "not_found");
}

#[tokio::test]
async fn no_session_opens_by_a_password_that_is_just_being_replaced() {
    let app = TestApp::start().await;
    let acme = app.tenant("acme").await;
    store_tokens(&app, acme.owner_id, "reset_password", &["good"]).await;
    let fresh = millwork_shared::infra::crypto::Secret::new(FRESH.to_owned());
    let fresh = millwork_api::auth::passwords::hash(fresh).await.unwrap();
    let mut tx = app.db.db.identity().await.unwrap();
    assert!(passwords::reset(&mut tx, token_hash("good"), &fresh).await.unwrap());
    let commit = async {
        app.until_blocked(1).await;
        tx.commit().await.unwrap();
    };
    let (reply, ()) = futures::join!(login(&app, &acme.email, PASSWORD), commit);
    reply.problem(401, "login_refused");
}

#[tokio::test]
async fn changing_a_password_needs_the_current_one_and_ends_the_other_sessions() {
    let app = TestApp::start().await;
    let acme = app.tenant("acme").await;
    let other = login(&app, &acme.email, PASSWORD).await.expect(200);
    let other = app.bearer(other["data"]["access_token"].as_str().unwrap());
    other.get("/auth/me").await.expect(200);
    store_tokens(&app, acme.owner_id, "reset_password", &["pending"]).await;
    let change = |current: &str, fresh: &str| {
        let (client, body) = (acme.owner.clone(), json!({ "current_password": current, "password": fresh }));
        async move { client.post("/auth/change-password", body).await }
    };
    change("wrong password!", FRESH).await.problem(403, "password_wrong");
    change(PASSWORD, "qwertyuiop1234").await.problem(422, "body_invalid");
    let own_address = format!("{}-2024", acme.email.split('@').next().unwrap());
    change(PASSWORD, &own_address).await.problem(422, "body_invalid");
    other.get("/auth/me").await.expect(200);

    change(PASSWORD, FRESH).await.expect(204);
    acme.owner.get("/auth/me").await.expect(200);
    other.get("/auth/me").await.problem(401, "token_invalid");
    login(&app, &acme.email, PASSWORD).await.problem(401, "login_refused");
    login(&app, &acme.email, FRESH).await.expect(200);
    reset(&app, "pending", "yet another teapot").await.problem(410, "token_spent");
    change(PASSWORD, FRESH).await.problem(403, "password_wrong");
}

#[tokio::test]
async fn a_password_that_is_guessed_first_does_not_register() {
    let app = TestApp::start().await;
    for weak in ["password12345", "Ann Archer 2024", "ann@b.example1", "abcdabcdabcd"] {
        let body = json!({ "tenant_name": "Acme", "name": "Ann Archer", "email": "ann@b.example", "password": weak });
        let problem = app.anonymous().post("/auth/register", body).await.problem(422, "body_invalid");
        assert_eq!(problem["errors"][0]["code"], "password_weak", "{weak}");
    }
}

#[tokio::test]
async fn a_hash_of_old_parameters_is_made_anew_at_sign_in() {
    let app = TestApp::start().await;
    let acme = app.tenant("acme").await;
    let stored = || async { app.db.sql("select password_hash from users").await.remove(0).unwrap() };
    let today = stored().await;
    login(&app, &acme.email, PASSWORD).await.expect(200);
    assert_eq!(stored().await, today, "one of today's parameters stays");
    let weak = Argon2::new(Algorithm::Argon2id, Version::V0x13, Params::new(8 * 1_024, 1, 1, None).unwrap());
    let weak = weak.hash_password(PASSWORD.as_bytes()).unwrap().to_string();
    app.db.sql(format!("update users set password_hash = '{weak}'")).await;
    login(&app, &acme.email, "wrong password!").await.problem(401, "login_refused");
    assert_eq!(stored().await, weak);
    login(&app, &acme.email, PASSWORD).await.expect(200);
    assert!(stored().await.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{}", stored().await);
    login(&app, &acme.email, PASSWORD).await.expect(200);
}

#[tokio::test]
async fn the_mail_that_proves_an_address_can_be_sent_again_until_it_is_proven() {
    let app = TestApp::start().await;
    let acme = app.quiet_tenant("acme").await;
    let reply = acme.owner.post_empty("/auth/verify-email/resend").await;
    assert!(reply.expect(202)["data"]["message"].is_string());
    let jobs = app.db.sql("select payload from jobs where kind = 'auth.send_verification'").await;
    assert_eq!(jobs, [Some(json!({ "user": acme.owner_id }).to_string())]);
    store_tokens(&app, acme.owner_id, "verify_email", &["good"]).await;
    app.anonymous().post("/auth/verify-email", json!({ "token": "good" })).await.expect(204);
    acme.owner.post_empty("/auth/verify-email/resend").await.problem(409, "already_verified");
    let me: Value = acme.owner.get("/auth/me").await.expect(200);
    assert!(me["data"]["user"]["email_verified_at"].is_string());
}
