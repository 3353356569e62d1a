//! Publishing events, and declaring their types.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use futures::future::join_all;
use millwork_api::events::publish::{Draft, Reply as Publication};
use millwork_shared::events::queries::{self as events, Topic, TypeChange};
use millwork_shared::jobs::Cause;
use reqwest::Method;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::support::{Client, Reply, Tenant, TestApp};

/// An endpoint that wants these types; its id.
async fn endpoint(client: &Client, types: &[&str]) -> String {
    let body = json!({ "url": "https://example.com/hook", "event_types": types });
    client.post("/webhooks", body).await.expect(201)["data"]["id"].as_str().unwrap().to_owned()
}

async fn publish(client: &Client, event_type: &str) -> Value {
    client.post("/events", json!({ "type": event_type, "payload": {} })).await.expect(202)["data"].clone()
}

fn receivers(published: &Value) -> Vec<&str> {
    published["deliveries"].as_array().unwrap().iter().map(|d| d["webhook_id"].as_str().unwrap()).collect()
}

/// A UUIDv7 of that moment.
fn id_at(at: DateTime<Utc>) -> Uuid {
    let ms = u64::try_from(at.timestamp_millis()).unwrap();
    uuid::Builder::from_unix_timestamp_millis(ms, &rand::random()).into_uuid()
}

async fn count(app: &TestApp, table: &'static str) -> i64 {
    let sql = sqlx::AssertSqlSafe(format!("select count(*) from {table}"));
    sqlx::query_scalar(sql).fetch_one(&app.db.owner().await).await.unwrap()
}

#[tokio::test]
async fn an_event_goes_to_the_endpoints_that_want_its_type() {
    let app = TestApp::start().await;
    let (acme, other) = (app.tenant("acme").await, app.tenant("other").await);
    let exact = endpoint(&acme.owner, &["invoice.paid", "order.created"]).await;
    let prefix = endpoint(&acme.owner, &["order.*"]).await;
    let all = endpoint(&acme.owner, &["*"]).await;
    let (disabled, deleted) = (endpoint(&acme.owner, &["*"]).await, endpoint(&acme.owner, &["*"]).await);
    acme.owner.patch(&format!("/webhooks/{disabled}"), json!({ "enabled": false })).await.expect(200);
    acme.owner.delete(&format!("/webhooks/{deleted}")).await.expect(204);
    endpoint(&other.owner, &["*"]).await;

    for (event_type, wanted) in [
        ("order.created", vec![&exact, &prefix, &all]),
        ("order.line.added", vec![&prefix, &all]),
        ("order", vec![&all]),
        ("orders.created", vec![&all]),
        ("invoice.paid", vec![&exact, &all]),
    ] {
        let published = publish(&acme.owner, event_type).await;
        assert_eq!(receivers(&published), wanted, "{event_type}");
        for delivery in published["deliveries"].as_array().unwrap() {
            let job = acme.owner.get(&format!("/jobs/{}", delivery["id"].as_str().unwrap())).await.expect(200);
            assert_eq!((&job["data"]["kind"], &job["data"]["queue"]), (&json!("webhook.deliver"), &json!("webhooks")));
        }
    }
}

#[tokio::test]
async fn an_event_is_kept_as_it_was_sent() {
    let app = TestApp::start().await;
    let acme = app.tenant("acme").await;
    let payload = r#"{ "z":1.10, "a": 123456789012345678901234567890, "é": "\u00e9" }"#;
    let request = acme.owner.request(Method::POST, "/events").header("content-type", "application/json");
    let request = request.header("x-request-id", "req-7");
    let reply = Reply::of(request.body(format!(r#"{{"type":"a.b","payload":{payload}}}"#))).await;
    let id = reply.expect(202)["data"]["event"]["id"].as_str().unwrap().to_owned();
    assert_eq!(reply.header("location"), format!("{}/api/v1/events/{id}", app.url));
    assert!(reply.text().contains(payload), "{}", reply.text());
    let stored = acme.owner.get(&format!("/events/{id}")).await;
    assert!(stored.text().contains(payload), "{}", stored.text());
    let stored = stored.expect(200)["data"].clone();
    assert_eq!((&stored["type"], &stored["request_id"]), (&json!("a.b"), &json!("req-7")));
    assert_eq!(stored, reply.expect(202)["data"]["event"]);
}

#[tokio::test]
async fn events_are_listed_newest_first_by_page_and_filter() {
    let app = TestApp::start().await;
    let acme = app.tenant("acme").await;
    let mut ids = Vec::new();
    for n in 0..5 {
        let published = publish(&acme.owner, if n == 2 { "rare" } else { "common" }).await;
        ids.insert(0, published["event"]["id"].as_str().unwrap().to_owned());
    }
    let (mut seen, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = acme.owner.get(&format!("/events?limit=2{cursor}")).await.expect(200);
        let rows = page["data"].as_array().unwrap();
        assert!(rows.len() <= 2);
        seen.extend(rows.iter().map(|event| event["id"].as_str().unwrap().to_owned()));
        let Some(next) = page["meta"]["next_cursor"].as_str() else { break };
        cursor = format!("&cursor={next}");
    }
    assert_eq!(seen, ids);
    let rare = acme.owner.get("/events?type=rare").await.expect(200);
    assert_eq!(rare["data"].as_array().unwrap().len(), 1);
    let tomorrow = (app.app.clock.now() + TimeDelta::days(1)).format("%Y-%m-%dT%H:%M:%SZ");
    assert_eq!(acme.owner.get(&format!("/events?from={tomorrow}")).await.expect(200)["data"], json!([]));
    assert_eq!(
        acme.owner.get(&format!("/events?to={tomorrow}")).await.expect(200)["data"].as_array().unwrap().len(),
        5
    );
    acme.owner.get("/events?from=yesterday").await.problem(400, "parameter_invalid");
}

#[tokio::test]
async fn an_id_is_accepted_once_however_often_it_comes() {
    let app = TestApp::start().await;
    let acme = app.tenant("acme").await;
    endpoint(&acme.owner, &["*"]).await;
    let id = id_at(app.app.clock.now() - TimeDelta::hours(23));
    let body = |n: i32| json!({ "type": "a.b", "payload": { "n": n }, "id": id });
    let first = acme.owner.post("/events", body(0)).await.expect(202)["data"].clone();
    let again = acme.owner.post("/events", body(1)).await.expect(202)["data"].clone();
    assert_eq!((&again, &again["event"]["payload"]), (&first, &json!({ "n": 0 })));
    assert_eq!(first["event"]["id"], id.to_string());

    let fresh = id_at(app.app.clock.now());
    let at_once = (0..20).map(|_| acme.owner.post("/events", json!({ "type": "a.b", "payload": {}, "id": fresh })));
    let answers: Vec<_> = join_all(at_once).await.iter().map(|reply| reply.expect(202)["data"].clone()).collect();
    assert!(answers.iter().all(|answer| answer == &answers[0]), "{answers:?}");
    assert_eq!((count(&app, "events").await, count(&app, "webhook_deliveries").await), (2, 2));
    assert_eq!(count(&app, "jobs where kind = 'webhook.deliver'").await, 2);

    let other = app.tenant("other").await;
    let foreign = other.owner.post("/events", body(5)).await.expect(202)["data"].clone();
    assert_eq!((&foreign["event"]["payload"], &foreign["deliveries"]), (&json!({ "n": 5 }), &json!([])));
}

#[tokio::test]
async fn an_id_of_another_kind_or_another_day_is_refused() {
    let app = TestApp::start().await;
    let acme = app.tenant("acme").await;
    let now = app.app.clock.now();
    for id in [Uuid::new_v4(), Uuid::nil(), id_at(now - TimeDelta::hours(25)), id_at(now + TimeDelta::hours(25))] {
        let reply = acme.owner.post("/events", json!({ "type": "a.b", "payload": {}, "id": id })).await;
        assert_eq!(reply.problem(422, "body_invalid")["errors"][0]["pointer"], "/id", "{id}");
    }
    assert_eq!(count(&app, "events").await, 0);
}

#[tokio::test]
async fn what_does_not_fit_is_refused_with_every_fault() {
    let app = TestApp::start().await;
    let acme = app.tenant("acme").await;
    let pointers = |reply: Reply| {
        let problem = reply.problem(422, "body_invalid");
        let errors = problem["errors"].as_array().unwrap().iter();
        let mut pointers: Vec<_> = errors.map(|e| e["pointer"].as_str().unwrap().to_owned()).collect();
        pointers.dedup();
        pointers
    };
    assert_eq!(pointers(acme.owner.post("/events", json!({})).await), ["/type", "/payload"]);
    assert_eq!(pointers(acme.owner.post("/events", json!({ "type": "a", "payload": 1, "x": 1 })).await), ["/x"]);
    for name in ["", "a b", ".a", "a..b", "a.*", &"a".repeat(129)] {
        let body = json!({ "type": name, "payload": {}, "id": Uuid::nil() });
        assert_eq!(pointers(acme.owner.post("/events", body).await), ["/type", "/id"], "{name}");
    }
    let large = json!({ "type": "a", "payload": "x".repeat(256 * 1024 - 1) });
    assert_eq!(pointers(acme.owner.post("/events", large).await), ["/payload"]);
    let fits = json!({ "type": "a", "payload": "x".repeat(256 * 1024 - 2) });
    acme.owner.post("/events", fits).await.expect(202);
    let larger = json!({ "type": "a", "payload": "x".repeat(300 * 1024) });
    acme.owner.post("/events", larger).await.problem(413, "body_too_large");
    acme.owner.post("/events", json!({ "type": "a", "payload": "\u{0}" })).await.problem(400, "body_malformed");
    let mut deep = json!(1);
    for _ in 0..64 {
        deep = json!([deep]);
    }
    acme.owner.post("/events", json!({ "type": "a", "payload": deep })).await.problem(400, "body_too_deep");
    assert_eq!(count(&app, "events").await, 1);
}

#[tokio::test]
async fn an_idempotency_key_publishes_once() {
    let app = TestApp::start().await;
    let acme = app.tenant("acme").await;
    endpoint(&acme.owner, &["*"]).await;
    let body = || json!({ "type": "a.b", "payload": { "n": 1 } });
    let first = acme.owner.post_once("/events", "k1", body()).await;
    let second = acme.owner.post_once("/events", "k1", body()).await;
    first.expect(202);
    assert_eq!((second.status, &second.body), (first.status, &first.body));
    assert_eq!((first.header("idempotent-replayed"), second.header("idempotent-replayed")), ("", "true"));
    assert_eq!(second.header("location"), first.header("location"));
    acme.owner
        .post_once("/events", "k1", json!({ "type": "a.c", "payload": 1 }))
        .await
        .problem(422, "idempotency_key_reused");

    let at_once = join_all((0..20).map(|_| acme.owner.post_once("/events", "k2", body()))).await;
    assert!(at_once.iter().all(|reply| reply.status == 202 && reply.body == at_once[0].body));
    assert_eq!(at_once.iter().filter(|reply| reply.header("idempotent-replayed").is_empty()).count(), 1);
    assert_eq!((count(&app, "events").await, count(&app, "webhook_deliveries").await), (2, 2));
}

#[tokio::test]
async fn what_was_accepted_under_a_key_is_replayed_though_its_type_has_changed_since() {
    let app = TestApp::start().await;
    let acme = app.tenant("acme").await;
    let body = || json!({ "type": "a.b", "payload": { "n": "text" } });
    let first = acme.owner.post_once("/events", "k1", body()).await;
    first.expect(202);
    declare(&acme, json!({ "properties": { "n": { "type": "number" } } })).await;
    assert_eq!(acme.owner.post_once("/events", "k1", body()).await.body, first.body);
    acme.owner.post_once("/events", "k2", body()).await.problem(422, "body_invalid");
}

#[tokio::test]
async fn concurrent_publications_share_transactions() {
    let app = TestApp::start().await;
    let acme = app.tenant("acme").await;
    endpoint(&acme.owner, &["*"]).await;
    let draft = |n: i32| Draft {
        topic: Topic { tenant: acme.id, event_type: "a.b".into() },
        id: None,
        payload: RawValue::from_string(n.to_string()).unwrap(),
        cause: Cause::default(),
        key: None,
    };
    let replies = join_all((0..500).map(|n| app.app.publisher.publish(Arc::new(draft(n)), None))).await;
    assert!(replies.iter().all(|reply| matches!(reply, Ok(Publication::Answered(r)) if r.status == 202)));
    let owner = app.db.owner().await;
    let (events, transactions): (i64, i64) =
        sqlx::query_as("select count(*), count(distinct xmin::text) from events").fetch_one(&owner).await.unwrap();
    assert_eq!(events, 500);
    assert!(transactions <= 10, "{transactions} transactions");
    let apart: i64 = sqlx::query_scalar(
        "select count(*) from events e join webhook_deliveries d on d.event_id = e.id join job_live l on l.id = d.id
          where e.xmin::text <> d.xmin::text or d.xmin::text <> l.xmin::text",
    )
    .fetch_one(&owner)
    .await
    .unwrap();
    assert_eq!(apart, 0, "an event, its deliveries and their jobs commit together");
    assert_eq!(count(&app, "job_live where queue = 'webhooks'").await, 500);
}

#[tokio::test]
async fn a_busy_api_says_so_instead_of_growing() {
    let app = TestApp::start().await;
    let acme = app.tenant("acme").await;
    let owner = app.db.owner().await;
    let mut held = owner.begin_with("begin; lock table events in access exclusive mode").await.unwrap();
    let payload = RawValue::from_string(format!("\"{}\"", "x".repeat(200 * 1024))).unwrap();
    let topic = Topic { tenant: acme.id, event_type: "a.b".into() };
    let draft = Arc::new(Draft { topic, id: None, payload, cause: Cause::default(), key: None });
    let mut waiting: Vec<_> = (0..400).map(|_| Box::pin(app.app.publisher.publish(draft.clone(), None))).collect();
    let mut refused = 0;
    waiting.retain_mut(|publication| match futures::FutureExt::now_or_never(publication) {
        Some(Err(error)) => {
            assert_eq!(error.status(), 503);
            refused += 1;
            false
        }
        Some(Ok(reply)) => panic!("{reply:?}"),
        None => true,
    });
    assert_eq!(refused, 400 - 64 * 1024 / 201);
    sqlx::query("select 1").execute(&mut *held).await.unwrap();
    held.rollback().await.unwrap();
    for reply in join_all(waiting).await {
        assert!(matches!(reply, Ok(Publication::Answered(_))), "{reply:?}");
    }
    app.app.publisher.publish(draft, None).await.unwrap();
}

async fn declare(tenant: &Tenant<'_>, schema: Value) -> Value {
    let body = json!({ "name": "a.b", "description": "A test", "schema": schema });
    tenant.owner.post("/event-types", body).await.expect(201)["data"].clone()
}

#[tokio::test]
async fn a_payload_must_fit_the_schema_of_its_type() {
    let app = TestApp::start().await;
    let acme = app.tenant("acme").await;
    let lines = json!({ "type": "array", "items": { "type": "object", "required": ["sku"] } });
    declare(&acme, json!({ "type": "object", "required": ["id"], "properties": { "lines": lines } })).await;
    let send = |payload: Value| acme.owner.post("/events", json!({ "type": "a.b", "payload": payload }));
    send(json!({ "id": 1, "lines": [{ "sku": "x" }] })).await.expect(202);
    let problem = send(json!({ "lines": [{ "sku": "x" }, {}] })).await.problem(422, "body_invalid");
    let mut pointers: Vec<_> = problem["errors"].as_array().unwrap().iter().map(|e| e["pointer"].clone()).collect();
    pointers.sort_by_key(Value::to_string);
    assert_eq!(pointers, ["/payload", "/payload/lines/1"]);
    publish(&acme.owner, "a.c").await;
    let other = app.tenant("other").await;
    publish(&other.owner, "a.b").await;
}

#[tokio::test]
async fn a_schema_that_another_process_changed_counts_at_once() {
    let app = TestApp::start().await;
    let acme = app.tenant("acme").await;
    declare(&acme, json!({ "type": "object" })).await;
    let send = |payload: Value| acme.owner.post("/events", json!({ "type": "a.b", "payload": payload }));
    send(json!({})).await.expect(202);
    send(json!(1)).await.problem(422, "body_invalid");

    let change = async |schema: Option<&str>| {
        let mut tx = app.db.db.tenant(acme.id).await.unwrap();
        let change = TypeChange { description: None, schema: Some(schema.map(str::to_owned)) };
        events::update_type(&mut tx, "a.b", &change).await.unwrap();
        tx.commit().await.unwrap();
    };
    change(Some(r#"{"type":"number"}"#)).await;
    send(json!({})).await.problem(422, "body_invalid");
    send(json!(1)).await.expect(202);
    change(None).await;
    send(json!("anything")).await.expect(202);
    change(Some(r#"{"type":"number"}"#)).await;
    send(json!("anything")).await.problem(422, "body_invalid");
    acme.owner.delete("/event-types/a.b").await.expect(204);
    send(json!("anything")).await.expect(202);
    declare(&acme, json!({ "type": "boolean" })).await;
    send(json!("anything")).await.problem(422, "body_invalid");
}

#[tokio::test]
async fn a_strict_tenant_refuses_types_it_did_not_declare() {
    let app = TestApp::start().await;
    let acme = app.tenant("acme").await;
    acme.owner.post("/event-types", json!({ "name": "known" })).await.expect(201);
    sqlx::query("update tenants set strict_event_types = true where id = $1")
        .bind(acme.id.0)
        .execute(&app.db.owner().await)
        .await
        .unwrap();
    publish(&acme.owner, "known").await;
    let reply = acme.owner.post("/events", json!({ "type": "unknown", "payload": {} })).await;
    let problem = reply.problem(422, "body_invalid");
    assert_eq!(
        (&problem["errors"][0]["pointer"], &problem["errors"][0]["code"]),
        (&json!("/type"), &json!("event_type_unknown"))
    );
}

#[tokio::test]
async fn event_types_are_declared_changed_and_deleted() {
    let app = TestApp::start().await;
    let acme = app.tenant("acme").await;
    let created = declare(&acme, json!({ "type": "object" })).await;
    assert_eq!((&created["version"], &created["schema"]), (&json!(1), &json!({ "type": "object" })));
    acme.owner.post("/event-types", json!({ "name": "a.b" })).await.problem(409, "event_type_exists");

    let patch = |tag: &str, body: Value| {
        Reply::of(acme.owner.request(Method::PATCH, "/event-types/a.b").header("if-match", tag).json(&body))
    };
    patch("\"2\"", json!({ "description": "x" })).await.problem(412, "version_stale");
    let changed = patch("\"1\"", json!({ "description": "x" })).await.expect(200)["data"].clone();
    assert_eq!((&changed["version"], &changed["description"]), (&json!(2), &json!("x")));
    assert_eq!(changed["schema"], json!({ "type": "object" }), "what is left out stays");
    let changed = patch("\"2\"", json!({ "schema": null })).await.expect(200)["data"].clone();
    assert_eq!((&changed["schema"], &changed["description"]), (&Value::Null, &json!("x")));

    let bad = json!({ "name": "c", "schema": { "properties": { "a": { "type": "strnig" } } } });
    let problem = acme.owner.post("/event-types", bad).await.problem(422, "body_invalid");
    assert_eq!(problem["errors"][0]["pointer"], "/schema/properties/a/type");
    let away = json!({ "schema": { "$ref": "https://example.com/schema.json" } });
    let problem = patch("*", away).await.problem(422, "body_invalid");
    assert_eq!(problem["errors"][0]["pointer"], "/schema/$ref");

    acme.owner.post("/event-types", json!({ "name": "z" })).await.expect(201);
    let page = acme.owner.get("/event-types?limit=1").await.expect(200);
    assert_eq!(page["data"][0]["name"], "z");
    let next = format!("/event-types?limit=1&cursor={}", page["meta"]["next_cursor"].as_str().unwrap());
    let page = acme.owner.get(&next).await.expect(200);
    assert_eq!((&page["data"][0]["name"], &page["meta"]["next_cursor"]), (&json!("a.b"), &Value::Null));

    acme.owner.delete("/event-types/a.b").await.expect(204);
    for reply in [
        acme.owner.get("/event-types/a.b").await,
        acme.owner.delete("/event-types/a.b").await,
        acme.owner.patch("/event-types/a.b", json!({})).await,
        acme.owner.get("/event-types/no%20name").await,
    ] {
        reply.problem(404, "not_found");
    }
}

#[tokio::test]
async fn a_stranger_sees_nothing_and_a_viewer_writes_nothing() {
    let app = TestApp::start().await;
    let (acme, other) = (app.tenant("acme").await, app.tenant("other").await);
    declare(&acme, json!({})).await;
    let event = publish(&acme.owner, "a.c").await["event"]["id"].as_str().unwrap().to_owned();
    other.owner.get(&format!("/events/{event}")).await.problem(404, "not_found");
    other.owner.get("/event-types/a.b").await.problem(404, "not_found");
    other.owner.patch("/event-types/a.b", json!({})).await.problem(404, "not_found");
    other.owner.delete("/event-types/a.b").await.problem(404, "not_found");
    assert_eq!(other.owner.get("/events").await.expect(200)["data"], json!([]));

    let nobody = acme.api_key(&["jobs:read"]).await;
    let body = || json!({ "type": "a", "payload": 1 });
    for (reply, permission) in [
        (nobody.post("/events", body()).await, "events:publish"),
        (nobody.get("/events").await, "events:read"),
        (nobody.get(&format!("/events/{event}")).await, "events:read"),
        (nobody.get("/event-types").await, "event_types:read"),
        (nobody.get("/event-types/a.b").await, "event_types:read"),
        (nobody.post("/event-types", json!({ "name": "x" })).await, "event_types:write"),
        (nobody.patch("/event-types/a.b", json!({})).await, "event_types:write"),
        (nobody.delete("/event-types/a.b").await, "event_types:write"),
    ] {
        assert_eq!(reply.problem(403, "permission_missing")["permission"], permission);
    }
    app.anonymous().post("/events", body()).await.problem(401, "unauthenticated");
    let publisher = acme.api_key(&["events:publish"]).await;
    publisher.post("/events", body()).await.expect(202);
}

#[tokio::test]
async fn an_event_published_while_the_database_restarts_is_refused_and_not_half_stored() {
    let app = TestApp::start().await;
    let acme = app.tenant("acme").await;
    endpoint(&acme.owner, &["*"]).await;
    let owner = app.db.owner().await;
    let held = owner.begin_with("begin; lock table webhook_deliveries in access exclusive mode").await.unwrap();
    let publication = millwork_shared::infra::tasks::spawn("publication", {
        let client = acme.owner.clone();
        async move { client.post("/events", json!({ "type": "a.b", "payload": {} })).await }
    });
    let waits = "select pid from pg_stat_activity where wait_event_type = 'Lock' and datname = current_database()";
    let pid: i32 = loop {
        if let Some(pid) = sqlx::query_scalar(waits).fetch_optional(&owner).await.unwrap() {
            break pid;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    };
    sqlx::query("select pg_terminate_backend($1)").bind(pid).execute(&owner).await.unwrap();
    publication.await.unwrap().unwrap().problem(503, "unavailable");
    held.rollback().await.unwrap();
    assert_eq!((count(&app, "events").await, count(&app, "webhook_deliveries").await), (0, 0));
    publish(&acme.owner, "a.b").await;
}
