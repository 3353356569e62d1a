//! The tenant itself.

use millwork_shared::tenants::Role;
use reqwest::Method;
use serde_json::json;

use crate::support::{Reply, TestApp};

#[tokio::test]
async fn a_tenant_is_shown_and_changed_by_version() {
    let app = TestApp::start().await;
    let acme = app.tenant("acme").await;
    let shown = acme.member(Role::Viewer).await.get("/tenant").await.expect(200)["data"].clone();
    assert_eq!((&shown["id"], &shown["name"]), (&json!(acme.id), &json!("acme")));
    assert_eq!((&shown["strict_event_types"], &shown["plan"]), (&json!(false), &json!("starter")));

    let event = json!({ "type": "order.paid", "payload": 1 });
    acme.owner.post("/events", event.clone()).await.expect(202);
    let change = |version: &str| {
        let request = acme.owner.request(Method::PATCH, "/tenant").header("if-match", format!("\"{version}\""));
        Reply::of(request.json(&json!({ "name": " Acme Ltd ", "strict_event_types": true })))
    };
    change("9").await.problem(412, "version_stale");
    let changed = change("1").await.expect(200)["data"].clone();
    assert_eq!((&changed["name"], &changed["version"]), (&json!("Acme Ltd"), &json!(2)));
    acme.owner.post("/events", event).await.problem(422, "body_invalid");
    let half = acme.owner.patch("/tenant", json!({ "strict_event_types": false })).await.expect(200);
    assert_eq!((&half["data"]["name"], &half["data"]["strict_event_types"]), (&json!("Acme Ltd"), &json!(false)));
    acme.owner.patch("/tenant", json!({ "plan": "enterprise" })).await.problem(422, "body_invalid");
    let refused = acme.member(Role::Developer).await.patch("/tenant", json!({ "name": "x" })).await;
    assert_eq!(refused.problem(403, "permission_missing")["permission"], "tenant:write");

    let found = acme.owner.get("/audit-logs?action=tenant.updated").await.expect(200);
    assert_eq!(found["data"][1]["before"]["name"], "acme");
    assert_eq!(
        (&found["data"][1]["after"]["name"], &found["data"][1]["actor_id"]),
        (&json!("Acme Ltd"), &json!(acme.owner_id))
    );
}
