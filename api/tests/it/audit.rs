//! Who changed what.

use std::sync::Arc;
use std::time::Duration;

use millwork_api::audit::verify;
use millwork_shared::audit::jobs::{ExpireAudit, SealAudit};
use millwork_shared::infra::ids::JobId;
use millwork_shared::maintenance::PLATFORM;
use millwork_shared::tenants::Role;
use millwork_worker::audit::{expire, seal};
use millwork_worker::context::Context;
use millwork_worker::runtime::Run;
use millwork_worker::webhooks;
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{Client, Reply, Tenant, TestApp};

const DAY: Duration = Duration::from_secs(86_400);

impl TestApp {
    fn worker_context(&self) -> (Arc<Run>, Arc<Context>) {
        let webhooks = webhooks::Settings { schedule: "1h".parse().unwrap(), timeout: Duration::from_secs(5) };
        let context = Context::for_test(&self.db, self.app.keys.clone(), Default::default(), webhooks).unwrap();
        (Arc::new(Run::for_test(PLATFORM, JobId::generate())), Arc::new(context))
    }

    async fn seal_audit(&self) {
        let (run, context) = self.worker_context();
        seal::seal(SealAudit {}, run, context).await.unwrap();
    }

    async fn expire_audit(&self) {
        let (run, context) = self.worker_context();
        expire::expire(ExpireAudit {}, run, context).await.unwrap();
    }

    /// What `millwork-api audit verify` says, and whether it is content.
    async fn verify_audit(&self) -> (bool, String) {
        let mut out = Vec::new();
        let content = verify::run(&self.db.db, &self.app.keys, None, &mut out).await.is_ok();
        (content, String::from_utf8(out).unwrap())
    }

    /// As the owner, past the trigger that forbids it: what somebody with the server's superuser can do.
    async fn tamper(&self, sql: &str) {
        self.db
            .sql(format!(
                "alter table audit_logs disable trigger keep; {sql}; alter table audit_logs enable trigger keep"
            ))
            .await;
    }
}

async fn entries(client: &Client, filter: &str) -> Vec<Value> {
    client.get(&format!("/audit-logs?{filter}")).await.expect(200)["data"].as_array().unwrap().clone()
}

async fn webhook(tenant: &Tenant<'_>) -> String {
    let body = json!({ "url": "https://hooks.example/a", "event_types": ["*"], "headers": { "x-key": "hunter2" } });
    tenant.owner.post("/webhooks", body).await.expect(201)["data"]["id"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_change_says_who_made_it_from_where_and_shows_no_secret() {
    let app = TestApp::start().await;
    let acme = app.tenant("acme").await;
    let id = webhook(&acme).await;
    let change = acme.owner.request(Method::PATCH, &format!("/webhooks/{id}"));
    let change =
        change.header("if-match", "\"1\"").header("user-agent", "curl/9 'quoted' ü").header("x-request-id", "r-7");
    Reply::of(change.json(&json!({ "url": "https://hooks.example/b" }))).await.expect(200);

    let found = entries(&acme.owner, &format!("resource_id={id}&action=webhook.updated")).await;
    let [entry] = &found[..] else { panic!("{found:?}") };
    assert_eq!((&entry["actor_type"], &entry["actor_id"]), (&json!("user"), &json!(acme.owner_id)));
    assert_eq!((&entry["ip"], &entry["request_id"]), (&json!("127.0.0.1"), &json!("r-7")));
    assert_eq!((&entry["resource_type"], &entry["resource_id"]), (&json!("webhook"), &json!(id)));
    assert_eq!(entry["before"]["url"], "https://hooks.example/a");
    assert_eq!(entry["after"]["url"], "https://hooks.example/b");
    assert_eq!(entry["after"]["sealed_secret"], "[masked]");
    assert!(entry["created_at"].as_str().is_some_and(|at| at.starts_with("20")), "{entry}");

    let grace = json!({ "grace_s": 60 });
    acme.owner.post(&format!("/webhooks/{id}/rotate-secret"), grace).await.expect(200);
    acme.owner.get(&format!("/webhooks/{id}/secret")).await.expect(200);
    acme.owner.delete(&format!("/webhooks/{id}")).await.expect(204);
    let found = entries(&acme.owner, &format!("resource_id={id}")).await;
    let actions: Vec<_> = found.iter().map(|entry| entry["action"].as_str().unwrap()).collect();
    let all = ["webhook.deleted", "webhook.secret_shown", "webhook.updated", "webhook.updated", "webhook.created"];
    assert_eq!(actions, all);
    assert_eq!(found[2]["after"]["sealed_secret"], "[masked, changed]");
    let text = app.db.sql("select string_agg(a::text, '') from audit_logs a").await.remove(0).unwrap();
    for secret in ["hunter2", "whsec_", "argon2", "\\\\x"] {
        assert!(!text.contains(secret), "{secret} in {text}");
    }
}

#[tokio::test]
async fn signing_in_and_out_and_becoming_a_member_are_written_down() {
    let app = TestApp::start().await;
    let acme = app.tenant("acme").await;
    acme.member(Role::Viewer).await;
    acme.owner.post_empty("/auth/logout").await.expect(204);
    let body = json!({ "email": acme.email, "password": crate::support::PASSWORD });
    let session = app.anonymous().post("/auth/login", body).await.expect(200);
    let owner = app.bearer(session["data"]["access_token"].as_str().unwrap());
    let refresh = json!({ "refresh_token": session["data"]["refresh_token"] });
    app.anonymous().post("/auth/refresh", refresh).await.expect(200);

    let found = entries(&owner, "").await;
    let actions: Vec<_> = found.iter().map(|entry| entry["action"].as_str().unwrap()).collect();
    let expected = [
        "session.created", // not by the refresh
        "session.revoked",
        "session.created",
        "membership.created",
        "session.created",
        "membership.created",
        "tenant.created",
    ];
    assert_eq!(actions, expected);
    assert_eq!(found[0]["actor_id"], json!(acme.owner_id), "who signs in is who acts");
    assert_eq!(found[6]["actor_type"], "anonymous");
}

#[tokio::test]
async fn entries_come_in_pages_and_by_filter_to_those_who_may_see_them() {
    let app = TestApp::start().await;
    let (acme, other) = (app.tenant("acme").await, app.tenant("other").await);
    let reader = acme.api_key(&["audit_logs:read", "queues:write"]).await;
    let id = webhook(&acme).await;
    for verb in ["pause", "resume"] {
        reader.post_empty(&format!("/queues/email/{verb}")).await.expect(200);
    }
    let all = entries(&acme.owner, "").await;
    let (mut paged, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = acme.owner.get(&format!("/audit-logs?limit=2{cursor}")).await.expect(200);
        paged.extend(page["data"].as_array().unwrap().clone());
        let Some(next) = page["meta"]["next_cursor"].as_str() else { break };
        cursor = format!("&cursor={next}");
    }
    assert_eq!(paged, all);
    assert!(all.is_sorted_by(|a, b| a["id"].as_str() > b["id"].as_str()));

    let key = entries(&reader, "resource_type=api_key").await[0]["resource_id"].as_str().unwrap().to_owned();
    let by_key = entries(&reader, &format!("actor_id={key}")).await;
    assert_eq!(by_key.len(), 2, "{by_key:?}");
    assert!(by_key.iter().all(|entry| entry["actor_type"] == "api_key" && entry["resource_id"] == "email"));
    let at = entries(&reader, "action=webhook.created").await[0]["created_at"].as_str().unwrap().to_owned();
    let (from, to) = (entries(&reader, &format!("from={at}")).await, entries(&reader, &format!("to={at}")).await);
    assert_eq!(from.len() + to.len(), all.len());
    assert!(from.iter().any(|entry| entry["resource_id"] == json!(id)));
    let request = all[0]["request_id"].as_str().unwrap();
    assert_eq!(entries(&reader, &format!("request_id={request}")).await, [all[0].clone()]);

    assert!(entries(&other.owner, &format!("resource_id={id}")).await.is_empty());
    let developer = acme.member(Role::Developer).await;
    assert_eq!(developer.get("/audit-logs").await.problem(403, "permission_missing")["permission"], "audit_logs:read");
    reader.get(&format!("/audit-logs?action={}", "x".repeat(256))).await.problem(400, "parameter_invalid");
}

#[tokio::test]
async fn no_role_of_the_application_can_change_an_entry() {
    let app = TestApp::start().await;
    let acme = app.tenant("acme").await;
    let owner = app.db.owner().await;
    for role in ["millwork_tenant", "millwork_identity", "millwork_system", "current_user"] {
        for change in [
            "update audit_logs set action = 'nothing'",
            "update audit_logs set hash = null",
            "delete from audit_logs",
            "truncate audit_logs",
            "insert into audit_logs (tenant_id, id, actor_type, action, resource_type, seq, hash)
             values (current_tenant(), gen_random_uuid(), 'user', 'x', 'x', 1, '')",
        ] {
            if role == "current_user" && change.starts_with("insert") {
                continue; // which the chain shows
            }
            let role = if role == "current_user" { String::new() } else { format!("; set local role {role}") };
            let begin = format!("begin; set local app.tenant_id = '{}'{role}", acme.id);
            let mut tx = owner.begin_with(sqlx::AssertSqlSafe(begin)).await.unwrap();
            let error = sqlx::raw_sql(change).execute(&mut *tx).await.unwrap_err().to_string();
            assert!(
                error.contains("permission denied") || error.contains("only ever added"),
                "{role} {change}: {error}"
            );
        }
    }
}

#[tokio::test]
async fn whatever_is_done_to_a_sealed_entry_is_found() {
    let app = TestApp::start().await;
    let acme = app.tenant("acme").await;
    app.tenant("other").await;
    webhook(&acme).await;
    app.seal_audit().await;
    acme.owner.post_empty("/queues/email/pause").await.expect(200);
    app.seal_audit().await;
    acme.owner.post_empty("/queues/email/resume").await.expect(200);
    let (content, text) = app.verify_audit().await;
    assert!(content && text.contains("1 not sealed yet") && text.contains("2 tenants verified"), "{text}");

    let tenant = acme.id;
    for (deed, undo, says) in [
        ("set action = 'tenant.praised'", "set action = 'tenant.created'", "is not as it was when it was sealed"),
        ("set ip = '10.0.0.1'", "set ip = '127.0.0.1'", "is not as it was when it was sealed"),
        ("set prev_hash = hash", r"set prev_hash = decode(repeat('00', 32), 'hex')", "does not follow from"),
        ("set seq = 99", "set seq = 1", "places 1 to 1 are empty"),
    ] {
        app.tamper(&format!("update audit_logs {deed} where tenant_id = '{tenant}' and seq = 1")).await;
        let (content, text) = app.verify_audit().await;
        assert!(!content && text.contains(says), "{deed}: {text}");
        app.tamper(&format!("update audit_logs {undo} where tenant_id = '{tenant}' and seq in (1, 99)")).await;
        assert!(app.verify_audit().await.0, "{undo}");
    }

    let copy = format!(
        "insert into audit_logs select (a).* from (
        select jsonb_populate_record(a, jsonb_build_object('id', 'ffffffff-0000-7000-8000-000000000000')) as a from audit_logs a
         where tenant_id = '{tenant}' and seq = 2) c"
    );
    app.db.sql(&copy).await;
    let (content, text) = app.verify_audit().await;
    assert!(!content && text.contains("it was inserted"), "{text}");
    app.tamper(&format!(
        "delete from audit_logs where tenant_id = '{tenant}' and id = 'ffffffff-0000-7000-8000-000000000000'"
    ))
    .await;
    assert!(app.verify_audit().await.0);

    // The last one and the end of the chain with it, but without the key.
    let last = format!("(select max(seq) from audit_logs where tenant_id = '{tenant}')");
    app.tamper(&format!("delete from audit_logs where tenant_id = '{tenant}' and seq = {last}")).await;
    let (content, text) = app.verify_audit().await;
    assert!(!content && text.contains("entries were removed"), "{text}");
    app.db.sql(format!("update audit_chains set seq = seq - 1 where tenant_id = '{tenant}'")).await;
    let (content, text) = app.verify_audit().await;
    assert!(!content && text.contains("the end of the chain is not what was sealed"), "{text}");
    app.db.sql(format!("delete from audit_chains where tenant_id = '{tenant}'")).await;
    let (content, text) = app.verify_audit().await;
    assert!(!content && text.contains("there is no chain"), "{text}");
}

#[tokio::test]
async fn entries_leave_by_the_plan_and_the_chain_still_holds() {
    let app = TestApp::start().await;
    let (acme, pro) = (app.tenant("acme").await, app.tenant("pro").await);
    app.db.sql(format!("update tenants set plan = 'pro' where id = '{}'", pro.id)).await;
    app.seal_audit().await;
    let count = async |tenant: &Tenant<'_>| {
        let sql = format!("select count(*)::text from audit_logs where tenant_id = '{}'", tenant.id);
        app.db.sql(sql).await.remove(0).unwrap().parse::<i64>().unwrap()
    };
    let before = (count(&acme).await, count(&pro).await);
    assert!(before.0 >= 3 && before.1 > before.0);
    app.advance(DAY * 60).await;
    app.expire_audit().await;
    assert_eq!((count(&acme).await, count(&pro).await), before);

    app.advance(DAY * 65).await;
    app.expire_audit().await;
    assert_eq!((count(&acme).await, count(&pro).await), (0, before.1));
    assert!(app.verify_audit().await.0, "{}", app.verify_audit().await.1);
    acme.member(Role::Viewer).await;
    app.seal_audit().await;
    let (content, text) = app.verify_audit().await;
    assert!(content && text.contains(&format!("up to place {}", before.0 + 2)), "{text}");
    app.expire_audit().await;
    assert!(app.verify_audit().await.0, "{}", app.verify_audit().await.1);

    app.advance(DAY * 400).await;
    app.expire_audit().await;
    assert_eq!(count(&pro).await, 0);
    assert!(app.verify_audit().await.0, "{}", app.verify_audit().await.1);
}
