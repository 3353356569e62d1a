//! The second factor: codes by time, recovery codes, and what comes of wrong ones.

use std::time::Duration;

use millwork_api::auth::totp;
use millwork_shared::tenants::Role;
use serde_json::{Value, json};

use crate::support::{PASSWORD, Reply, Tenant, TestApp};

/// An authenticator app.
struct Device(Vec<u8>);

impl Device {
    fn of(secret: &str) -> Self {
        let value = |c: u8| u64::from(if c.is_ascii_uppercase() { c - b'A' } else { c - b'2' + 26 });
        let decode =
            |group: &[u8]| group.iter().fold(0_u64, |bits, c| bits << 5 | value(*c)).to_be_bytes()[3..].to_vec();
        Self(secret.as_bytes().chunks(8).flat_map(decode).collect())
    }

    fn code(&self, app: &TestApp) -> String {
        totp::code(&self.0, app.app.clock.now().timestamp())
    }
}

async fn login(app: &TestApp, tenant: &Tenant<'_>, otp: Option<&str>) -> Reply {
    let mut body = json!({ "email": tenant.email, "password": PASSWORD });
    if let Some(otp) = otp {
        body["otp"] = json!(otp);
    }
    app.anonymous().post("/auth/login", body).await
}

async fn enrol(tenant: &Tenant<'_>) -> Device {
    let reply = tenant.owner.post("/auth/mfa/totp/enrol", json!({ "current_password": PASSWORD })).await.expect(200);
    let (secret, uri) = (reply["data"]["secret"].as_str().unwrap(), reply["data"]["uri"].as_str().unwrap());
    assert!(uri.starts_with("otpauth://totp/Millwork:") && uri.contains(secret), "{uri}");
    Device::of(secret)
}

/// Enrols and confirms. Also answers the recovery codes.
async fn enable(app: &TestApp, tenant: &Tenant<'_>) -> (Device, Vec<String>) {
    let device = enrol(tenant).await;
    let body = json!({ "otp": device.code(app) });
    let codes = tenant.owner.post("/auth/mfa/totp/confirm", body).await.expect(200)["data"]["recovery_codes"].clone();
    app.advance(Duration::from_secs(60)).await;
    (device, serde_json::from_value(codes).unwrap())
}

#[tokio::test]
async fn a_confirmed_factor_is_asked_for_at_sign_in_and_each_code_is_good_once() {
    let app = TestApp::start().await;
    let acme = app.tenant("acme").await;
    let problem = acme.owner.post("/auth/mfa/totp/enrol", json!({ "current_password": "wrong password!" })).await;
    problem.problem(403, "password_wrong");
    acme.owner.post("/auth/mfa/totp/confirm", json!({ "otp": "123456" })).await.problem(409, "totp_not_enrolled");
    let device = enrol(&acme).await;
    login(&app, &acme, None).await.expect(200);
    let code = device.code(&app);
    acme.owner.post("/auth/mfa/totp/confirm", json!({ "otp": "x" })).await.problem(401, "otp_wrong");
    acme.owner.post("/auth/mfa/totp/confirm", json!({ "otp": code })).await.expect(200);
    let body = json!({ "current_password": PASSWORD });
    acme.owner.post("/auth/mfa/totp/enrol", body).await.problem(409, "totp_enabled");

    login(&app, &acme, None).await.problem(401, "otp_required");
    login(&app, &acme, Some(&code)).await.problem(401, "otp_wrong");
    app.advance(Duration::from_secs(30)).await;
    let code = device.code(&app);
    login(&app, &acme, Some(&code)).await.expect(200);
    login(&app, &acme, Some(&code)).await.problem(401, "otp_wrong");
    let wrong = json!({ "email": acme.email, "password": "wrong password!" });
    app.anonymous().post("/auth/login", wrong).await.problem(401, "login_refused");
    let told = "select payload::json->>'notice' from jobs where kind = 'auth.send_notice'";
    assert_eq!(app.db.sql(told).await, [Some("second_factor_on".to_owned())]);
    let stored = app.db.sql("select sealed_secret::text from totp_factors").await.remove(0).unwrap();
    let hex: String = device.0.iter().map(|byte| format!("{byte:02x}")).collect();
    assert!(!stored.contains(&hex), "the secret is stored in the clear");
}

#[tokio::test]
async fn a_code_that_is_used_twice_at_once_opens_one_session() {
    let app = TestApp::start().await;
    let acme = app.tenant("acme").await;
    let (device, _) = enable(&app, &acme).await;
    let code = device.code(&app);
    let replies = futures::future::join_all((0..4).map(|_| login(&app, &acme, Some(&code)))).await;
    assert_eq!(replies.iter().filter(|reply| reply.status == 200).count(), 1);
}

#[tokio::test]
async fn a_recovery_code_stands_in_once_and_can_be_replaced() {
    let app = TestApp::start().await;
    let acme = app.tenant("acme").await;
    let (device, codes) = enable(&app, &acme).await;
    assert_eq!(codes.len(), 10);
    login(&app, &acme, Some(&codes[0].to_lowercase().replace('-', " "))).await.expect(200);
    login(&app, &acme, Some(&codes[0])).await.problem(401, "otp_wrong");
    let left = acme.owner.get("/auth/mfa/totp").await.expect(200);
    assert_eq!(left["data"], json!({ "enabled": true, "recovery_codes_left": 9 }));
    let body = json!({ "current_password": PASSWORD, "otp": device.code(&app) });
    let fresh: Value = acme.owner.post("/auth/mfa/totp/recovery-codes", body).await.expect(200);
    login(&app, &acme, Some(&codes[1])).await.problem(401, "otp_wrong");
    login(&app, &acme, fresh["data"]["recovery_codes"][1].as_str()).await.expect(200);
}

#[tokio::test]
async fn after_wrong_codes_none_is_looked_at_for_a_while() {
    let app = TestApp::start().await;
    let acme = app.tenant("acme").await;
    let (device, _) = enable(&app, &acme).await;
    for _ in 0..5 {
        login(&app, &acme, Some("not a code")).await.problem(401, "otp_wrong");
    }
    let reply = login(&app, &acme, Some(&device.code(&app))).await;
    reply.problem(429, "otp_locked");
    assert!(reply.header("retry-after").parse::<u64>().unwrap() <= 60);
    app.advance(Duration::from_secs(60)).await;
    login(&app, &acme, Some("not a code")).await.problem(401, "otp_wrong");
    assert_eq!(login(&app, &acme, None).await.status, 401);
    app.advance(Duration::from_secs(60)).await;
    login(&app, &acme, Some(&device.code(&app))).await.problem(429, "otp_locked");
    app.advance(Duration::from_secs(60)).await;
    login(&app, &acme, Some(&device.code(&app))).await.expect(200);
}

#[tokio::test]
async fn disabling_a_factor_needs_password_and_code() {
    let app = TestApp::start().await;
    let acme = app.tenant("acme").await;
    let disable = |password: &str, otp: &str| {
        let (client, body) = (acme.owner.clone(), json!({ "current_password": password, "otp": otp }));
        async move { client.post("/auth/mfa/totp/disable", body).await }
    };
    disable(PASSWORD, "123456").await.problem(409, "totp_not_enabled");
    let (_, codes) = enable(&app, &acme).await;
    disable("wrong password!", &codes[0]).await.problem(403, "password_wrong");
    disable(PASSWORD, "not a code").await.problem(401, "otp_wrong");
    disable(PASSWORD, &codes[0]).await.expect(204);
    let none = acme.owner.get("/auth/mfa/totp").await.expect(200);
    assert_eq!(none["data"], json!({ "enabled": false, "recovery_codes_left": 0 }));
    login(&app, &acme, None).await.expect(200);
}

#[tokio::test]
async fn turning_it_on_and_off_is_written_down_in_each_of_the_persons_tenants() {
    let app = TestApp::start().await;
    let (acme, other) = (app.tenant("acme").await, app.tenant("other").await);
    let mut tx = app.db.db.identity().await.unwrap();
    let join = millwork_shared::tenants::queries::insert_membership(&mut tx, other.id, acme.owner_id, Role::Viewer);
    join.await.unwrap();
    tx.commit().await.unwrap();
    let entries = async |tenant: &Tenant<'_>| {
        let found = tenant.owner.get("/audit-logs?resource_type=user").await.expect(200)["data"].clone();
        let of = |entry: &Value| (entry["action"].clone(), entry["actor_id"].clone(), entry["resource_id"].clone());
        found.as_array().unwrap().iter().map(of).collect::<Vec<_>>()
    };
    enrol(&acme).await;
    assert_eq!(entries(&acme).await, [], "one that was not confirmed asks for nothing");
    let (device, _) = enable(&app, &acme).await;
    let body = json!({ "current_password": PASSWORD, "otp": device.code(&app) });
    acme.owner.post("/auth/mfa/totp/disable", body).await.expect(204);
    let entry = |action: &str| (json!(action), json!(acme.owner_id), json!(acme.owner_id));
    let expected = [entry("second_factor.disabled"), entry("second_factor.enabled")];
    assert_eq!(entries(&acme).await, expected);
    assert_eq!(entries(&other).await, expected);
    let text = app.db.sql("select string_agg(a::text, '') from audit_logs a where action like 'second_factor%'").await;
    assert!(!text[0].as_deref().unwrap().contains("sealed_secret"));
}
