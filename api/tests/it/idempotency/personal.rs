//! Keys of people and of staff, whose requests are no tenant's.

use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};

use crate::admin;
use crate::auth::mfa::Device;
use crate::auth::recovery::store_tokens;
use crate::support::{Client, Options, PASSWORD, Reply, TestApp, operations};

const FRESH: &str = "quiet copper teapot";

/// POSTs that open or end a session: of those no answer is kept.
const NOT_KEPT: [&str; 11] = [
    "admin.activate",
    "admin.login",
    "admin.logout",
    "auth.login",
    "auth.logout",
    "auth.logout_all",
    "auth.oauth_exchange",
    "auth.refresh",
    "auth.register",
    "auth.switch",
    "invitations.accept",
];

async fn post_empty_once(client: &Client, path: &str, key: &str) -> Reply {
    Reply::of(client.request(Method::POST, path).header("idempotency-key", key)).await
}

/// The second answer is the first one again.
fn replayed(first: &Reply, second: &Reply) {
    assert_eq!(second.header("idempotent-replayed"), "true", "{}", second.text());
    assert_eq!((second.status, &second.body), (first.status, &first.body));
    assert_eq!(first.header("idempotent-replayed"), "");
}

async fn count(app: &TestApp, sql: &str) -> i64 {
    app.db.sql(format!("select ({sql})::text")).await.remove(0).unwrap().parse().unwrap()
}

#[tokio::test]
async fn every_post_takes_a_key_and_says_whether_it_is_kept() {
    let app = TestApp::start().await;
    let document = app.anonymous().get("/openapi.json").await.expect(200);
    let mut not_kept = Vec::new();
    for (_, path, operation) in operations(&document).iter().filter(|(method, ..)| method == "POST") {
        let parameters = operation["parameters"].as_array().cloned().unwrap_or_default();
        let key = parameters.iter().find(|parameter| parameter["name"] == "Idempotency-Key");
        let key = key.unwrap_or_else(|| panic!("POST {path} takes no key"));
        if key["description"].as_str().unwrap().contains("not kept") {
            not_kept.push(operation["operationId"].as_str().unwrap());
        }
    }
    not_kept.sort_unstable();
    assert_eq!(not_kept, NOT_KEPT);
}

#[tokio::test]
async fn a_link_is_used_once_and_its_answer_comes_again() {
    let app = TestApp::start().await;
    let acme = app.tenant("acme").await;
    store_tokens(&app, acme.owner_id, "verify_email", &["verify"]).await;
    store_tokens(&app, acme.owner_id, "reset_password", &["reset", "other"]).await;
    let anonymous = app.anonymous();
    let reset = |token: &str| json!({ "token": token, "password": FRESH });
    for (path, body) in [("/auth/verify-email", json!({ "token": "verify" })), ("/auth/reset-password", reset("reset"))]
    {
        let first = anonymous.post_once(path, "k1", body.clone()).await;
        first.expect(204);
        replayed(&first, &anonymous.post_once(path, "k1", body.clone()).await);
        anonymous.post_once(path, "k2", body).await.problem(410, "token_spent");
    }
    let other = json!({ "token": "reset", "password": "another copper teapot" });
    anonymous.post_once("/auth/reset-password", "k1", other).await.problem(422, "idempotency_key_reused");
    // Another link is another asker, whose keys are its own.
    anonymous.post_once("/auth/reset-password", "k1", reset("unknown")).await.problem(404, "not_found");
    let told = "select count(*) from jobs where kind = 'auth.send_notice'";
    assert_eq!(count(&app, told).await, 1);
}

#[tokio::test]
async fn a_mail_is_asked_for_once() {
    let app = TestApp::start().await;
    let (acme, other) = (app.tenant("acme").await, app.tenant("other").await);
    let anonymous = app.anonymous();
    for email in [acme.email.as_str(), "nobody@acme.example"] {
        let first = anonymous.post_once("/auth/forgot-password", "k1", json!({ "email": email })).await;
        first.expect(202);
        replayed(&first, &anonymous.post_once("/auth/forgot-password", "k1", json!({ "email": email })).await);
    }
    let of = |kind: &str| format!("select count(*) from jobs where kind = '{kind}'");
    assert_eq!(count(&app, &of("auth.send_password_reset")).await, 2, "one of each address");

    let before = count(&app, &of("auth.send_verification")).await;
    let member = acme.member(millwork_shared::tenants::Role::Viewer).await;
    app.db.sql("update users set verified_at = null").await;
    for client in [&acme.owner, &other.owner, &member] {
        let first = post_empty_once(client, "/auth/verify-email/resend", "k1").await;
        first.expect(202);
        replayed(&first, &post_empty_once(client, "/auth/verify-email/resend", "k1").await);
    }
    assert_eq!(count(&app, &of("auth.send_verification")).await, before + 3, "a key is one person's");
}

#[tokio::test]
async fn a_password_is_changed_once_and_nothing_of_it_is_stored() {
    let app = TestApp::start().await;
    let acme = app.tenant("acme").await;
    let body = json!({ "current_password": PASSWORD, "password": FRESH });
    let first = acme.owner.post_once("/auth/change-password", "k1", body.clone()).await;
    first.expect(204);
    replayed(&first, &acme.owner.post_once("/auth/change-password", "k1", body.clone()).await);
    acme.owner.post_once("/auth/change-password", "k2", body.clone()).await.problem(403, "password_wrong");
    let other = json!({ "current_password": FRESH, "password": "another copper teapot" });
    acme.owner.post_once("/auth/change-password", "k1", other).await.problem(422, "idempotency_key_reused");

    let stored = app.db.sql("select a::text || encode(sealed_answer, 'escape') from personal_answers a").await;
    assert_eq!(stored.len(), 1);
    let digest = millwork_shared::infra::crypto::token_hash(&body.to_string());
    let digest: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    let stored = stored[0].clone().unwrap();
    for secret in [PASSWORD, FRESH, &digest, "body_hash", &acme.owner_id.to_string()] {
        assert!(!stored.contains(secret), "{secret} in {stored}");
    }
}

#[tokio::test]
async fn recovery_codes_whose_answer_was_lost_are_shown_again_to_their_owner_alone() {
    let app = TestApp::start().await;
    let (acme, other) = (app.tenant("acme").await, app.tenant("other").await);
    let enrol = || acme.owner.post_once("/auth/mfa/totp/enrol", "k1", json!({ "current_password": PASSWORD }));
    let first = enrol().await;
    let device = Device::of(first.expect(200)["data"]["secret"].as_str().unwrap());
    replayed(&first, &enrol().await);
    // The same key and body of somebody else.
    let others = other.owner.post_once("/auth/mfa/totp/enrol", "k1", json!({ "current_password": PASSWORD })).await;
    assert_ne!(others.expect(200), first.expect(200));

    let otp = json!({ "otp": device.code(&app) });
    let codes = acme.owner.post_once("/auth/mfa/totp/confirm", "k1", otp.clone()).await;
    codes.expect(200);
    replayed(&codes, &acme.owner.post_once("/auth/mfa/totp/confirm", "k1", otp).await);

    for (path, status) in [("/auth/mfa/totp/recovery-codes", 200), ("/auth/mfa/totp/disable", 204)] {
        app.advance(Duration::from_secs(60)).await;
        let owner = &acme.owner;
        let body = |otp: String| json!({ "current_password": PASSWORD, "otp": otp });
        owner.post_once(path, "k1", body("000000".to_owned())).await.problem(401, "otp_wrong");
        let right = body(device.code(&app));
        let first = owner.post_once(path, "k1", right.clone()).await;
        first.expect(status);
        replayed(&first, &owner.post_once(path, "k1", right).await);
    }
}

#[tokio::test]
async fn staff_do_a_thing_once() {
    let app = TestApp::start().await;
    let acme = app.tenant("acme").await;
    let heir = acme.member(millwork_shared::tenants::Role::Admin).await.user().await;
    acme.api_key(&["jobs:read"]).await;
    let said = admin::admin(&app, admin::create("olga@millwork.example")).await.unwrap();
    let enrol = json!({ "token": admin::token(&said) });
    let first = app.anonymous().post_once("/admin/auth/enrol", "k1", enrol.clone()).await;
    first.expect(200);
    replayed(&first, &app.anonymous().post_once("/admin/auth/enrol", "k1", enrol.clone()).await);
    let (olga, _) = admin::begin(&app, &admin::token(&said)).await;
    app.anonymous().post_once("/admin/auth/enrol", "k1", enrol).await.problem(401, "token_invalid");
    let ivan = admin::staff(&app, "ivan@millwork.example").await;

    let owner = acme.owner_id;
    let hand_over = json!({ "tenant_id": acme.id, "to": heir });
    let path = format!("/admin/users/{owner}/reassign");
    let handed = olga.post_once(&path, "k1", hand_over.clone()).await;
    assert_eq!(handed.expect(200)["data"]["api_keys"], 1);
    replayed(&handed, &olga.post_once(&path, "k1", hand_over.clone()).await);
    let others = ivan.post_once(&path, "k1", hand_over).await;
    assert_eq!(others.expect(200)["data"]["api_keys"], 0, "a key is of one of the staff");

    let once = async |path: String, body: Option<Value>| {
        let post = async |client: &Client| match &body {
            Some(body) => client.post_once(&path, "k1", body.clone()).await,
            None => post_empty_once(client, &path, "k1").await,
        };
        let first = post(&olga).await;
        first.expect(200);
        replayed(&first, &post(&olga).await);
        assert_eq!(post(&ivan).await.status, 409, "{path}: done before, by somebody else");
    };
    once(format!("/admin/tenants/{}/suspend", acme.id), Some(json!({ "reason": "unpaid" }))).await;
    once(format!("/admin/tenants/{}/resume", acme.id), None).await;
    once(format!("/admin/users/{owner}/deactivate"), None).await;
    once(format!("/admin/users/{owner}/reactivate"), None).await;
    let told =
        format!("tenant_id = '{}' and actor_type = 'staff' and action in ('tenant.updated', 'user.updated')", acme.id);
    let told = admin::entries(&app, &told).await;
    assert_eq!(told, ["tenant.updated staff", "tenant.updated staff", "user.updated staff", "user.updated staff"]);
}

#[tokio::test]
async fn what_opens_a_session_is_not_kept() {
    let app = TestApp::start_with(Options::default()).await;
    let body = json!({ "tenant_name": "Acme", "name": "Ada", "email": "ada@acme.example", "password": PASSWORD });
    let anonymous = app.anonymous();
    anonymous.post_once("/auth/register", "k1", body.clone()).await.expect(201);
    assert_eq!(anonymous.post_once("/auth/register", "k1", body.clone()).await.status, 409);
    let login = json!({ "email": "ada@acme.example", "password": PASSWORD });
    let first = anonymous.post_once("/auth/login", "k1", login.clone()).await.expect(200);
    let second = anonymous.post_once("/auth/login", "k1", login.clone()).await.expect(200);
    assert_ne!(first["data"]["refresh_token"], second["data"]["refresh_token"]);
    assert_eq!(count(&app, "select count(*) from personal_answers").await, 0);
    assert_eq!(count(&app, "select count(*) from idempotency_keys").await, 0);
    anonymous.post_once("/auth/login", &"x".repeat(256), login).await.problem(400, "idempotency_key_invalid");
}

#[tokio::test]
async fn a_key_of_a_person_is_free_while_nothing_was_done_and_a_day_later() {
    let app = TestApp::start().await;
    let acme = app.tenant("acme").await;
    let anonymous = app.anonymous();
    let ask = |email: &str| anonymous.post_once("/auth/forgot-password", "k1", json!({ "email": email }));
    let wrong = json!({ "current_password": "wrong password!", "password": FRESH });
    acme.owner.post_once("/auth/change-password", "k1", wrong).await.problem(403, "password_wrong");
    let right = json!({ "current_password": PASSWORD, "password": FRESH });
    acme.owner.post_once("/auth/change-password", "k1", right).await.expect(204);

    let first = ask(&acme.email).await;
    replayed(&first, &ask(&acme.email).await);
    app.advance(Duration::from_secs(24 * 3600 + 1)).await;
    assert_eq!(ask(&acme.email).await.header("idempotent-replayed"), "");
    assert_eq!(ask(&acme.email).await.header("idempotent-replayed"), "true");
}

#[tokio::test]
async fn the_door_of_staff_sees_no_answers_to_people_and_theirs_none_to_staff() {
    let app = TestApp::start().await;
    let rows = "insert into personal_answers (scope, sealed_answer) values ('person/x', ''), ('bearer/x', ''), ('staff/x', '')";
    app.db.sql(rows).await;
    for (door, seen) in [("millwork_staff", "staff/x"), ("millwork_identity", "bearer/x person/x")] {
        let seeing = format!(
            "set local role {door}; select string_agg(scope, ' ' order by scope) from personal_answers; reset role"
        );
        assert_eq!(app.db.sql(seeing).await, [Some(seen.to_owned())], "{door}");
    }
}
