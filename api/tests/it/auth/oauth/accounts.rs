//! Whose account is opened.

use std::time::Duration;

use millwork_api::config::Registration;
use reqwest::Method;
use serde_json::json;

use super::{Scene, Stage, account, issuer, registered};
use crate::auth::mfa::Device;
use crate::support::{PASSWORD, Reply};

#[tokio::test]
async fn somebody_new_gets_a_proven_account_and_a_tenant_of_their_own_and_the_same_ones_the_next_time() {
    for index in [0, 1] {
        let mut stage = Stage::with(Scene { issuer: index, ..Scene::default() }).await;
        let reply = stage.sign_in("ann@new.example").await;
        let session = reply.expect(200)["data"].clone();
        assert_eq!(reply.header("cache-control"), "no-store");
        assert_eq!(session["user"]["email"], "ann@new.example");
        assert_eq!(session["user"]["name"], "Ida Entity");
        assert!(session["user"]["email_verified_at"].is_string(), "{session}");
        assert_eq!(session["tenant"]["name"], "Ida Entity");
        let me = stage.app.bearer(session["access_token"].as_str().unwrap()).get("/auth/me").await.expect(200);
        assert_eq!(me["data"]["roles"], json!(["owner"]));
        let refreshed = json!({ "refresh_token": session["refresh_token"] });
        stage.app.anonymous().post("/auth/refresh", refreshed).await.expect(200);
        assert!(stage.browser.carries().is_empty(), "the flow stays with the browser");

        let again = stage.sign_in("ann@new.example").await.expect(200)["data"].clone();
        assert_eq!((&again["user"], &again["tenant"]), (&session["user"], &session["tenant"]));
        let kinds = "select kind from jobs order by kind";
        assert_eq!(
            stage.app.db.sql(kinds).await,
            [Some("auth.send_welcome".to_owned())],
            "proven: no mail to prove it"
        );
        let entries = "select action || ' ' || coalesce(actor_type, '') from audit_logs
                        where action in ('identity.linked', 'session.created') order by id";
        let told: Vec<_> = stage.app.db.sql(entries).await.into_iter().flatten().collect();
        assert_eq!(told, ["identity.linked user", "session.created user", "session.created user"]);
    }
}

#[tokio::test]
async fn a_person_without_a_password_chooses_one_by_mail_and_signs_in_by_none_before() {
    let mut stage = Stage::new().await;
    stage.sign_in("ann@new.example").await.expect(200);
    for guess in ["", "!", "correct horse battery"] {
        let login = json!({ "email": "ann@new.example", "password": guess });
        stage.app.anonymous().post("/auth/login", login).await.problem(401, "login_refused");
    }
}

#[tokio::test]
async fn an_account_whose_address_is_proven_is_linked_and_its_owner_is_told() {
    let mut stage = Stage::new().await;
    let ann = account(&stage.app, "Ann@Acme.Example", true).await;
    let session = stage.sign_in("ann@acme.example").await.expect(200)["data"].clone();
    assert_eq!((&session["user"]["id"], &session["tenant"]), (&ann["user"]["id"], &ann["tenant"]));
    let told = "select payload::json->>'notice' from jobs where kind = 'auth.send_notice'";
    assert_eq!(stage.app.db.sql(told).await, [Some("identity_linked".to_owned())]);
    stage.sign_in("ann@acme.example").await.expect(200);
    assert_eq!(stage.app.db.sql(told).await.len(), 1, "once");
    // The link outlives the address.
    stage.app.db.sql("update users set email = 'other@acme.example'").await;
    let later = stage.sign_in("ann@acme.example").await.expect(200)["data"].clone();
    assert_eq!(later["user"]["id"], ann["user"]["id"]);
}

#[tokio::test]
async fn a_person_sees_by_whom_they_sign_in_and_ends_it() {
    let mut stage = Stage::new().await;
    account(&stage.app, "ann@acme.example", true).await;
    let session = stage.sign_in("ann@acme.example").await.expect(200)["data"].clone();
    let owner = stage.app.bearer(session["access_token"].as_str().unwrap());
    let listed = owner.get("/auth/identities").await.expect(200)["data"].clone();
    assert_eq!(listed.as_array().unwrap().len(), 1, "{listed}");
    let identity = &listed[0];
    assert_eq!((&identity["provider"], &identity["email"]), (&json!("acme"), &json!("ann@acme.example")));
    assert_eq!(identity["issuer"], issuer(0));
    assert!(identity.get("subject").is_none());

    // A code of the identity that waits for its second factor is worth nothing either.
    let code = "insert into oauth_codes (code_hash, user_id, issuer, subject, provider, email, expires_at)
                select '', user_id, issuer, subject, provider, email, ledger_now() + interval '5 min' from identities";
    stage.app.db.sql(code).await;
    let path = format!("/auth/identities/{}", identity["id"].as_str().unwrap());
    owner.delete(&path).await.expect(204);
    owner.delete(&path).await.problem(404, "not_found");
    assert_eq!(owner.get("/auth/identities").await.expect(200)["data"], json!([]));
    assert_eq!(stage.app.db.sql("select count(*)::text from oauth_codes").await, [Some("0".to_owned())]);
    let told = "select payload::json->>'notice' from jobs where kind = 'auth.send_notice' order by id";
    let told: Vec<_> = stage.app.db.sql(told).await.into_iter().flatten().collect();
    assert_eq!(told, ["identity_linked", "identity_unlinked"]);
    let entry = "select before::json->>'email' from audit_logs where action = 'identity.unlinked'";
    assert_eq!(stage.app.db.sql(entry).await, [Some("ann@acme.example".to_owned())]);

    owner.get("/auth/me").await.expect(200); // sessions go on
    stage.app.db.sql("update users set email = 'other@acme.example', verified_at = null").await;
    stage.sign_in("ann@acme.example").await.expect(200);
    let people = "select count(*)::text from users";
    assert_eq!(stage.app.db.sql(people).await, [Some("2".to_owned())], "no longer a way into the account");
}

#[tokio::test]
async fn an_account_whose_address_nobody_proved_is_not_linked() {
    let mut stage = Stage::new().await;
    account(&stage.app, "ann@acme.example", false).await; // by somebody who waits for Ann
    stage.sign_in("ann@acme.example").await.problem(409, "account_unverified");
    assert_eq!(stage.app.db.sql("select count(*)::text from identities").await, [Some("0".to_owned())]);
    assert_eq!(stage.refusals().await, ["account_unverified"]);
}

#[tokio::test]
async fn an_address_that_the_provider_has_no_proof_of_opens_nothing() {
    for index in [0, 1] {
        let mut stage = Stage::with(Scene { issuer: index, ..Scene::default() }).await;
        account(&stage.app, "unproven@acme.example", true).await;
        stage.sign_in("unproven@acme.example").await.problem(403, "email_unverified");
        stage.sign_in("unproven@new.example").await.problem(403, "email_unverified");
        stage.sign_in("no address").await.problem(403, "email_unverified");
        assert_eq!(stage.app.db.sql("select count(*)::text from users").await, [Some("1".to_owned())]);
    }
}

#[tokio::test]
async fn where_registration_is_not_open_nobody_new_comes_in() {
    for registration in [Registration::Closed, Registration::Invite] {
        let mut stage = Stage::with(Scene { registration, ..Scene::default() }).await;
        stage.sign_in("ann@new.example").await.problem(403, "registration_closed");
        assert_eq!(stage.app.db.sql("select count(*)::text from users").await, [Some("0".to_owned())]);
    }
}

#[tokio::test]
async fn who_is_deactivated_does_not_come_in() {
    let mut stage = Stage::new().await;
    stage.sign_in("ann@new.example").await.expect(200);
    account(&stage.app, "bob@acme.example", true).await;
    stage.app.db.sql("update users set deactivated_at = ledger_now()").await;
    stage.sign_in("ann@new.example").await.problem(403, "account_deactivated");
    stage.browser = stage.browser.another();
    stage.sign_in("bob@acme.example").await.problem(403, "account_deactivated");
}

#[tokio::test]
async fn an_account_is_of_one_person_at_a_provider() {
    let mut stage = Stage::new().await;
    account(&stage.app, "ann@acme.example", true).await;
    stage.sign_in("ann@acme.example").await.expect(200);
    // The provider gave Ann's address to somebody else: another subject.
    stage.app.db.sql("update identities set subject = 'ann-who-left'").await;
    stage.sign_in("ann@acme.example").await.problem(409, "identity_conflict");
}

#[tokio::test]
async fn people_are_known_by_their_issuer_and_not_by_what_we_call_it() {
    let (one, other) = (registered("acme", super::PUBLIC_URL, 0, json!({})).await, issuer(1));
    let mut stage = Stage::knowing(vec![one], Registration::Open, super::PUBLIC_URL).await;
    stage.sign_in("ann@new.example").await.expect(200);
    // The operator names another issuer where the first one was: the same subject there is somebody else.
    stage.app.db.sql(format!("update identities set issuer = '{other}'")).await;
    stage.app.db.sql("update users set verified_at = null").await;
    stage.sign_in("ann@new.example").await.problem(409, "account_unverified");
}

#[tokio::test]
async fn the_second_factor_is_asked_for_and_a_wrong_code_does_not_use_up_the_first() {
    let mut stage = Stage::new().await;
    let ann = account(&stage.app, "ann@acme.example", true).await;
    let owner = stage.app.bearer(ann["access_token"].as_str().unwrap());
    let secret = owner.post("/auth/mfa/totp/enrol", json!({ "current_password": PASSWORD })).await.expect(200);
    let device = Device::of(secret["data"]["secret"].as_str().unwrap());
    let confirm = json!({ "otp": device.code(&stage.app) });
    owner.post("/auth/mfa/totp/confirm", confirm).await.expect(200);
    stage.app.advance(Duration::from_secs(60)).await;

    let problem = stage.sign_in("ann@acme.example").await.problem(401, "otp_required");
    let code = problem["exchange_code"].clone();
    let linked = "select count(*)::text from identities";
    assert_eq!(stage.app.db.sql(linked).await, [Some("0".to_owned())], "the provider's word alone links nothing");
    let anonymous = stage.app.anonymous();
    let exchange = |otp: Option<String>| anonymous.post("/auth/oauth/exchange", json!({ "code": code, "otp": otp }));
    exchange(None).await.problem(401, "otp_required");
    exchange(Some("000000".to_owned())).await.problem(401, "otp_wrong");
    let session = exchange(Some(device.code(&stage.app))).await.expect(200)["data"].clone();
    assert_eq!(session["user"]["id"], ann["user"]["id"]);
    assert_eq!(stage.app.db.sql(linked).await, [Some("1".to_owned())]);
    stage.app.advance(Duration::from_secs(60)).await;
    exchange(Some(device.code(&stage.app))).await.problem(401, "code_invalid");
}

#[tokio::test]
async fn the_tenant_to_enter_may_be_chosen() {
    let mut stage = Stage::new().await;
    let ann = account(&stage.app, "ann@acme.example", true).await;
    let other = stage.app.tenant("other").await;
    let add = format!(
        "insert into memberships (tenant_id, user_id, role) values ('{}', '{}', 'viewer')",
        other.id,
        ann["user"]["id"].as_str().unwrap()
    );
    stage.app.db.sql(add).await;
    for (wished, found) in [(other.id.to_string(), 200), (uuid::Uuid::new_v4().to_string(), 403)] {
        let address = stage.begin_with(&format!("?tenant_id={wished}")).await;
        let back = stage.browser.agree(&address, "ann@acme.example").await;
        let reply = stage.browser.get(&back).await;
        let answer = reply.expect(found);
        match found {
            200 => assert_eq!(answer["data"]["tenant"]["id"], wished),
            _ => assert_eq!(answer["code"], "not_a_member"),
        }
    }
}

#[tokio::test]
async fn keys_of_the_provider_take_turns_unnoticed() {
    for algorithm in ["RS256", "PS256", "ES256", "EdDSA"] {
        let client = json!({ "id_token_signed_response_alg": algorithm });
        let mut stage = Stage::with(Scene { client, ..Scene::default() }).await;
        stage.sign_in("ann@new.example").await.expect(200);
        let provider = crate::support::Client::new(&issuer(0), None);
        assert_eq!(Reply::of(provider.request(Method::POST, "//rotate")).await.status, 204);
        stage.browser = stage.browser.another();
        stage.sign_in("ann@new.example").await.expect(200);
    }
}
