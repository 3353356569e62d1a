//! Becoming staff, signing in and out.

use std::time::Duration;

use millwork_api::admin::command::AdminCommand;
use serde_json::json;

use super::{EMAIL, PASSWORD, admin, begin, create, entries, staff, token};
use crate::support::TestApp;

fn reset(email: &str) -> AdminCommand {
    AdminCommand::ResetStaff { email: email.to_owned() }
}

#[tokio::test]
async fn the_command_line_lets_somebody_in_once_and_no_request_does() {
    let app = TestApp::start().await;
    let said = admin(&app, create(EMAIL)).await.unwrap();
    let invite = token(&said);
    let (client, device) = begin(&app, &invite).await;
    let me = client.get("/admin/me").await.expect(200)["data"].clone();
    assert_eq!((&me["email"], &me["name"]), (&json!(EMAIL), &json!("Olga Operator")));
    let again = json!({ "token": invite, "password": PASSWORD, "otp": device.code(&app) });
    app.anonymous().post("/admin/auth/enrol", json!({ "token": invite })).await.problem(401, "token_invalid");
    app.anonymous().post("/admin/auth/activate", again).await.problem(401, "token_invalid");
    let fault = admin(&app, create("OLGA@millwork.example")).await.unwrap_err().to_string();
    assert!(fault.contains("reset-staff"), "{fault}");
    for bad in ["", "olga", "olga@x y", "a@b\nc"] {
        assert!(admin(&app, create(bad)).await.is_err(), "{bad}");
    }
    let stored = "select invite_hash is null and password_hash like '$argon2id$%' from staff";
    assert_eq!(app.db.sql(format!("select ({stored})::text")).await, [Some("true".to_owned())]);
    let own = "tenant_id = '00000000-0000-7000-8000-000000000000' and resource_type = 'staff'";
    let told = entries(&app, own).await;
    assert_eq!(
        told,
        ["staff.created system", "staff.updated staff", "staff.updated staff", "staff_session.created staff"]
    );
    let masked = format!("select count(*)::text from audit_logs where {own} and after::text ~ 'argon2|mwi_'");
    assert_eq!(app.db.sql(masked).await, [Some("0".to_owned())]);
}

#[tokio::test]
async fn an_invitation_is_good_for_a_day_and_asks_for_a_password_and_a_code() {
    let app = TestApp::start().await;
    let invite = token(&admin(&app, create(EMAIL)).await.unwrap());
    let activate = |password: &str, otp: &str| {
        let body = json!({ "token": invite, "password": password, "otp": otp });
        let anonymous = app.anonymous();
        async move { anonymous.post("/admin/auth/activate", body).await }
    };
    activate(PASSWORD, "123456").await.problem(409, "totp_not_enrolled");
    activate("password1234", "123456").await.problem(422, "body_invalid");
    app.anonymous().post("/admin/auth/enrol", json!({ "token": invite })).await.expect(200);
    activate(PASSWORD, "000000").await.problem(401, "otp_wrong");
    app.advance(Duration::from_secs(24 * 3_600)).await;
    activate(PASSWORD, "000000").await.problem(401, "token_invalid");
    app.anonymous().post("/admin/auth/enrol", json!({ "token": "mwi_x" })).await.problem(401, "token_invalid");
}

#[tokio::test]
async fn staff_sign_in_with_both_factors_and_each_code_is_good_once() {
    let app = TestApp::start().await;
    let (_, device) = begin(&app, &token(&admin(&app, create(EMAIL)).await.unwrap())).await;
    let login = |email: &str, password: &str, otp: String| {
        let body = json!({ "email": email, "password": password, "otp": otp });
        let anonymous = app.anonymous();
        async move { anonymous.post("/admin/auth/login", body).await }
    };
    let code = device.code(&app);
    login(EMAIL, "another password!", code.clone()).await.problem(401, "login_refused");
    login("nobody@millwork.example", PASSWORD, code.clone()).await.problem(401, "login_refused");
    login(EMAIL, PASSWORD, "000000".to_owned()).await.problem(401, "otp_wrong");
    let session = login("Olga@Millwork.example", PASSWORD, code.clone()).await.expect(200)["data"].clone();
    login(EMAIL, PASSWORD, code).await.problem(401, "otp_wrong");
    let client = app.bearer(session["token"].as_str().unwrap());
    client.get("/admin/me").await.expect(200);
    client.post_empty("/admin/auth/logout").await.expect(204);
    client.get("/admin/me").await.problem(401, "token_invalid");
    assert_eq!(entries(&app, "action = 'staff_session.refused'").await.len(), 4);
    assert_eq!(entries(&app, "action = 'staff_session.revoked'").await, ["staff_session.revoked staff"]);
}

#[tokio::test]
async fn who_guesses_a_password_of_the_staff_waits() {
    let app = TestApp::start().await;
    staff(&app, EMAIL).await;
    let body = json!({ "email": EMAIL, "password": "another password!", "otp": "000000" });
    for _ in 0..5 {
        app.anonymous().post("/admin/auth/login", body.clone()).await.problem(401, "login_refused");
    }
    app.anonymous().post("/admin/auth/login", body).await.problem(429, "rate_limited");
}

#[tokio::test]
async fn a_session_ends_by_rest_by_age_and_with_whoever_has_it() {
    let app = TestApp::start().await;
    let client = staff(&app, EMAIL).await;
    for _ in 0..13 {
        app.advance(Duration::from_secs(50 * 60)).await;
        client.get("/admin/me").await.expect(200);
    }
    app.advance(Duration::from_secs(62 * 60)).await;
    client.get("/admin/me").await.problem(401, "token_invalid");

    let invite = token(&admin(&app, reset(EMAIL)).await.unwrap());
    let (client, _) = begin(&app, &invite).await;
    for _ in 0..14 {
        app.advance(Duration::from_secs(50 * 60)).await;
        client.get("/admin/me").await.expect(200);
    }
    app.advance(Duration::from_secs(50 * 60)).await;
    client.get("/admin/me").await.problem(401, "token_invalid");

    let (client, device) = begin(&app, &token(&admin(&app, reset(EMAIL)).await.unwrap())).await;
    client.get("/admin/me").await.expect(200);
    admin(&app, reset(EMAIL)).await.unwrap();
    client.get("/admin/me").await.problem(401, "token_invalid");
    let body = json!({ "email": EMAIL, "password": PASSWORD, "otp": device.code(&app) });
    app.anonymous().post("/admin/auth/login", body).await.problem(401, "login_refused");

    let (client, _) = begin(&app, &token(&admin(&app, reset(EMAIL)).await.unwrap())).await;
    admin(&app, AdminCommand::RemoveStaff { email: EMAIL.to_owned() }).await.unwrap();
    client.get("/admin/me").await.problem(401, "token_invalid");
    assert!(admin(&app, reset(EMAIL)).await.is_err());
}

#[tokio::test]
async fn tokens_of_staff_and_of_tenants_do_not_open_each_others_doors() {
    let app = TestApp::start().await;
    let client = staff(&app, EMAIL).await;
    let acme = app.tenant("acme").await;
    let key = acme.api_key(&["jobs:read"]).await;
    for (tenants, path) in [(&acme.owner, "/admin/me"), (&key, "/admin/tenants"), (&acme.owner, "/admin/activity")] {
        tenants.get(path).await.problem(401, "token_invalid");
    }
    for path in ["/auth/me", "/jobs", "/audit-logs", "/tenants"] {
        client.get(path).await.problem(401, "token_invalid");
    }
    app.anonymous().get("/admin/me").await.problem(401, "unauthenticated");
}
