//! People, figures, and the feed.

use std::time::Duration;

use millwork_shared::infra::ids::TenantId;
use millwork_shared::tenants::Role;
use serde_json::{Value, json};

use super::{EMAIL, entries, find, staff};
use crate::support::{PASSWORD, TestApp};

#[tokio::test]
async fn a_person_is_found_and_put_out_everywhere_until_they_are_let_in_again() {
    let app = TestApp::start().await;
    let client = staff(&app, EMAIL).await;
    let (acme, beta) = (app.tenant("acme").await, app.tenant("beta").await);
    let join = format!(
        "insert into memberships (tenant_id, user_id, role) values ('{}', '{}', 'viewer')",
        beta.id, acme.owner_id
    );
    app.db.sql(join).await;
    let key = acme.api_key(&["jobs:read"]).await;
    key.get("/jobs").await.expect(200);
    let id = acme.owner_id.to_string();
    for query in
        [format!("email={}", acme.email.to_uppercase()), format!("tenant_id={}", beta.id), "limit=2".to_owned()]
    {
        let found = client.get(&format!("/admin/users?{query}")).await.expect(200);
        assert!(find(&found, &id).is_some(), "{query}: {found}");
    }
    let none = client.get("/admin/users?deactivated=true").await.expect(200);
    assert_eq!(none["data"], json!([]));
    let details = client.get(&format!("/admin/users/{id}")).await.expect(200)["data"].clone();
    let roles: Vec<_> = details["memberships"].as_array().unwrap().iter().map(|m| m["role"].clone()).collect();
    assert_eq!(roles, [json!("owner"), json!("viewer")]);

    client.post_empty(&format!("/admin/users/{id}/deactivate")).await.expect(200);
    client.post_empty(&format!("/admin/users/{id}/deactivate")).await.problem(409, "user_deactivated");
    acme.owner.get("/jobs").await.problem(401, "token_invalid");
    key.get("/jobs").await.problem(401, "token_invalid");
    let login = json!({ "email": acme.email, "password": PASSWORD });
    app.anonymous().post("/auth/login", login.clone()).await.problem(401, "login_refused");
    beta.owner.get("/jobs").await.expect(200);
    for tenant in [acme.id, beta.id] {
        let told = entries(&app, &format!("tenant_id = '{tenant}' and action = 'user.updated'")).await;
        assert_eq!(told, ["user.updated staff"]);
    }

    client.post_empty(&format!("/admin/users/{id}/reactivate")).await.expect(200);
    client.post_empty(&format!("/admin/users/{id}/reactivate")).await.problem(409, "user_active");
    key.get("/jobs").await.expect(200);
    acme.owner.get("/jobs").await.problem(401, "token_invalid");
    app.anonymous().post("/auth/login", login).await.expect(200);
    let absent = "/admin/users/00000000-0000-7000-8000-000000000009";
    client.get(absent).await.problem(404, "not_found");
    client.post_empty(&format!("{absent}/deactivate")).await.problem(404, "not_found");
}

#[tokio::test]
async fn the_feed_shows_what_was_done_in_every_tenant_and_what_staff_did_alone() {
    let app = TestApp::start().await;
    let client = staff(&app, EMAIL).await;
    let (acme, beta) = (app.tenant("acme").await, app.tenant("beta").await);
    client.patch(&format!("/admin/tenants/{}", acme.id), json!({ "plan": "pro" })).await.expect(200);
    let feed = async |query: &str| client.get(&format!("/admin/activity{query}")).await.expect(200);
    let all = feed("?limit=100").await;
    let ids: Vec<&str> = all["data"].as_array().unwrap().iter().map(|entry| entry["id"].as_str().unwrap()).collect();
    assert!(ids.is_sorted_by(|a, b| a >= b), "newest first");
    for tenant in [acme.id.to_string(), beta.id.to_string(), "00000000-0000-7000-8000-000000000000".to_owned()] {
        assert!(all["data"].as_array().unwrap().iter().any(|entry| entry["tenant_id"] == tenant), "{tenant}");
        let own = feed(&format!("?tenant_id={tenant}")).await;
        assert!(own["data"].as_array().unwrap().iter().all(|entry| entry["tenant_id"] == tenant));
    }
    let by_staff = feed("?by_staff=true").await;
    assert!(by_staff["data"].as_array().unwrap().iter().all(|entry| entry["actor_type"] == "staff"), "{by_staff}");
    assert_eq!(by_staff["data"][0]["action"], "tenant.updated");
    assert_eq!(by_staff["data"][0]["tenant_id"], acme.id.to_string());
    let mut seen = Vec::new();
    let mut query = "?limit=3".to_owned();
    loop {
        let page = feed(&query).await;
        seen.extend(page["data"].as_array().unwrap().iter().map(|entry| entry["id"].clone()));
        let Some(cursor) = page["meta"]["next_cursor"].as_str() else { break };
        query = format!("?limit=3&cursor={cursor}");
    }
    assert_eq!(json!(seen), json!(ids), "the pages are the whole");
}

#[tokio::test]
async fn the_figures_count_what_is_there_and_estimate_what_is_much() {
    let app = TestApp::start().await;
    let client = staff(&app, EMAIL).await;
    app.tenant("acme").await;
    let metrics = async || client.get("/admin/metrics").await.expect(200)["data"].clone();
    let figures = metrics().await;
    for what in ["tenants", "users"] {
        assert_eq!(figures[what], json!({ "count": 1, "estimated": false }), "{what}");
    }
    assert!(figures["database_size_bytes"].as_i64().unwrap() > 1_000_000, "{figures}");
    assert_eq!(figures["queues"], json!([]), "no scheduler has counted");
    let many = "insert into users (id, email, name, password_hash)
                select gen_random_uuid(), n || '@many.example', 'x', 'x' from generate_series(1, 10001) n;
                analyze users";
    app.db.sql(many).await;
    let users: Value = metrics().await["users"].clone();
    assert_eq!(users["estimated"], true);
    assert!(users["count"].as_i64().unwrap() >= 10_001, "{users}");
    app.advance(Duration::from_secs(1)).await;
}

#[tokio::test]
async fn what_somebody_owns_in_a_tenant_is_handed_over_within_it() {
    let app = TestApp::start().await;
    let client = staff(&app, EMAIL).await;
    let (acme, beta) = (app.tenant("acme").await, app.tenant("beta").await);
    let heir = acme.member(Role::Admin).await.get("/auth/me").await.expect(200)["data"]["user"]["id"].clone();
    let key = acme.api_key(&["jobs:read"]).await;
    let path = format!("/admin/users/{}/reassign", acme.owner_id);
    let hand_over = async |tenant: TenantId, to: &Value| {
        client.post(&path, json!({ "tenant_id": tenant.to_string(), "to": to })).await
    };
    let stranger = json!(beta.owner_id.to_string());
    let problem = hand_over(acme.id, &stranger).await.problem(422, "body_invalid");
    assert_eq!(problem["errors"][0]["pointer"], "/to");
    hand_over(beta.id, &stranger).await.problem(404, "not_found");
    let moved = hand_over(acme.id, &heir).await.expect(200)["data"].clone();
    assert_eq!(moved, json!({ "api_keys": 1, "invitations": 0 }));
    let me = key.get("/auth/me").await.expect(200);
    assert_eq!(me["data"]["user"]["id"], heir);
    let told = entries(&app, &format!("tenant_id = '{}' and action = 'api_key.updated'", acme.id)).await;
    assert_eq!(told, ["api_key.updated staff"]);
}
