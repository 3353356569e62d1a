//! The members of a tenant.

use std::time::{Duration, Instant};

use millwork_shared::auth::queries::sessions;
use millwork_shared::infra::ids::SessionId;
use millwork_shared::tenants::Role;
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{Client, Options, PASSWORD, Reply, TestApp};

async fn actions(owner: &Client, filter: &str) -> Vec<String> {
    let found = owner.get(&format!("/audit-logs?{filter}")).await.expect(200);
    found["data"].as_array().unwrap().iter().map(|entry| entry["action"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn members_are_listed_shown_and_called_what_the_tenant_calls_them() {
    let app = TestApp::start().await;
    let acme = app.tenant("acme").await;
    let support = acme.member(Role::Support).await;
    let id = support.user().await;
    let list = support.get("/users").await.expect(200);
    assert_eq!(list["data"].as_array().unwrap().len(), 2);
    let shown = support.get(&format!("/users/{id}")).await.expect(200)["data"].clone();
    assert_eq!(shown, list["data"][0], "the account that was made last comes first");
    assert_eq!((&shown["roles"], &shown["name"]), (&json!(["support"]), &json!("Mel Member")));
    assert_eq!((&shown["version"], &shown["deactivated_at"]), (&json!(1), &Value::Null));
    assert!(shown.get("password_hash").is_none());
    assert!(support.get("/users?limit=1").await.expect(200)["meta"]["next_cursor"].is_string());

    let path = format!("/users/{id}");
    let change = |version: &str, name: Value| {
        let request = acme.owner.request(Method::PATCH, &path).header("if-match", format!("\"{version}\""));
        Reply::of(request.json(&json!({ "name": name })))
    };
    change("4", json!("Mel")).await.problem(412, "version_stale");
    assert_eq!(change("1", json!("Mel from support")).await.expect(200)["data"]["name"], "Mel from support");
    assert_eq!(support.get("/auth/me").await.expect(200)["data"]["user"]["name"], "Mel Member", "here alone");
    assert_eq!(change("2", Value::Null).await.expect(200)["data"]["name"], "Mel Member");
    support.patch(&path, json!({ "name": "x" })).await.problem(403, "permission_missing");
}

#[tokio::test]
async fn roles_are_given_by_name_and_count_at_once() {
    let app = TestApp::start().await;
    let acme = app.tenant("acme").await;
    let member = acme.member(Role::Viewer).await;
    acme.owner.post("/roles", json!({ "name": "Billing", "permissions": ["api_keys:write"] })).await.expect(201);
    member.get("/queues").await.expect(200);
    member.post_empty("/queues/email/pause").await.problem(403, "permission_missing");

    let given = acme.give_roles(&member, json!(["developer", "billing"])).await.expect(200);
    assert_eq!((&given["data"]["roles"], &given["data"]["version"]), (&json!(["developer", "Billing"]), &json!(2)));
    member.post_empty("/queues/email/pause").await.expect(200);
    let me = member.get("/auth/me").await.expect(200);
    assert_eq!(me["data"]["roles"], json!(["developer", "Billing"]));
    assert!(me["data"]["permissions"].as_array().unwrap().contains(&json!("api_keys:write")));
    acme.give_roles(&member, json!(["Billing"])).await.expect(200);
    acme.owner.post("/roles", json!({ "name": "Ärzte", "permissions": ["api_keys:read"] })).await.expect(201);
    let twice = acme.give_roles(&member, json!(["Ärzte", "BILLING", "billing", "Ärzte"])).await.expect(200);
    assert_eq!(twice["data"]["roles"], json!(["Billing", "Ärzte"]));
    member.get("/queues").await.problem(403, "permission_missing");

    for (roles, pointer, code) in [
        (json!(["viewer", "nobody"]), "/roles/1", "unknown"),
        (json!(["viewer", "support"]), "/roles/1", "exclusive"),
        (json!([]), "/roles", "too_few"),
    ] {
        let problem = acme.give_roles(&member, roles).await.problem(422, "body_invalid");
        assert_eq!((&problem["errors"][0]["pointer"], &problem["errors"][0]["code"]), (&json!(pointer), &json!(code)));
    }
    let path = format!("/users/{}/roles", member.user().await);
    let stale = acme.owner.request(Method::PUT, &path).header("if-match", "\"1\"");
    Reply::of(stale.json(&json!({ "roles": ["viewer"] }))).await.problem(412, "version_stale");
    let user = member.user().await;
    let told = actions(&acme.owner, &format!("resource_id={user}")).await;
    let told: Vec<_> = told.iter().filter(|action| action.starts_with("member")).collect();
    let expected = [
        "member_role.created", // Ärzte
        "membership.updated",  // no longer a developer
        "membership.updated",  // a developer
        "member_role.created", // Billing
        "membership.created",
    ];
    assert_eq!(told, expected);
}

#[tokio::test]
async fn no_one_grants_what_they_do_not_hold_nor_touches_who_holds_more() {
    let app = TestApp::start().await;
    let acme = app.tenant("acme").await;
    let (admin, viewer) = (acme.member(Role::Admin).await, acme.member(Role::Viewer).await);
    let (admin_id, viewer_id) = (admin.user().await, viewer.user().await);
    let owner = acme.owner_id;
    let clerk = acme.api_key(&["users:read", "users:write", "jobs:read", "invitations:write"]).await;

    let roles = |id: &str, role: &str| (format!("/users/{id}/roles"), json!({ "roles": [role] }));
    let refused = async |by: &Client, (path, body): (String, Value), missing: &str| {
        let problem = by.put(&path, body).await.problem(403, "permission_missing");
        assert_eq!(problem["permission"], missing, "{path}");
    };
    refused(&admin, roles(&viewer_id, "owner"), "owners:write").await;
    refused(&admin, roles(&admin_id, "owner"), "owners:write").await;
    refused(&admin, roles(&owner.to_string(), "viewer"), "owners:write").await;
    for by in [&admin, &clerk] {
        for command in ["deactivate", "reactivate", "reassign"] {
            let reply = by.post(&format!("/users/{owner}/{command}"), json!({ "to": admin_id })).await;
            reply.problem(403, "permission_missing");
        }
        by.delete(&format!("/users/{owner}")).await.problem(403, "permission_missing");
        by.patch(&format!("/users/{owner}"), json!({ "name": "x" })).await.problem(403, "permission_missing");
    }
    let reply = clerk.put(&format!("/users/{viewer_id}/roles"), json!({ "roles": ["viewer"] })).await;
    reply.problem(403, "permission_missing");
    clerk.delete(&format!("/users/{admin_id}")).await.problem(403, "permission_missing");
    clerk
        .post("/invitations", json!({ "email": "x@y.example", "roles": ["viewer"] }))
        .await
        .problem(403, "permission_missing");
    let problem = admin.post("/invitations", json!({ "email": "x@y.example", "roles": ["owner"] })).await;
    assert_eq!(problem.problem(403, "permission_missing")["permission"], "owners:write");

    admin.put(&format!("/users/{viewer_id}/roles"), json!({ "roles": ["admin"] })).await.expect(200);
    acme.owner.put(&format!("/users/{viewer_id}/roles"), json!({ "roles": ["owner"] })).await.expect(200);
    viewer.put(&format!("/users/{owner}/roles"), json!({ "roles": ["viewer"] })).await.expect(200);
    acme.owner.get("/audit-logs").await.problem(403, "permission_missing");
}

#[tokio::test]
async fn an_api_key_never_does_more_than_who_made_it_may_now() {
    let app = TestApp::start().await;
    let acme = app.tenant("acme").await;
    let admin = acme.member(Role::Admin).await;
    let body = json!({ "name": "x", "permissions": ["jobs:read", "jobs:submit", "api_keys:write"] });
    let key = admin.post("/api-keys", body).await.expect(201)["data"]["secret"].as_str().unwrap().to_owned();
    let key = app.bearer(key);
    let held = async || key.get("/auth/me").await.expect(200)["data"]["permissions"].clone();
    assert_eq!(held().await, json!(["api_keys:write", "jobs:read", "jobs:submit"]));
    acme.give_roles(&admin, json!(["viewer"])).await.expect(200);
    assert_eq!(held().await, json!(["jobs:read"]));
    let more = json!({ "name": "y", "permissions": ["jobs:read"] });
    key.post("/api-keys", more).await.problem(403, "permission_missing");
    acme.give_roles(&admin, json!(["admin"])).await.expect(200);
    assert_eq!(held().await, json!(["api_keys:write", "jobs:read", "jobs:submit"]), "and no more than it was given");
}

#[tokio::test]
async fn the_last_owner_stays() {
    let app = TestApp::start().await;
    let acme = app.tenant("acme").await;
    let path = format!("/users/{}", acme.owner_id);
    acme.member(Role::Admin).await;
    for reply in [
        acme.owner.put(&format!("{path}/roles"), json!({ "roles": ["admin"] })).await,
        acme.owner.post_empty(&format!("{path}/deactivate")).await,
        acme.owner.delete(&path).await,
    ] {
        reply.problem(409, "last_owner");
    }
    acme.owner.put(&format!("{path}/roles"), json!({ "roles": ["owner"] })).await.expect(200);
    let second = acme.member(Role::Owner).await;
    second.post_empty(&format!("{path}/deactivate")).await.expect(200);
    second.delete(&format!("/users/{}", second.user().await)).await.problem(409, "last_owner");
    second.post_empty(&format!("{path}/reactivate")).await.expect(200);
    second.delete(&format!("/users/{}", second.user().await)).await.expect(204);
}

#[tokio::test]
async fn of_two_owners_who_demote_each_other_one_wins() {
    let app = TestApp::start().await;
    let acme = app.tenant("acme").await;
    let second = acme.member(Role::Owner).await;
    let (first_id, second_id) = (acme.owner_id.to_string(), second.user().await);
    let mut tx = app.db.db.tenant(acme.id).await.unwrap();
    millwork_shared::tenants::queries::members::lock(&mut tx, acme.id).await.unwrap();
    let demote = |by: &Client, id: &str| {
        let (by, path) = (by.clone(), format!("/users/{id}/roles"));
        async move { by.put(&path, json!({ "roles": ["viewer"] })).await }
    };
    let go = async {
        app.until_blocked(2).await;
        tx.commit().await.unwrap();
    };
    let (one, two, ()) = futures::join!(demote(&acme.owner, &second_id), demote(&second, &first_id), go);
    let mut statuses = [one.status, two.status];
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 409], "{} {}", one.text(), two.text());
    let left = "select count(*)::text from memberships where role = 'owner'";
    assert_eq!(app.db.sql(left).await[0].as_deref(), Some("1"));
}

#[tokio::test]
async fn whoever_is_shut_out_is_out_at_once_everywhere() {
    let app = TestApp::start().await;
    let acme = app.tenant("acme").await;
    let (other, url) = app.another(Options::default()).await;
    while other.tokens.generation() == 0 {
        tokio::task::yield_now().await; // until it listens
    }
    let admin = acme.member(Role::Admin).await;
    let id = admin.user().await;
    let email = admin.get("/auth/me").await.expect(200)["data"]["user"]["email"].as_str().unwrap().to_owned();
    let login = || {
        let (client, body) = (app.anonymous(), json!({ "email": email, "password": PASSWORD }));
        async move { client.post("/auth/login", body).await }
    };
    let refresh = login().await.expect(200)["data"]["refresh_token"].clone();
    let key = admin.post("/api-keys", json!({ "name": "x", "permissions": ["jobs:read"] })).await.expect(201);
    let key = app.bearer(key["data"]["secret"].as_str().unwrap());
    let elsewhere = [&admin, &key].map(|client| Client::new(&url, client.token.clone()));
    let known = Instant::now();
    for client in &elsewhere {
        client.get("/auth/me").await.expect(200);
    }
    key.get("/auth/me").await.expect(200);

    let shut = acme.owner.post_empty(&format!("/users/{id}/deactivate")).await.expect(200);
    assert!(shut["data"]["deactivated_at"].is_string());
    for client in [&admin, &key] {
        client.get("/auth/me").await.problem(401, "token_invalid");
    }
    for client in &elsewhere {
        while client.get("/auth/me").await.status != 401 {
            assert!(known.elapsed() < Duration::from_millis(2_500), "the other process lets them in still");
            tokio::task::yield_now().await;
        }
    }
    let body = json!({ "refresh_token": refresh });
    app.anonymous().post("/auth/refresh", body).await.problem(401, "refresh_token_invalid");
    login().await.problem(403, "not_a_member");
    let again = acme.owner.post_empty(&format!("/users/{id}/deactivate")).await.expect(200);
    assert_eq!(again["data"]["deactivated_at"], shut["data"]["deactivated_at"], "twice is once");

    let back = acme.owner.post_empty(&format!("/users/{id}/reactivate")).await.expect(200);
    assert_eq!((&back["data"]["deactivated_at"], &back["data"]["roles"]), (&Value::Null, &json!(["admin"])));
    admin.get("/auth/me").await.problem(401, "token_invalid");
    key.get("/auth/me").await.expect(200);
    login().await.expect(200);
    let told = actions(&acme.owner, &format!("resource_id={id}&action=membership.updated")).await;
    assert_eq!(told.len(), 2, "{told:?}");
}

#[tokio::test]
async fn whoever_signs_in_while_they_are_shut_out_gets_nowhere() {
    let app = TestApp::start().await;
    let acme = app.tenant("acme").await;
    let viewer = acme.member(Role::Viewer).await;
    let user = viewer.user().await.parse().unwrap();
    let mut tx = app.db.db.identity().await.unwrap();
    // A sign-in that has looked, and opens its session only when the other one is at work already.
    assert!(millwork_shared::tenants::queries::find_membership(&mut tx, user, None).await.unwrap().is_some());
    let path = format!("/users/{user}/deactivate");
    let open = async {
        app.until_blocked(1).await;
        let session = sessions::Session { id: SessionId::generate(), tenant: acme.id, user };
        sessions::open(&mut tx, session, &Default::default(), [7; 32]).await.unwrap();
        tx.commit().await.unwrap();
    };
    let (reply, ()) = futures::join!(acme.owner.post_empty(&path), open);
    reply.expect(200);
    let left = format!("select id::text from sessions where user_id = '{user}' and ended_at is null");
    assert_eq!(app.db.sql(left).await, [], "it would live again with the member");
}

#[tokio::test]
async fn whoever_is_removed_loses_sessions_and_keys_and_keeps_the_account() {
    let app = TestApp::start().await;
    let acme = app.tenant("acme").await;
    let admin = acme.member(Role::Admin).await;
    let me = admin.get("/auth/me").await.expect(200)["data"].clone();
    let id = me["user"]["id"].as_str().unwrap();
    let key = admin.post("/api-keys", json!({ "name": "x", "permissions": ["jobs:read"] })).await.expect(201);
    let key = app.bearer(key["data"]["secret"].as_str().unwrap());
    key.get("/jobs").await.expect(200);
    acme.owner.post("/roles", json!({ "name": "Extra", "permissions": ["jobs:read"] })).await.expect(201);
    acme.give_roles(&admin, json!(["admin", "Extra"])).await.expect(200);
    let invited = json!({ "email": "guest@elsewhere.example", "roles": ["viewer"] });
    admin.post("/invitations", invited).await.expect(201);

    acme.owner.delete(&format!("/users/{id}")).await.expect(204);
    admin.get("/auth/me").await.problem(401, "token_invalid");
    key.get("/auth/me").await.problem(401, "token_invalid");
    acme.owner.get(&format!("/users/{id}")).await.problem(404, "not_found");
    acme.owner.delete(&format!("/users/{id}")).await.problem(404, "not_found");
    assert_eq!(acme.owner.get("/api-keys").await.expect(200)["data"], json!([]));
    assert_eq!(acme.owner.get("/invitations").await.expect(200)["data"], json!([]), "theirs go with them");
    let body = json!({ "email": me["user"]["email"], "password": PASSWORD });
    app.anonymous().post("/auth/login", body).await.problem(403, "not_a_member");
    assert_eq!(app.db.sql(format!("select id::text from users where id = '{id}'")).await.len(), 1);
    let told = actions(&acme.owner, "").await;
    for action in
        ["membership.deleted", "member_role.deleted", "api_key.deleted", "invitation.deleted", "session.revoked"]
    {
        assert!(told.iter().any(|known| known == action), "{action} in {told:?}");
    }
}

#[tokio::test]
async fn what_a_member_owns_is_handed_over_to_another_one() {
    let app = TestApp::start().await;
    let acme = app.tenant("acme").await;
    let (leaver, heir) = (acme.member(Role::Admin).await, acme.member(Role::Developer).await);
    let (from, to) = (leaver.user().await, heir.user().await);
    let body = json!({ "name": "x", "permissions": ["jobs:read", "jobs:cleanup"] });
    let key = leaver.post("/api-keys", body).await.expect(201);
    let key = app.bearer(key["data"]["secret"].as_str().unwrap());
    leaver.post("/invitations", json!({ "email": "guest@elsewhere.example", "roles": ["viewer"] })).await.expect(201);
    key.get("/auth/me").await.expect(200);

    let path = format!("/users/{from}/reassign");
    for who in ["00000000-0000-7000-8000-000000000009", &app.tenant("other").await.owner_id.to_string()] {
        let problem = acme.owner.post(&path, json!({ "to": who })).await.problem(422, "body_invalid");
        assert_eq!(problem["errors"][0]["pointer"], "/to");
    }
    let moved = acme.owner.post(&path, json!({ "to": to })).await.expect(200);
    assert_eq!(moved["data"], json!({ "api_keys": 1, "invitations": 1 }));
    let me = key.get("/auth/me").await.expect(200)["data"].clone();
    assert_eq!((&me["user"]["id"], &me["permissions"]), (&json!(to), &json!(["jobs:read"])), "as far as the heir may");
    assert_eq!(acme.owner.get("/api-keys").await.expect(200)["data"][0]["created_by"], json!(to));
    acme.owner.delete(&format!("/users/{from}")).await.expect(204);
    key.get("/jobs").await.expect(200);
    assert_eq!(acme.owner.get("/invitations").await.expect(200)["data"][0]["invited_by"], json!(to));
    assert!(actions(&acme.owner, "action=api_key.updated").await.len() == 1);
}

#[tokio::test]
async fn keys_that_may_do_more_than_who_hands_them_over_are_not_handed_over() {
    let app = TestApp::start().await;
    let acme = app.tenant("acme").await;
    let maker = acme.member(Role::Admin).await;
    maker.post("/api-keys", json!({ "name": "x", "permissions": ["webhooks:secret"] })).await.expect(201);
    // The maker has shrunk, and the key with them; handed over to the owner it would grow again.
    acme.give_roles(&maker, json!(["viewer"])).await.expect(200);
    let all: Vec<_> = Role::Viewer.permissions().iter().map(|permission| permission.as_str()).collect();
    let clerk = acme.api_key(&[&all[..], &["users:write"]].concat()).await;
    let path = format!("/users/{}/reassign", maker.user().await);
    let problem = clerk.post(&path, json!({ "to": acme.owner_id })).await.problem(403, "permission_missing");
    assert_eq!(problem["permission"], "webhooks:secret");
}

#[tokio::test]
async fn a_member_comes_back_only_while_there_is_a_place() {
    let quotas = "starter=1000/1000/2".parse().unwrap();
    let app = TestApp::start_with(Options { quotas, ..Options::default() }).await;
    let acme = app.tenant("acme").await;
    let (one, two) = (acme.member(Role::Viewer).await.user().await, acme.member(Role::Viewer).await.user().await);
    acme.owner.post_empty(&format!("/users/{one}/deactivate")).await.expect(200);
    let reply = acme.owner.post_empty(&format!("/users/{one}/reactivate")).await;
    reply.problem(409, "member_quota_reached");
    acme.owner.post_empty(&format!("/users/{two}/reactivate")).await.expect(200);
    acme.owner.post_empty(&format!("/users/{two}/deactivate")).await.expect(200);
    acme.owner.post_empty(&format!("/users/{one}/reactivate")).await.expect(200);
    assert_eq!(acme.owner.get("/quotas").await.expect(200)["data"]["members"]["used"], 2);
}
