//! Who may do what.

use std::fmt::Write;

use millwork_shared::tenants::Role;
use serde_json::{Value, json};

use crate::support::{Reply, TestApp, operations};

/// Shown to people; a change there is a change of who may do what.
const PERMISSIONS: &str = include_str!("../../../docs/permissions.md");

#[tokio::test]
async fn the_page_on_permissions_is_what_the_server_says() {
    let app = TestApp::start().await;
    let acme = app.tenant("acme").await;
    let matrix = acme.owner.get("/permissions").await.expect(200)["data"].clone();
    let document = app.anonymous().get("/openapi.json").await.expect(200);
    let page = page(&matrix, &document);
    if page != PERMISSIONS {
        let fresh = concat!(env!("CARGO_TARGET_TMPDIR"), "/permissions.md");
        std::fs::write(fresh, &page).unwrap();
        panic!("docs/permissions.md is out of date; after a wanted change: cp {fresh} docs/permissions.md");
    }
}

const ROLES: [&str; 5] = ["owner", "admin", "developer", "support", "viewer"];

fn page(matrix: &Value, document: &Value) -> String {
    let mut page = String::from(
        "# Permissions\n\nGenerated: `GET /permissions` and the OpenAPI document say the same, and a test fails when this page\n\
         does not. A tenant's own role, or an API key, holds any of these that whoever makes it holds. Operations marked †\n\
         are also open to who holds `jobs:submit` and submitted the job. `owners:write` and\n\
         `personal_data:read` open no operation of their own: who holds the one may make and unmake owners, who holds the\n\
         other may export what is kept of somebody else.\n\n",
    );
    writeln!(page, "| Permission | {} | Operations |", ROLES.join(" | ")).unwrap();
    writeln!(page, "|---|{}---|", ":-:|".repeat(ROLES.len())).unwrap();
    for action in matrix.as_array().unwrap().iter().flat_map(|resource| resource["actions"].as_array().unwrap()) {
        let holds = |role: &&str| action["roles"].as_array().unwrap().iter().any(|holder| holder == role);
        let marks: Vec<_> = ROLES.iter().map(|role| if holds(role) { "✓" } else { "" }).collect();
        let mut operations: Vec<_> = operations(document)
            .iter()
            .filter(|(_, _, operation)| operation["x-permission"] == action["permission"])
            .map(|(_, _, operation)| {
                let id = operation["operationId"].as_str().unwrap();
                if operation.get("x-permission-of-maker").is_some() { format!("`{id}`†") } else { format!("`{id}`") }
            })
            .collect();
        operations.sort();
        let permission = action["permission"].as_str().unwrap();
        writeln!(page, "| `{permission}` | {} | {} |", marks.join(" | "), operations.join(", ")).unwrap();
    }
    page
}

fn billing() -> Value {
    json!({ "name": "Billing", "description": "Looks at what was used", "permissions": ["usage:read", "jobs:read"] })
}

#[tokio::test]
async fn a_tenant_makes_roles_of_its_own_and_keeps_those_that_every_tenant_has() {
    let app = TestApp::start().await;
    let acme = app.tenant("acme").await;
    let owner = &acme.owner;
    let reply = owner.post("/roles", billing()).await;
    let made = reply.expect(201)["data"].clone();
    let path = format!("/roles/{}", made["id"].as_str().unwrap());
    assert_eq!(reply.header("location"), format!("{}/api/v1{path}", app.url));
    assert_eq!((&made["built_in"], &made["version"]), (&json!(false), &json!(1)));
    assert_eq!(made["permissions"], json!(["jobs:read", "usage:read"]));
    assert_eq!(owner.get(&path).await.expect(200)["data"], made);

    let page = owner.get("/roles?limit=2").await.expect(200);
    assert_eq!((&page["data"][0], &page["data"][1]["name"]), (&made, &json!("owner")));
    let next = format!("/roles?limit=100&cursor={}", page["meta"]["next_cursor"].as_str().unwrap());
    let rest = owner.get(&next).await.expect(200);
    let names: Vec<_> = rest["data"].as_array().unwrap().iter().map(|role| role["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["admin", "developer", "support", "viewer"]);
    assert_eq!(rest["meta"]["next_cursor"], Value::Null);
    let matrix = owner.get("/permissions").await.expect(200)["data"].clone();
    let usage = matrix.as_array().unwrap().iter().find(|resource| resource["resource"] == "usage").unwrap();
    let holders = ["owner", "admin", "developer", "support", "viewer", "Billing"];
    assert_eq!(usage["actions"][0]["roles"], json!(holders));

    let built_in = format!("/roles/{}", page["data"][1]["id"].as_str().unwrap());
    assert_eq!(owner.get(&built_in).await.expect(200)["data"], page["data"][1]);
    owner.patch(&built_in, json!({ "description": "x" })).await.problem(409, "role_built_in");
    owner.delete(&built_in).await.problem(409, "role_built_in");

    let change = |version: &str, body: Value| {
        let request = owner.request(reqwest::Method::PATCH, &path).header("if-match", format!("\"{version}\""));
        Reply::of(request.json(&body))
    };
    change("7", json!({ "name": "Money" })).await.problem(412, "version_stale");
    let changed = change("1", json!({ "name": "Money", "permissions": ["usage:read"] })).await.expect(200);
    assert_eq!((&changed["data"]["name"], &changed["data"]["version"]), (&json!("Money"), &json!(2)));
    assert_eq!(changed["data"]["permissions"], json!(["usage:read"]));
    assert_eq!(changed["data"]["description"], "Looks at what was used");

    owner
        .post("/roles", json!({ "name": "MONEY", "permissions": ["jobs:read"] }))
        .await
        .problem(409, "role_name_taken");
    for (body, pointer) in [
        (json!({ "name": "Owner", "permissions": ["jobs:read"] }), "/name"),
        (json!({ "name": "x", "permissions": ["jobs:explode"] }), "/permissions/0"),
        (json!({ "name": "x", "permissions": [] }), "/permissions"),
    ] {
        let problem = owner.post("/roles", body).await.problem(422, "body_invalid");
        assert_eq!(problem["errors"][0]["pointer"], pointer, "{problem}");
    }
    owner.delete(&path).await.expect(204);
    owner.get(&path).await.problem(404, "not_found");

    let found = owner.get("/audit-logs?resource_type=role").await.expect(200);
    let actions: Vec<_> = found["data"].as_array().unwrap().iter().map(|entry| &entry["action"]).collect();
    assert_eq!(actions, ["role.deleted", "role.updated", "role.created"]);
    assert_eq!(found["data"][1]["before"]["permissions"], json!(["jobs:read", "usage:read"]));
    assert_eq!((&found["data"][1]["actor_id"], &found["data"][1]["ip"]), (&json!(acme.owner_id), &json!("127.0.0.1")));
}

#[tokio::test]
async fn a_tenant_has_a_bounded_number_of_roles() {
    let app = TestApp::start().await;
    let acme = app.tenant("acme").await;
    app.db
        .sql(format!(
            "insert into roles (id, tenant_id, name, permissions)
             select gen_random_uuid(), '{}', 'role ' || n, '{{jobs:read}}' from generate_series(1, 99) n",
            acme.id
        ))
        .await;
    acme.owner.post("/roles", billing()).await.expect(201);
    let one_more = json!({ "name": "one more", "permissions": ["jobs:read"] });
    acme.owner.post("/roles", one_more.clone()).await.problem(409, "too_many_roles");
    app.tenant("other").await.owner.post("/roles", one_more).await.expect(201);
}

#[tokio::test]
async fn a_change_of_a_role_counts_at_once_for_all_who_have_it_and_for_their_keys() {
    let app = TestApp::start().await;
    let acme = app.tenant("acme").await;
    let body = json!({ "name": "Clerk", "permissions": ["jobs:read", "api_keys:read", "api_keys:write"] });
    let role = acme.owner.post("/roles", body).await.expect(201)["data"]["id"].as_str().unwrap().to_owned();
    let clerk = acme.member(Role::Viewer).await;
    acme.give_roles(&clerk, json!(["Clerk"])).await.expect(200);
    let key = clerk.post("/api-keys", json!({ "name": "x", "permissions": ["jobs:read", "api_keys:write"] })).await;
    let key = app.bearer(key.expect(201)["data"]["secret"].as_str().unwrap());
    key.get("/jobs").await.expect(200);
    clerk.get("/jobs").await.expect(200);

    let path = format!("/roles/{role}");
    acme.owner.delete(&path).await.problem(409, "role_in_use");
    acme.owner.patch(&path, json!({ "permissions": ["api_keys:read"] })).await.expect(200);
    for client in [&clerk, &key] {
        assert_eq!(client.get("/jobs").await.problem(403, "permission_missing")["permission"], "jobs:read");
    }
    assert_eq!(key.get("/auth/me").await.expect(200)["data"]["permissions"], json!([]));
    acme.owner.patch(&path, json!({ "permissions": ["jobs:read"] })).await.expect(200);
    assert_eq!(key.get("/auth/me").await.expect(200)["data"]["permissions"], json!(["jobs:read"]), "as it was given");
}

#[tokio::test]
async fn nobody_makes_changes_or_deletes_a_role_that_holds_more_than_they_do() {
    let app = TestApp::start().await;
    let acme = app.tenant("acme").await;
    let body = json!({ "name": "Strong", "permissions": ["webhooks:secret"] });
    let strong = acme.owner.post("/roles", body).await.expect(201)["data"]["id"].as_str().unwrap().to_owned();
    let clerk = acme.api_key(&["roles:read", "roles:write", "jobs:read"]).await;
    let weak = clerk.post("/roles", json!({ "name": "Weak", "permissions": ["jobs:read"] })).await.expect(201);
    let weak = weak["data"]["id"].as_str().unwrap();
    let more = json!({ "permissions": ["jobs:read", "webhooks:secret"] });
    for reply in [
        clerk.post("/roles", json!({ "name": "x", "permissions": ["webhooks:secret"] })).await,
        clerk.patch(&format!("/roles/{weak}"), more).await,
        clerk.patch(&format!("/roles/{strong}"), json!({ "permissions": ["jobs:read"] })).await,
        clerk.patch(&format!("/roles/{strong}"), json!({ "name": "x" })).await,
        clerk.delete(&format!("/roles/{strong}")).await,
    ] {
        assert_eq!(reply.problem(403, "permission_missing")["permission"], "webhooks:secret");
    }
    let admin = acme.member(Role::Admin).await;
    let reply = admin.post("/roles", json!({ "name": "x", "permissions": ["owners:write"] })).await;
    assert_eq!(reply.problem(403, "permission_missing")["permission"], "owners:write");
    clerk.delete(&format!("/roles/{weak}")).await.expect(204);
}
