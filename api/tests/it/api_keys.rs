//! Keys of programs.

use std::time::Duration;

use millwork_shared::tenants::Role;
use serde_json::{Value, json};

use crate::support::TestApp;

#[tokio::test]
async fn a_key_is_shown_once_and_only_its_hash_is_stored() {
    let app = TestApp::start().await;
    let acme = app.tenant("acme").await;
    let body = json!({ "name": " Ledger sync ", "permissions": ["jobs:submit", "jobs:read", "jobs:read"] });
    let reply = acme.owner.post("/api-keys", body).await;
    let key = &reply.expect(201)["data"];
    let secret = key["secret"].as_str().unwrap();
    assert!(secret.starts_with(&format!("mw_test_{}_", key["prefix"].as_str().unwrap())), "{secret}");
    assert_eq!(key["name"], "Ledger sync");
    assert_eq!(key["permissions"], json!(["jobs:read", "jobs:submit"]));
    assert_eq!(reply.header("location"), format!("{}/api/v1/api-keys/{}", app.url, key["id"].as_str().unwrap()));

    let shown = acme.owner.get(&format!("/api-keys/{}", key["id"].as_str().unwrap())).await.expect(200);
    let listed = acme.owner.get("/api-keys").await.expect(200);
    assert_eq!(listed["data"], json!([shown["data"]]));
    assert_eq!(listed["meta"], json!({ "next_cursor": null, "limit": 50 }));
    for text in [shown.to_string(), listed.to_string()] {
        assert!(!text.contains("secret"), "{text}");
    }
    let hit: i64 = sqlx::query_scalar("select count(*) from api_keys k where k::text like '%' || $1 || '%'")
        .bind(secret.rsplit_once('_').unwrap().1)
        .fetch_one(&app.db.owner().await)
        .await
        .unwrap();
    assert_eq!(hit, 0);
}

#[tokio::test]
async fn a_key_may_do_what_it_was_given_and_nothing_else() {
    let app = TestApp::start().await;
    let acme = app.tenant("acme").await;
    let key = acme.api_key(&["api_keys:read"]).await;
    let me = &key.get("/auth/me").await.expect(200)["data"];
    assert_eq!(me["permissions"], json!(["api_keys:read"]));
    assert_eq!(me["roles"], json!([]));
    assert!(me["api_key_id"].is_string());
    key.get("/api-keys").await.expect(200);
    let body = json!({ "name": "x", "permissions": ["api_keys:read"] });
    let problem = key.post("/api-keys", body).await.problem(403, "permission_missing");
    assert_eq!(problem["permission"], "api_keys:write");
    acme.api_key(&["jobs:read"]).await.get("/api-keys").await.problem(403, "permission_missing");
}

#[tokio::test]
async fn no_one_grants_what_they_do_not_hold() {
    let app = TestApp::start().await;
    let acme = app.tenant("acme").await;
    let key = acme.api_key(&["api_keys:write", "jobs:read"]).await;
    let grant = |permissions: Value| {
        let (key, body) = (key.clone(), json!({ "name": "x", "permissions": permissions }));
        async move { key.post("/api-keys", body).await }
    };
    grant(json!(["jobs:read", "api_keys:write"])).await.expect(201);
    let problem = grant(json!(["jobs:read", "webhooks:secret"])).await.problem(403, "permission_missing");
    assert_eq!(problem["permission"], "webhooks:secret");
    let problem = grant(json!(["jobs:read", "jobs:explode", "root"])).await.problem(422, "body_invalid");
    let pointers: Vec<_> = problem["errors"].as_array().unwrap().iter().map(|fault| &fault["pointer"]).collect();
    assert_eq!(pointers, ["/permissions/1", "/permissions/2"]);
    grant(json!([])).await.problem(422, "body_invalid");

    let strong = acme.owner.post("/api-keys", json!({ "name": "strong", "permissions": ["webhooks:secret"] })).await;
    let path = format!("/api-keys/{}/rotate", strong.expect(201)["data"]["id"].as_str().unwrap());
    let problem = key.post_empty(&path).await.problem(403, "permission_missing");
    assert_eq!(problem["permission"], "webhooks:secret", "rotating would show a key that may do more");
    let developer = acme.member(Role::Developer).await;
    developer
        .post("/api-keys", json!({ "name": "x", "permissions": ["jobs:read"] }))
        .await
        .problem(403, "permission_missing");
}

#[tokio::test]
async fn a_revoked_key_stops_at_once() {
    let app = TestApp::start().await;
    let acme = app.tenant("acme").await;
    let key = acme.api_key(&["jobs:read"]).await;
    let id = key.get("/auth/me").await.expect(200)["data"]["api_key_id"].as_str().unwrap().to_owned();
    acme.owner.delete(&format!("/api-keys/{id}")).await.expect(204);
    key.get("/auth/me").await.problem(401, "token_invalid");
    acme.owner.delete(&format!("/api-keys/{id}")).await.problem(404, "not_found");
    acme.owner.get(&format!("/api-keys/{id}")).await.problem(404, "not_found");
    acme.owner.post_empty(&format!("/api-keys/{id}/rotate")).await.problem(404, "not_found");
    assert_eq!(acme.owner.get("/api-keys").await.expect(200)["data"], json!([]));
}

#[tokio::test]
async fn another_process_honours_a_revoked_key_for_five_seconds_at_most() {
    let app = TestApp::start().await;
    let acme = app.tenant("acme").await;
    let key = acme.api_key(&["jobs:read"]).await;
    key.get("/auth/me").await.expect(200);
    sqlx::query("update api_keys set revoked_at = now()").execute(&app.db.owner().await).await.unwrap();
    app.advance(Duration::from_secs(5)).await;
    key.get("/auth/me").await.problem(401, "token_invalid");
}

#[tokio::test]
async fn a_rotated_key_has_a_new_secret_and_the_old_one_stops() {
    let app = TestApp::start().await;
    let acme = app.tenant("acme").await;
    let old = acme.api_key(&["jobs:read"]).await;
    let id = old.get("/auth/me").await.expect(200)["data"]["api_key_id"].as_str().unwrap().to_owned();
    let fresh = acme.owner.post_empty(&format!("/api-keys/{id}/rotate")).await.expect(200);
    assert_eq!(fresh["data"]["id"], id);
    old.get("/auth/me").await.problem(401, "token_invalid");
    let fresh = app.bearer(fresh["data"]["secret"].as_str().unwrap());
    assert_eq!(fresh.get("/auth/me").await.expect(200)["data"]["api_key_id"], id);
}

#[tokio::test]
async fn a_key_expires_when_it_said() {
    let app = TestApp::start().await;
    let acme = app.tenant("acme").await;
    let at = |seconds: i64| (app.db.clock.now() + chrono::TimeDelta::seconds(seconds)).to_rfc3339();
    let create = |expires_at: String| {
        let body = json!({ "name": "x", "permissions": ["jobs:read"], "expires_at": expires_at });
        let owner = acme.owner.clone();
        async move { owner.post("/api-keys", body).await }
    };
    let problem = create(at(-1)).await.problem(422, "body_invalid");
    assert_eq!(problem["errors"][0]["pointer"], "/expires_at");
    create("tomorrow".to_owned()).await.problem(422, "body_invalid");
    let key = create(at(60)).await.expect(201);
    let key = app.bearer(key["data"]["secret"].as_str().unwrap());
    key.get("/auth/me").await.expect(200);
    app.advance(Duration::from_secs(58)).await;
    key.get("/auth/me").await.expect(200);
    app.advance(Duration::from_secs(3)).await;
    key.get("/auth/me").await.problem(401, "token_invalid");
}

#[tokio::test]
async fn keys_are_paged_newest_first() {
    let app = TestApp::start().await;
    let acme = app.tenant("acme").await;
    for n in 0..5 {
        let body = json!({ "name": format!("key {n}"), "permissions": ["jobs:read"] });
        acme.owner.post("/api-keys", body).await.expect(201);
    }
    let mut seen = Vec::new();
    let mut path = "/api-keys?limit=2".to_owned();
    for pages in 1.. {
        let page = acme.owner.get(&path).await.expect(200);
        assert_eq!(page["meta"]["limit"], 2);
        seen.extend(page["data"].as_array().unwrap().iter().map(|key| key["name"].as_str().unwrap().to_owned()));
        let Some(cursor) = page["meta"]["next_cursor"].as_str() else {
            assert_eq!(pages, 3);
            break;
        };
        path = format!("/api-keys?limit=2&cursor={cursor}");
    }
    assert_eq!(seen, ["key 4", "key 3", "key 2", "key 1", "key 0"]);
}

#[tokio::test]
async fn another_tenants_key_is_not_there() {
    let app = TestApp::start().await;
    let (acme, other) = (app.tenant("acme").await, app.tenant("other").await);
    let key = acme.api_key(&["jobs:read"]).await;
    let id = key.get("/auth/me").await.expect(200)["data"]["api_key_id"].as_str().unwrap().to_owned();
    let absent = "00000000-0000-7000-8000-000000000001";
    let mut bodies = Vec::new();
    for id in [id.as_str(), absent] {
        other.owner.delete(&format!("/api-keys/{id}")).await.problem(404, "not_found");
        other.owner.post_empty(&format!("/api-keys/{id}/rotate")).await.problem(404, "not_found");
        let mut problem = other.owner.get(&format!("/api-keys/{id}")).await.problem(404, "not_found");
        problem["request_id"].take();
        bodies.push(problem);
    }
    assert_eq!(bodies[0], bodies[1]);
    assert_eq!(other.owner.get("/api-keys").await.expect(200)["data"], json!([]));
    key.get("/auth/me").await.expect(200);
}
