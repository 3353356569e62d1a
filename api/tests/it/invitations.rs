//! Asking people to join a tenant.

use std::time::Duration;

use millwork_api::config::Registration;
use millwork_shared::infra::crypto::token_hash;
use millwork_shared::tenants::Role;
use serde_json::{Value, json};

use crate::support::{Client, Options, PASSWORD, Reply, Tenant, TestApp};

const DAY: Duration = Duration::from_secs(86_400);

/// Invites `email`, and puts `token` into the mail.
async fn invite(tenant: &Tenant<'_>, by: &Client, email: &str, roles: Value, token: &str) -> String {
    let made = by.post("/invitations", json!({ "email": email, "roles": roles })).await.expect(201);
    let id = made["data"]["id"].as_str().unwrap().to_owned();
    let sql = "insert into invitation_tokens (tenant_id, invitation_id, token_hash) values ($1, $2::uuid, $3)";
    let stored = sqlx::query(sql).bind(tenant.id).bind(&id).bind(token_hash(token).to_vec());
    stored.execute(&tenant.app.db.owner().await).await.unwrap();
    id
}

async fn accept(app: &TestApp, token: &str, more: Value) -> Reply {
    let mut body = json!({ "token": token, "password": PASSWORD });
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    app.anonymous().post("/invitations/accept", body).await
}

fn ben() -> Value {
    json!({ "name": "Ben Baker" })
}

#[tokio::test]
async fn a_stranger_makes_an_account_and_joins_once() {
    let app = TestApp::start().await;
    let acme = app.quiet_tenant("acme").await;
    acme.owner.post("/roles", json!({ "name": "Billing", "permissions": ["api_keys:read"] })).await.expect(201);
    let id = invite(&acme, &acme.owner, "Ben@acme.example", json!(["support", "Billing"]), "t").await;
    let open = acme.owner.get(&format!("/invitations/{id}")).await.expect(200)["data"].clone();
    assert_eq!(acme.owner.get("/invitations").await.expect(200)["data"], json!([open]));
    assert_eq!((&open["email"], &open["roles"]), (&json!("Ben@acme.example"), &json!(["support", "Billing"])));
    assert_eq!(open["invited_by"], json!(acme.owner_id));
    assert!(!open.to_string().contains("token"), "{open}");
    let jobs = app.db.sql(format!("select kind from jobs where tenant_id = '{}'", acme.id)).await;
    assert_eq!(jobs, [Some("invitations.send".to_owned())]);

    for (more, pointer) in [(json!({}), "/name"), (json!({ "name": "Ben", "password": "short" }), "/password")] {
        let problem = accept(&app, "t", more).await.problem(422, "body_invalid");
        assert_eq!(problem["errors"][0]["pointer"], pointer);
    }
    accept(&app, "unheard of", ben()).await.problem(404, "not_found");
    let session = accept(&app, "t", ben()).await.expect(201)["data"].clone();
    assert_eq!(session["tenant"]["id"], json!(acme.id));
    assert!(session["user"]["email_verified_at"].is_string(), "the token was in their mail");
    let person = app.bearer(session["access_token"].as_str().unwrap());
    let me = person.get("/auth/me").await.expect(200)["data"].clone();
    assert_eq!((&me["roles"], &me["user"]["name"]), (&json!(["support", "Billing"]), &json!("Ben Baker")));
    person.get("/api-keys").await.expect(200);
    let welcomed = app.db.sql(format!("select kind from jobs where tenant_id = '{}' order by id desc", acme.id)).await;
    assert_eq!(welcomed[0].as_deref(), Some("auth.send_welcome"));

    accept(&app, "t", ben()).await.problem(410, "invitation_spent");
    assert_eq!(acme.owner.get("/invitations").await.expect(200)["data"], json!([]));
    acme.owner.delete(&format!("/invitations/{id}")).await.problem(404, "not_found");
    let again = json!({ "email": "ben@ACME.example", "roles": ["viewer"] });
    acme.owner.post("/invitations", again).await.problem(409, "already_member");

    let told = acme.owner.get("/audit-logs?limit=100").await.expect(200)["data"].clone();
    let told: Vec<_> = told.as_array().unwrap().iter().map(|entry| entry["action"].as_str().unwrap()).collect();
    for action in ["invitation.created", "invitation_role.created", "invitation.updated", "member_role.created"] {
        assert!(told.contains(&action), "{action} in {told:?}");
    }
    assert_eq!(told.iter().filter(|action| **action == "membership.created").count(), 2);
    let stored = app.db.sql("select string_agg(k::text, '') from invitation_tokens k").await;
    assert!(stored[0].as_deref().unwrap().contains("\\\\x") || stored[0].as_deref().unwrap().contains("\\x"));
}

#[tokio::test]
async fn a_person_with_an_account_joins_by_its_password() {
    let app = TestApp::start().await;
    let (acme, other) = (app.tenant("acme").await, app.tenant("other").await);
    invite(&acme, &acme.owner, &other.email, json!(["developer"]), "t").await;
    accept(&app, "t", json!({ "password": "another horse battery" })).await.problem(401, "login_refused");
    let session = accept(&app, "t", json!({})).await.expect(201)["data"].clone();
    assert_eq!((&session["tenant"]["id"], &session["user"]["id"]), (&json!(acme.id), &json!(other.owner_id)));
    let tenants = app.bearer(session["access_token"].as_str().unwrap()).get("/tenants").await.expect(200);
    let names: Vec<_> = tenants["data"].as_array().unwrap().iter().map(|m| &m["tenant"]["name"]).collect();
    assert_eq!(names, ["other", "acme"]);
    assert_eq!(session["user"]["name"], "Olive Owner", "the account is as it was");
    let joined = acme.owner.get("/audit-logs?action=membership.created").await.expect(200)["data"][0].clone();
    assert_eq!((&joined["actor_id"], &joined["resource_id"]), (&json!(other.owner_id), &json!(other.owner_id)));
}

#[tokio::test]
async fn a_second_factor_is_asked_for_and_a_wrong_code_spends_nothing() {
    let app = TestApp::start().await;
    let (acme, other) = (app.tenant("acme").await, app.tenant("other").await);
    app.db
        .sql(format!(
            "insert into totp_factors (user_id, sealed_secret, confirmed_at) values ('{}', '', now())",
            other.owner_id
        ))
        .await;
    invite(&acme, &acme.owner, &other.email, json!(["viewer"]), "t").await;
    accept(&app, "t", json!({})).await.problem(401, "otp_required");
    let code = token_hash("ABCDEFGH").iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let store = format!("insert into recovery_codes (user_id, code_hash) values ('{}', '\\x{code}')", other.owner_id);
    let secret = app.app.keys.seal(&millwork_shared::auth::queries::totp::context(other.owner_id), &[1; 20]).unwrap();
    let seal = sqlx::query("update totp_factors set sealed_secret = $1").bind(secret);
    seal.execute(&app.db.owner().await).await.unwrap();
    app.db.sql(store).await;
    accept(&app, "t", json!({ "otp": "WRONG" })).await.problem(401, "otp_wrong");
    accept(&app, "t", json!({ "otp": "abcd-efgh" })).await.expect(201);
}

#[tokio::test]
async fn an_invitation_that_expired_or_was_taken_back_is_no_good() {
    let app = TestApp::start().await;
    let acme = app.tenant("acme").await;
    let id = invite(&acme, &acme.owner, "ben@acme.example", json!(["viewer"]), "back").await;
    invite(&acme, &acme.owner, "cid@acme.example", json!(["viewer"]), "late").await;
    acme.owner.delete(&format!("/invitations/{id}")).await.expect(204);
    accept(&app, "back", ben()).await.problem(410, "invitation_spent");
    app.advance(DAY * 7 + Duration::from_secs(1)).await;
    accept(&app, "late", ben()).await.problem(410, "invitation_spent");
    assert_eq!(app.db.sql("select id::text from users where email like '%acme.example'").await.len(), 1);
}

#[tokio::test]
async fn an_invitation_is_good_only_while_who_sent_it_may_grant_what_it_promises() {
    let app = TestApp::start().await;
    let acme = app.tenant("acme").await;
    let admin = acme.member(Role::Admin).await;
    invite(&acme, &admin, "ben@acme.example", json!(["developer"]), "t").await;
    acme.give_roles(&admin, json!(["support"])).await.expect(200);
    accept(&app, "t", ben()).await.problem(410, "invitation_void");
    acme.give_roles(&admin, json!(["admin"])).await.expect(200);
    let id = admin.user().await;
    acme.owner.post_empty(&format!("/users/{id}/deactivate")).await.expect(200);
    accept(&app, "t", ben()).await.problem(410, "invitation_void");
    acme.owner.post_empty(&format!("/users/{id}/reactivate")).await.expect(200);
    accept(&app, "t", ben()).await.expect(201);
}

#[tokio::test]
async fn of_two_who_accept_for_the_last_place_one_wins() {
    let quotas = "starter=1000/1000/2".parse().unwrap();
    let app = TestApp::start_with(Options { quotas, ..Options::default() }).await;
    let acme = app.tenant("acme").await;
    for name in ["ben", "cid"] {
        invite(&acme, &acme.owner, &format!("{name}@acme.example"), json!(["viewer"]), name).await;
    }
    let [one, two] = at_once(&acme, ["ben", "cid"]).await;
    let mut statuses = [one.status, two.status];
    statuses.sort_unstable();
    assert_eq!(statuses, [201, 409], "{} {}", one.text(), two.text());
    let refused = if one.status == 409 { one } else { two };
    refused.problem(409, "member_quota_reached");
    assert_eq!(app.db.sql("select user_id::text from memberships").await.len(), 2);
    assert_eq!(app.db.sql("select id::text from users").await.len(), 2, "nobody is left over");
}

#[tokio::test]
async fn of_two_who_accept_one_invitation_one_wins() {
    let app = TestApp::start().await;
    let acme = app.tenant("acme").await;
    invite(&acme, &acme.owner, "ben@acme.example", json!(["viewer"]), "t").await;
    let [one, two] = at_once(&acme, ["t", "t"]).await;
    let refused = if one.status == 201 { two } else { one };
    refused.problem(410, "invitation_spent");
    assert_eq!(app.db.sql("select user_id::text from memberships").await.len(), 2);
}

/// Both accept, and wait for the same lock before they take a place.
async fn at_once(tenant: &Tenant<'_>, tokens: [&str; 2]) -> [Reply; 2] {
    let app = tenant.app;
    let mut tx = app.db.db.tenant(tenant.id).await.unwrap();
    millwork_shared::tenants::queries::members::lock(&mut tx, tenant.id).await.unwrap();
    let go = async {
        app.until_blocked(2).await;
        tx.commit().await.unwrap();
    };
    let (one, two, ()) = futures::join!(accept(app, tokens[0], ben()), accept(app, tokens[1], ben()), go);
    [one, two]
}

#[tokio::test]
async fn where_one_cannot_register_one_can_be_invited() {
    for (registration, status) in [(Registration::Invite, 201), (Registration::Closed, 403)] {
        let db = millwork_shared::testing::TestDb::create().await;
        let before = TestApp::over(db, Options::default()).await;
        let acme = before.tenant("acme").await;
        invite(&acme, &acme.owner, "ben@acme.example", json!(["viewer"]), "t").await;
        invite(&acme, &acme.owner, "olive@elsewhere.example", json!(["viewer"]), "u").await;
        let (_, url) = before.another(Options { registration, ..Options::default() }).await;
        let there = Client::new(&url, None);
        let body = json!({ "tenant_name": "x", "name": "x", "email": "x@y.example", "password": PASSWORD });
        there.post("/auth/register", body).await.problem(403, "registration_closed");
        let body = json!({ "token": "t", "name": "Ben Baker", "password": PASSWORD });
        assert_eq!(there.post("/invitations/accept", body).await.status, status);
    }
}

#[tokio::test]
async fn nobody_is_flooded_by_a_tenant_that_invites() {
    let app = TestApp::start().await;
    let acme = app.tenant("acme").await;
    let owner = acme.key_without("").await; // which does not expire
    let ask = |email: &str| {
        let (owner, body) = (owner.clone(), json!({ "email": email, "roles": ["viewer"] }));
        async move { owner.post("/invitations", body).await }
    };
    let id = ask("ben@acme.example").await.expect(201)["data"]["id"].as_str().unwrap().to_owned();
    ask("BEN@acme.example").await.problem(409, "already_invited");
    let resend = format!("/invitations/{id}/resend");
    owner.post_empty(&resend).await.problem(409, "mailed_already");
    for mails in 2..=5 {
        app.advance(Duration::from_secs(600)).await;
        let again = owner.post_empty(&resend).await.expect(202);
        assert!(again["data"]["expires_at"].as_str() > again["data"]["mailed_at"].as_str(), "{mails}");
    }
    app.advance(Duration::from_secs(600)).await;
    owner.post_empty(&resend).await.problem(409, "mailed_already");
    let mails = "select count(*)::text from jobs where kind = 'invitations.send'";
    assert_eq!(app.db.sql(mails).await[0].as_deref(), Some("5"));

    // Taking an invitation back does not make room for more of them.
    for round in 2..=3 {
        let open = owner.get("/invitations").await.expect(200)["data"][0]["id"].as_str().unwrap().to_owned();
        owner.delete(&format!("/invitations/{open}")).await.expect(204);
        assert_eq!(ask("ben@acme.example").await.status, 201, "{round}");
    }
    let open = owner.get("/invitations").await.expect(200)["data"][0]["id"].as_str().unwrap().to_owned();
    owner.delete(&format!("/invitations/{open}")).await.expect(204);
    ask("ben@acme.example").await.problem(409, "too_many_invitations");

    let fill = |count: u32, more: &str| {
        format!(
            "insert into invitations (id, tenant_id, email, role, invited_by, expires_at, revoked_at)
             select gen_random_uuid(), '{}', 'a' || n || '@x.example', 'viewer', '{}',
                    ledger_now() + interval '1 day', {more}
               from generate_series(1, {count}) n",
            acme.id, acme.owner_id
        )
    };
    app.db.sql(fill(99, "null")).await;
    ask("cid@acme.example").await.expect(201);
    ask("dan@acme.example").await.problem(409, "too_many_invitations");
    app.db.sql("update invitations set revoked_at = ledger_now()").await;
    app.db.sql(fill(97, "ledger_now()")).await;
    ask("dan@acme.example").await.problem(409, "too_many_invitations");
    app.advance(DAY).await;
    ask("dan@acme.example").await.expect(201);
}
