//! Tenants: seeing them, their plan and quotas, suspending and resuming them.

use std::time::Duration;

use millwork_api::quotas::settings::QuotaSettings;
use millwork_shared::jobs::queries;
use reqwest::Method;
use serde_json::{Value, json};

use super::{EMAIL, entries, find, staff};
use crate::support::{Options, PASSWORD, Reply, TestApp};

#[tokio::test]
async fn tenants_are_listed_by_what_is_asked_for() {
    let app = TestApp::start().await;
    let client = staff(&app, EMAIL).await;
    let (acme, beta) = (app.tenant("acme").await, app.tenant("beta").await);
    let all = client.get("/admin/tenants").await.expect(200);
    let ids: Vec<_> = all["data"].as_array().unwrap().iter().map(|tenant| tenant["id"].clone()).collect();
    assert_eq!(ids, [json!(beta.id.to_string()), json!(acme.id.to_string())], "newest first, and not the platform");
    let first = client.get("/admin/tenants?limit=1").await.expect(200);
    let next = format!("/admin/tenants?limit=1&cursor={}", first["meta"]["next_cursor"].as_str().unwrap());
    assert!(find(&client.get(&next).await.expect(200), &acme.id.to_string()).is_some());
    client.patch(&format!("/admin/tenants/{}", acme.id), json!({ "plan": "pro" })).await.expect(200);
    for (query, expected) in [
        ("plan=pro", vec![acme.id]),
        ("plan=enterprise", vec![]),
        ("name=BE", vec![beta.id]),
        ("name=%25", vec![]),
        ("suspended=true", vec![]),
        ("suspended=false&name=ac", vec![acme.id]),
    ] {
        let found = client.get(&format!("/admin/tenants?{query}")).await.expect(200);
        let found: Vec<_> = found["data"].as_array().unwrap().iter().map(|tenant| tenant["id"].clone()).collect();
        let expected: Vec<_> = expected.iter().map(|id| json!(id.to_string())).collect();
        assert_eq!(found, expected, "{query}");
    }
    client.get("/admin/tenants?plan=gold").await.problem(400, "parameter_invalid");
    let details = client.get(&format!("/admin/tenants/{}", acme.id)).await.expect(200)["data"].clone();
    assert_eq!((&details["members"], &details["owners"]), (&json!(1), &json!([acme.email])));
    for absent in ["00000000-0000-7000-8000-000000000000", "00000000-0000-7000-8000-000000000009"] {
        client.get(&format!("/admin/tenants/{absent}")).await.problem(404, "not_found");
        let suspend = client.post(&format!("/admin/tenants/{absent}/suspend"), json!({ "reason": "x" })).await;
        suspend.problem(404, "not_found");
    }
}

#[tokio::test]
async fn a_plan_is_changed_for_who_has_seen_the_present_one_and_the_tenant_reads_who_did() {
    let app = TestApp::start().await;
    let client = staff(&app, EMAIL).await;
    let acme = app.tenant("acme").await;
    let path = format!("/admin/tenants/{}", acme.id);
    let change = |version: &str, plan: &str| {
        let request = client.request(Method::PATCH, &path).header("if-match", version).json(&json!({ "plan": plan }));
        async move { Reply::of(request).await }
    };
    change("\"2\"", "pro").await.problem(412, "version_stale");
    assert_eq!(change("\"1\"", "pro").await.expect(200)["data"]["version"], 2);
    let problem = change("\"2\"", "gold").await.problem(422, "body_invalid");
    assert_eq!(problem["errors"][0]["pointer"], "/plan");
    assert_eq!(acme.owner.get("/quotas").await.expect(200)["data"]["plan"], "pro");
    let entry = acme.owner.get("/audit-logs?action=tenant.updated").await.expect(200)["data"][0].clone();
    assert_eq!((&entry["actor_type"], &entry["after"]["plan"]), (&json!("staff"), &json!("pro")));
    let me = client.get("/admin/me").await.expect(200);
    assert_eq!(entry["actor_id"], me["data"]["id"]);
}

#[tokio::test]
async fn a_tenant_may_be_allowed_more_or_less_than_its_plan() {
    let quotas: QuotaSettings = "starter=3/5/5".parse().unwrap();
    let app = TestApp::start_with(Options { quotas, ..Options::default() }).await;
    let client = staff(&app, EMAIL).await;
    let acme = app.tenant("acme").await;
    let path = format!("/admin/tenants/{}/quotas", acme.id);
    let put = |version: &str, body: Value| {
        let request = client.request(Method::PUT, &path).header("if-match", version).json(&body);
        async move { Reply::of(request).await }
    };
    let submit = async |status: u16| {
        acme.owner.post("/jobs", json!({ "kind": "echo", "payload": 1 })).await.expect(status);
    };
    for _ in 0..3 {
        submit(202).await;
    }
    submit(429).await;
    let set = put("\"0\"", json!({ "jobs": 4 })).await.expect(200)["data"].clone();
    assert_eq!((&set["jobs"], &set["events"], &set["overrides"]["events"]), (&json!(4), &json!(5), &Value::Null));
    submit(202).await;
    submit(429).await;
    assert_eq!(acme.owner.get("/quotas").await.expect(200)["data"]["jobs"]["limit"], 4);
    put("\"0\"", json!({})).await.problem(412, "version_stale");
    put("\"1\"", json!({ "jobs": 0 })).await.expect(200);
    submit(429).await;
    put("\"2\"", json!({ "jobs": null })).await.expect(200);
    assert_eq!(acme.owner.get("/quotas").await.expect(200)["data"]["jobs"]["limit"], 3);
    put("\"3\"", json!({ "jobs": -1 })).await.problem(422, "body_invalid");
    let told = entries(&app, &format!("tenant_id = '{}' and resource_type = 'tenant_quota'", acme.id)).await;
    assert_eq!(told, ["tenant_quota.created staff", "tenant_quota.updated staff", "tenant_quota.updated staff"]);
}

#[tokio::test]
async fn a_suspended_tenant_is_out_at_once_in_every_process_and_in_again_when_it_is_resumed() {
    let app = TestApp::start().await;
    let (_other, url) = app.another(Options::default()).await;
    let client = staff(&app, EMAIL).await;
    let (acme, beta) = (app.tenant("acme").await, app.tenant("beta").await);
    let key = acme.api_key(&["jobs:read"]).await;
    let elsewhere = crate::support::Client::new(&url, acme.owner.token.clone());
    let clients = [&acme.owner, &key, &elsewhere];
    for client in clients {
        client.get("/jobs").await.expect(200); // remembered from here on
    }
    let path = format!("/admin/tenants/{}", acme.id);
    let reason = json!({ "reason": "unpaid" });
    let row = client.post(&format!("{path}/suspend"), reason.clone()).await.expect(200)["data"].clone();
    assert!(row["suspended_at"].is_string() && row["suspension_reason"] == "unpaid", "{row}");
    client.post(&format!("{path}/suspend"), reason).await.problem(409, "tenant_suspended");
    for client in [&acme.owner, &key] {
        client.get("/jobs").await.problem(403, "tenant_suspended");
    }
    // The other process hears of it by Redis, at the latest it looks again within seconds.
    let waited = async { while elsewhere.get("/jobs").await.status != 403 {} };
    tokio::time::timeout(Duration::from_secs(4), waited).await.expect("the news do not arrive");
    let login = json!({ "email": acme.email, "password": PASSWORD });
    app.anonymous().post("/auth/login", login.clone()).await.problem(403, "tenant_suspended");
    let refresh = json!({ "refresh_token": acme.refresh_token });
    app.anonymous().post("/auth/refresh", refresh.clone()).await.problem(403, "tenant_suspended");
    beta.owner.get("/jobs").await.expect(200);

    client.post_empty(&format!("{path}/resume")).await.expect(200);
    client.post_empty(&format!("{path}/resume")).await.problem(409, "tenant_not_suspended");
    for client in [&acme.owner, &key] {
        client.get("/jobs").await.expect(200);
    }
    app.anonymous().post("/auth/login", login).await.expect(200);
    app.anonymous().post("/auth/refresh", refresh).await.expect(200);
    let told = entries(&app, &format!("tenant_id = '{}' and resource_type = 'tenant'", acme.id)).await;
    assert_eq!(told, ["tenant.created anonymous", "tenant.updated staff", "tenant.updated staff"]);
}

#[tokio::test]
async fn jobs_of_a_suspended_tenant_wait_and_none_is_lost() {
    let app = TestApp::start().await;
    let client = staff(&app, EMAIL).await;
    let (acme, beta) = (app.quiet_tenant("acme").await, app.quiet_tenant("beta").await);
    acme.owner.post_empty("/queues/files/pause").await.expect(200);
    let path = format!("/admin/tenants/{}", acme.id);
    let (_worker, _scheduler) = (app.worker(), app.scheduler());
    let before = acme.owner.submit(json!({ "kind": "echo", "payload": 1, "delay_s": 120 })).await;
    client.post(&format!("{path}/suspend"), json!({ "reason": "unpaid" })).await.expect(200);
    app.advance(Duration::from_secs(180)).await;
    // What comes after it in the same queue is done.
    let other = beta.owner.submit(json!({ "kind": "echo", "payload": 2 })).await;
    beta.owner.until(&other, "succeeded").await;
    let waiting = format!("select count(*)::text from job_live where id = '{before}' and attempt = 0");
    assert_eq!(app.db.sql(waiting).await, [Some("1".to_owned())]);
    client.post_empty(&format!("{path}/resume")).await.expect(200);
    acme.owner.until(&before, "succeeded").await;
    let mut tx = app.db.db.tenant(acme.id).await.unwrap();
    let paused = queries::list_pauses(&mut tx).await.unwrap();
    assert_eq!(paused.len(), 1, "its own pause stays");
}

#[tokio::test]
async fn the_tenant_itself_lifts_no_suspension() {
    let app = TestApp::start().await;
    let client = staff(&app, EMAIL).await;
    let acme = app.tenant("acme").await;
    client.post(&format!("/admin/tenants/{}/suspend", acme.id), json!({ "reason": "x" })).await.expect(200);
    let mut tx = app.db.db.tenant(acme.id).await.unwrap();
    let lifted = sqlx::query("update tenants set suspended_at = null").execute(&mut *tx).await;
    assert!(lifted.unwrap_err().to_string().contains("does not lift"), "the door lets it through");
}
