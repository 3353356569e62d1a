//! Endpoints, their secrets, and the deliveries to them, with a worker and real receivers where it matters.

use std::time::Duration;

use millwork_shared::egress::AllowedNets;
use millwork_shared::infra::ids::WebhookId;
use millwork_shared::tenants::Role;
use millwork_shared::testing::{HttpReceiver, Received, Reply as Answer};
use millwork_shared::webhooks::queries;
use reqwest::Method;
use reqwest::header::HeaderMap;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::support::{Client, Options, Reply, TestApp};

/// An API that accepts loopback as a receiver.
async fn local() -> TestApp {
    TestApp::start_with(Options { nets: "127.0.0.0/8".parse().unwrap(), ..Options::default() }).await
}

async fn create(client: &Client, body: Value) -> Value {
    client.post("/webhooks", body).await.expect(201)["data"].clone()
}

fn id(of: &Value) -> String {
    of["id"].as_str().unwrap().to_owned()
}

fn verified(received: &Received, secret: &Value) -> bool {
    let headers: HeaderMap = received.headers.iter().map(|(n, v)| (n.parse().unwrap(), v.parse().unwrap())).collect();
    standardwebhooks::Webhook::new(secret.as_str().unwrap()).unwrap().verify(&received.body, &headers).is_ok()
}

/// The delivery once it is in `state`.
async fn until(client: &Client, delivery: &str, state: &str) -> Value {
    for _ in 0..2_000 {
        let found = client.get(&format!("/deliveries/{delivery}")).await.expect(200)["data"].clone();
        if found["state"] == state {
            return found;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("{delivery} did not become {state}");
}

#[tokio::test]
async fn a_webhook_is_created_shown_changed_and_deleted() {
    let app = TestApp::start().await;
    let acme = app.tenant("acme").await;
    let body = json!({
        "url": "https://example.com/hook", "description": "Orders", "event_types": ["order.*", "invoice.paid"],
        "rate_limit_per_s": 5, "headers": {"X-Api-Key": "s3cret"}, "metadata": {"team": "blue", "n": 1.50},
    });
    let reply = acme.owner.post("/webhooks", body).await;
    let created = reply.expect(201)["data"].clone();
    let path = format!("/webhooks/{}", id(&created));
    assert_eq!(reply.header("location"), format!("{}/api/v1{path}", app.url));
    assert!(created["secret"].as_str().unwrap().starts_with("whsec_"));
    assert_eq!((&created["enabled"], &created["version"]), (&json!(true), &json!(1)));

    let shown = acme.owner.get(&path).await;
    assert!(!shown.text().contains("s3cret") && !shown.text().contains("whsec_"), "{}", shown.text());
    let shown = shown.expect(200)["data"].clone();
    assert_eq!(shown["headers"], json!({"X-Api-Key": "********"}));
    assert_eq!(shown["metadata"], json!({"team": "blue", "n": 1.50}));
    assert_eq!(acme.owner.get("/webhooks").await.expect(200)["data"], json!([shown]));
    let secret = acme.owner.get(&format!("{path}/secret")).await.expect(200)["data"].clone();
    assert_eq!((&secret["secret"], &secret["old_secret_until"]), (&created["secret"], &Value::Null));

    let patch = |tag: &str, body: Value| {
        Reply::of(acme.owner.request(Method::PATCH, &path).header("if-match", tag).json(&body))
    };
    patch("\"7\"", json!({ "enabled": false })).await.problem(412, "version_stale");
    let body = json!({ "enabled": false, "rate_limit_per_s": null, "headers": null, "url": "http://example.org" });
    let changed = patch("\"1\"", body).await.expect(200)["data"].clone();
    assert_eq!(
        (&changed["enabled"], &changed["rate_limit_per_s"], &changed["headers"]),
        (&json!(false), &Value::Null, &json!({}))
    );
    assert_eq!((&changed["url"], &changed["version"]), (&json!("http://example.org"), &json!(2)));
    assert_eq!(
        (&changed["description"], &changed["metadata"]),
        (&json!("Orders"), &shown["metadata"]),
        "left out, so left"
    );
    assert!(changed["disabled_at"].is_string() && changed["disabled_reason"].is_null());
    let changed = patch("\"2\"", json!({ "enabled": true, "metadata": null })).await.expect(200)["data"].clone();
    assert_eq!((&changed["disabled_at"], &changed["metadata"]), (&Value::Null, &Value::Null));

    acme.owner.delete(&path).await.expect(204);
    for reply in [
        acme.owner.get(&path).await,
        acme.owner.get(&format!("{path}/secret")).await,
        acme.owner.get(&format!("{path}/deliveries")).await,
        acme.owner.patch(&path, json!({})).await,
        acme.owner.post_empty(&format!("{path}/test")).await,
        acme.owner.post(&format!("{path}/rotate-secret"), json!({})).await,
        acme.owner.delete(&path).await,
    ] {
        reply.problem(404, "not_found");
    }
    assert_eq!(acme.owner.get("/webhooks").await.expect(200)["data"], json!([]));
}

#[tokio::test]
async fn every_fault_of_an_endpoint_is_told_at_once() {
    let app = TestApp::start().await;
    let acme = app.tenant("acme").await;
    let existing = id(&create(&acme.owner, json!({ "url": "https://example.com" })).await);
    let body = json!({
        "url": "http://user:pw@169.254.169.254/", "event_types": ["ok", "a b", "*.x"],
        "headers": {"Host": "x", "content-type": "y", "webhook-id": "1", "x-ok": "1", "x\n": "1", "x-v": "a\r\nb"},
        "metadata": [1],
    });
    for reply in [
        acme.owner.post("/webhooks", body.clone()).await,
        acme.owner.patch(&format!("/webhooks/{existing}"), body).await,
    ] {
        let problem = reply.problem(422, "body_invalid");
        let mut pointers: Vec<_> = problem["errors"].as_array().unwrap().iter().map(|e| e["pointer"].clone()).collect();
        pointers.sort_by_key(|pointer| pointer.as_str().unwrap().to_owned());
        assert_eq!(
            pointers,
            [
                "/event_types/1",
                "/event_types/2",
                "/headers/Host",
                "/headers/content-type",
                "/headers/webhook-id",
                "/headers/x\n",
                "/headers/x-v",
                "/metadata",
                "/url"
            ]
        );
    }
    for (body, pointer) in [
        (json!({}), "/url"),
        (json!({ "url": "https://example.com", "rate_limit_per_s": 0 }), "/rate_limit_per_s"),
        (json!({ "url": "https://example.com", "event_types": [] }), "/event_types"),
        (json!({ "url": "https://example.com", "event_types": vec!["a"; 101] }), "/event_types"),
        (json!({ "url": "https://example.com", "secret": "whsec_mine" }), "/secret"),
        (json!({ "url": "https://example.com", "metadata": {"a": "x".repeat(5_000)} }), "/metadata"),
        (json!({ "url": "https://example.com", "description": "x".repeat(1_001) }), "/description"),
        (json!({ "url": format!("https://example.com/{}", "x".repeat(2_048)) }), "/url"),
    ] {
        let problem = acme.owner.post("/webhooks", body).await.problem(422, "body_invalid");
        assert_eq!(problem["errors"][0]["pointer"], pointer, "{problem}");
    }
}

#[tokio::test]
async fn a_private_address_is_registered_only_where_the_operator_allows_it() {
    for (nets, url, code) in [
        ("", "http://127.0.0.1:9000/", "url_private_address"),
        ("", "http://localhost/", "url_private_address"),
        ("", "http://[::ffff:10.0.0.1]/", "url_private_address"),
        ("", "http://2130706433/", "url_private_address"),
        ("", "https://u@example.com/", "url_credentials"),
        ("", "ftp://example.com/", "url_scheme"),
        ("127.0.0.0/8", "http://10.0.0.1/", "url_private_address"),
        ("127.0.0.0/8", "http://127.0.0.1:9000/", ""),
    ] {
        let nets: AllowedNets = nets.parse().unwrap();
        let app = TestApp::start_with(Options { nets, ..Options::default() }).await;
        let acme = app.tenant("acme").await;
        let reply = acme.owner.post("/webhooks", json!({ "url": url })).await;
        let job = json!({ "kind": "http.request", "payload": { "url": url, "method": "GET" } });
        let job = acme.owner.post("/jobs", job).await;
        if code.is_empty() {
            reply.expect(201);
            job.expect(202);
        } else {
            assert_eq!(reply.problem(422, "body_invalid")["errors"][0]["code"], code, "{url}");
            assert_eq!(job.problem(422, "body_invalid")["errors"][0]["pointer"], "/payload/url", "{url}");
        }
    }
}

#[tokio::test]
async fn an_event_is_delivered_and_every_attempt_can_be_looked_at() {
    let app = local().await;
    let acme = app.tenant("acme").await;
    let receiver = HttpReceiver::answering([Answer::Full {
        status: 201,
        headers: vec![("x-trace".into(), "t1".into())],
        body: b"thanks".to_vec(),
    }])
    .await;
    let webhook = create(&acme.owner, json!({ "url": receiver.url("/in"), "headers": {"X-Key": "k"} })).await;
    let _worker = app.worker();

    let traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let request = acme.owner.request(Method::POST, "/events").header("traceparent", traceparent);
    let body = json!({ "type": "order.created", "payload": { "amount": 5 } });
    let published = Reply::of(request.json(&body)).await.expect(202)["data"].clone();
    let delivery = until(&acme.owner, &id(&published["deliveries"][0]), "succeeded").await;

    let received = receiver.requests().pop().unwrap();
    assert!(verified(&received, &webhook["secret"]));
    assert_eq!(received.header("webhook-id"), published["event"]["id"].as_str());
    assert_eq!((received.header("x-key"), received.header("traceparent")), (Some("k"), Some(traceparent)));
    let event = &published["event"];
    assert_eq!(
        received.json(),
        json!({ "type": "order.created", "timestamp": event["created_at"], "data": { "amount": 5 } })
    );

    assert_eq!((&delivery["event_id"], &delivery["webhook_id"]), (&event["id"], &webhook["id"]));
    assert_eq!(
        (&delivery["attempt"], &delivery["last_error"], &delivery["next_attempt_at"]),
        (&json!(1), &Value::Null, &Value::Null)
    );
    let [attempt] = delivery["attempts"].as_array().unwrap().as_slice() else { panic!("{delivery}") };
    assert_eq!((&attempt["status"], &attempt["outcome"]), (&json!(201), &json!("succeeded")));
    assert_eq!((&attempt["response_body"], &attempt["response_headers"]["x-trace"]), (&json!("thanks"), &json!("t1")));
    assert!(attempt["latency_ms"].is_u64() && attempt["started_at"].is_string() && attempt["error_class"].is_null());
}

#[tokio::test]
async fn a_delivery_that_failed_is_retried_by_hand() {
    let app = local().await;
    let acme = app.tenant("acme").await;
    let receiver = HttpReceiver::answering([Answer::with_body(410, "moved away")]).await;
    let webhook = create(&acme.owner, json!({ "url": receiver.url("/") })).await;
    let path = format!("/webhooks/{}", id(&webhook));
    let _worker = app.worker();
    let published = acme.owner.post("/events", json!({ "type": "a", "payload": 1 })).await.expect(202)["data"].clone();
    let delivery = id(&published["deliveries"][0]);
    let failed = until(&acme.owner, &delivery, "failed").await;
    assert_eq!(failed["last_error"]["code"], "http_status");
    assert_eq!(
        (&failed["attempts"][0]["status"], &failed["attempts"][0]["response_body"]),
        (&json!(410), &json!("moved away"))
    );
    let disabled = acme.owner.get(&path).await.expect(200)["data"].clone();
    assert!(!disabled["enabled"].as_bool().unwrap() && disabled["disabled_reason"].as_str().unwrap().contains("410"));

    acme.owner.patch(&path, json!({ "enabled": true })).await.expect(200);
    receiver.then([200]);
    let again = acme.owner.post_empty(&format!("/deliveries/{delivery}/retry")).await.expect(202)["data"].clone();
    assert!(["queued", "running", "succeeded"].contains(&again["state"].as_str().unwrap()), "{again}");
    let done = until(&acme.owner, &delivery, "succeeded").await;
    let outcomes: Vec<_> = done["attempts"].as_array().unwrap().iter().map(|a| a["status"].clone()).collect();
    assert_eq!(outcomes, [200, 410]);
    let [first, second] = receiver.requests().try_into().unwrap();
    assert_eq!((first.header("webhook-id"), &first.body), (second.header("webhook-id"), &second.body));
    let retry = format!("/deliveries/{delivery}/retry");
    acme.owner.post_empty(&retry).await.problem(409, "job_not_retryable");
    acme.owner.post_empty(&format!("/deliveries/{}/retry", Uuid::from_u128(7))).await.problem(404, "not_found");
}

#[tokio::test]
async fn a_receiver_in_trouble_is_tried_again_later() {
    let app = local().await;
    let acme = app.tenant("acme").await;
    let receiver = HttpReceiver::answering([503]).await;
    create(&acme.owner, json!({ "url": receiver.url("/") })).await;
    let _worker = app.worker();
    let published = acme.owner.post("/events", json!({ "type": "a", "payload": 1 })).await.expect(202)["data"].clone();
    let delivery = until(&acme.owner, &id(&published["deliveries"][0]), "retrying").await;
    assert!(delivery["next_attempt_at"].is_string() && delivery["finished_at"].is_null(), "{delivery}");
    assert_eq!(delivery["last_error"], json!({ "code": "http_status", "message": "answered 503" }));
    assert_eq!(delivery["attempts"][0]["error_class"], "http_status");
}

#[tokio::test]
async fn a_test_event_goes_to_one_endpoint_alone() {
    let app = local().await;
    let acme = app.tenant("acme").await;
    let (receiver, bystander) = (HttpReceiver::start().await, HttpReceiver::start().await);
    // Wants nothing of this type, and is tried all the same.
    let webhook = create(&acme.owner, json!({ "url": receiver.url("/"), "event_types": ["order.*"] })).await;
    create(&acme.owner, json!({ "url": bystander.url("/") })).await;
    let _worker = app.worker();
    let path = format!("/webhooks/{}/test", id(&webhook));
    let published = acme.owner.post_empty(&path).await.expect(202)["data"].clone();
    let [delivery] = published["deliveries"].as_array().unwrap().as_slice() else { panic!("{published}") };
    until(&acme.owner, &id(delivery), "succeeded").await;
    let received = receiver.requests().pop().unwrap();
    assert!(verified(&received, &webhook["secret"]));
    assert_eq!((&received.json()["type"], bystander.hits()), (&json!("webhook.test"), 0));
    assert_eq!(acme.owner.get("/events").await.expect(200)["data"][0]["id"], published["event"]["id"]);

    acme.owner.patch(&format!("/webhooks/{}", id(&webhook)), json!({ "enabled": false })).await.expect(200);
    acme.owner.post_empty(&path).await.problem(409, "webhook_disabled");
}

#[tokio::test]
async fn a_call_made_later_is_signed_by_the_webhook_that_it_names() {
    let app = local().await;
    let acme = app.tenant("acme").await;
    let receiver = HttpReceiver::answering([Answer::with_body(200, "pong")]).await;
    let webhook = create(&acme.owner, json!({ "url": "https://example.com" })).await;
    let _worker = app.worker();
    let payload = json!({ "url": receiver.url("/"), "method": "POST", "body": {"a": 1}, "sign": webhook["id"] });
    let job = acme.owner.post("/jobs", json!({ "kind": "http.request", "payload": payload })).await.expect(202);
    let path = format!("/jobs/{}", id(&job["data"]));
    let result = loop {
        let job = acme.owner.get(&path).await.expect(200)["data"].clone();
        assert_ne!(job["state"], "failed", "{job}");
        if job["state"] == "succeeded" {
            break job["result"].clone();
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    };
    assert_eq!((&result["status"], &result["body"]), (&json!(200), &json!("pong")));
    let received = receiver.requests().pop().unwrap();
    assert!(verified(&received, &webhook["secret"]));
    assert_eq!(received.json(), json!({ "a": 1 }));
}

#[tokio::test]
async fn a_replaced_secret_also_signs_for_a_while() {
    let app = local().await;
    let acme = app.tenant("acme").await;
    let receiver = HttpReceiver::start().await;
    let webhook = create(&acme.owner, json!({ "url": receiver.url("/") })).await;
    let path = format!("/webhooks/{}", id(&webhook));
    let rotated = acme.owner.post(&format!("{path}/rotate-secret"), json!({ "grace_s": 60 })).await.expect(200);
    let fresh = rotated["data"]["secret"].clone();
    assert_ne!(fresh, webhook["secret"]);
    assert!(rotated["data"]["old_secret_until"].is_string());
    let shown = acme.owner.get(&format!("{path}/secret")).await.expect(200);
    assert_eq!(shown["data"], rotated["data"]);
    let _worker = app.worker();
    let published = acme.owner.post("/events", json!({ "type": "a", "payload": 1 })).await.expect(202)["data"].clone();
    until(&acme.owner, &id(&published["deliveries"][0]), "succeeded").await;
    let received = receiver.requests().pop().unwrap();
    assert!(verified(&received, &webhook["secret"]) && verified(&received, &fresh));
    app.advance(Duration::from_secs(61)).await;
    let shown = acme.owner.get(&format!("{path}/secret")).await.expect(200);
    assert_eq!((&shown["data"]["secret"], &shown["data"]["old_secret_until"]), (&fresh, &Value::Null));
}

#[tokio::test]
async fn deliveries_are_listed_by_page_state_and_event() {
    let app = TestApp::start().await;
    let acme = app.tenant("acme").await;
    let webhook = id(&create(&acme.owner, json!({ "url": "https://example.com" })).await);
    create(&acme.owner, json!({ "url": "https://example.org" })).await;
    let mut deliveries = Vec::new();
    let mut event = String::new();
    for _ in 0..3 {
        let published =
            acme.owner.post("/events", json!({ "type": "a", "payload": 1 })).await.expect(202)["data"].clone();
        event = id(&published["event"]);
        deliveries.insert(0, id(&published["deliveries"][0]));
    }
    let list = async |query: &str| {
        let page = acme.owner.get(&format!("/webhooks/{webhook}/deliveries{query}")).await.expect(200);
        let ids: Vec<_> = page["data"].as_array().unwrap().iter().map(id).collect();
        (ids, page["meta"]["next_cursor"].as_str().map(str::to_owned))
    };
    assert_eq!(list("").await, (deliveries.clone(), None));
    let (first, cursor) = list("?limit=2").await;
    assert_eq!(first, deliveries[..2]);
    assert_eq!(list(&format!("?limit=2&cursor={}", cursor.unwrap())).await, (deliveries[2..].to_vec(), None));
    assert_eq!(list("?state=queued").await.0, deliveries);
    assert_eq!(list("?state=succeeded").await.0, Vec::<String>::new());
    assert_eq!(list(&format!("?event_id={event}")).await.0, deliveries[..1]);
    acme.owner.get(&format!("/webhooks/{webhook}/deliveries?state=odd")).await.problem(400, "parameter_invalid");
    acme.owner.delete(&format!("/webhooks/{webhook}")).await.expect(204);
    acme.owner.get(&format!("/deliveries/{}", deliveries[0])).await.expect(200);
}

#[tokio::test]
async fn a_webhook_is_created_once_under_an_idempotency_key() {
    let app = TestApp::start().await;
    let acme = app.tenant("acme").await;
    let body = || json!({ "url": "https://example.com" });
    let first = acme.owner.post_once("/webhooks", "k", body()).await;
    let second = acme.owner.post_once("/webhooks", "k", body()).await;
    first.expect(201);
    assert_eq!((&second.body, second.header("idempotent-replayed")), (&first.body, "true"));
    assert_eq!(acme.owner.get("/webhooks").await.expect(200)["data"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn a_tenant_has_five_hundred_webhooks_at_most() {
    let app = TestApp::start().await;
    let acme = app.tenant("acme").await;
    sqlx::query(
        "insert into webhooks (id, tenant_id, url, event_types, sealed_secret)
         select gen_random_uuid(), $1, 'https://example.com', '{none}', '' from generate_series(1, 499)",
    )
    .bind(acme.id.0)
    .execute(&app.db.owner().await)
    .await
    .unwrap();
    // The last place is taken by a transaction that is still open when the next request comes.
    let mut tx = app.db.db.tenant(acme.id).await.unwrap();
    let last = queries::NewWebhook {
        id: WebhookId::generate(),
        url: "https://example.com".into(),
        description: String::new(),
        event_types: vec!["none".into()],
        enabled: true,
        rate_limit_per_s: None,
        sealed_headers: None,
        metadata: None,
        sealed_secret: Vec::new(),
    };
    queries::insert(&mut tx, &last).await.unwrap();
    let body = || json!({ "url": "https://example.com" });
    let (reply, ()) = tokio::join!(acme.owner.post("/webhooks", body()), async {
        let owner = app.db.owner().await;
        let waits = "select count(*) from pg_locks where not granted and database = (select oid from pg_database
                      where datname = current_database()) or not granted and locktype = 'transactionid'";
        for _ in 0..1_000 {
            if sqlx::query_scalar::<_, i64>(waits).fetch_one(&owner).await.unwrap() > 0 {
                break;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        tx.commit().await.unwrap();
    });
    reply.problem(409, "too_many_webhooks");
    app.tenant("other").await.owner.post("/webhooks", body()).await.expect(201);
}

#[tokio::test]
async fn a_stranger_sees_nothing_and_a_weaker_role_does_nothing() {
    let app = TestApp::start().await;
    let (acme, other) = (app.tenant("acme").await, app.tenant("other").await);
    let webhook = id(&create(&acme.owner, json!({ "url": "https://example.com" })).await);
    let published = acme.owner.post("/events", json!({ "type": "a", "payload": 1 })).await.expect(202)["data"].clone();
    let delivery = id(&published["deliveries"][0]);
    let (viewer, nobody) = (acme.member(Role::Viewer).await, acme.api_key(&["jobs:read"]).await);
    for (method, path, permission) in [
        (Method::GET, format!("/webhooks/{webhook}"), "webhooks:read"),
        (Method::GET, format!("/webhooks/{webhook}/deliveries"), "webhooks:read"),
        (Method::GET, format!("/deliveries/{delivery}"), "webhooks:read"),
        (Method::PATCH, format!("/webhooks/{webhook}"), "webhooks:write"),
        (Method::DELETE, format!("/webhooks/{webhook}"), "webhooks:write"),
        (Method::GET, format!("/webhooks/{webhook}/secret"), "webhooks:secret"),
        (Method::POST, format!("/webhooks/{webhook}/rotate-secret"), "webhooks:secret"),
        (Method::POST, format!("/webhooks/{webhook}/test"), "webhooks:write"),
        (Method::POST, format!("/deliveries/{delivery}/retry"), "jobs:retry"),
    ] {
        let send = |client: &Client| Reply::of(client.request(method.clone(), &path).json(&json!({})));
        send(&other.owner).await.problem(404, "not_found");
        assert_eq!(send(&nobody).await.problem(403, "permission_missing")["permission"], permission, "{path}");
        let seen = send(&viewer).await;
        if permission.ends_with(":read") {
            seen.expect(200);
        } else {
            assert_eq!(seen.problem(403, "permission_missing")["permission"], permission, "{path}");
        }
    }
    assert_eq!(nobody.post("/webhooks", json!({ "url": "https://example.com" })).await.status, 403);
    assert_eq!(nobody.get("/webhooks").await.status, 403);
    assert_eq!(other.owner.get("/webhooks").await.expect(200)["data"], json!([]));
}
