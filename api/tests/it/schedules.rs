//! Schedules, as clients make and change them. How they fire is the scheduler's to test.

use std::time::Duration;

use chrono::{DateTime, Timelike, Utc};
use millwork_shared::tenants::{Permission, Role};
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{Client, Reply, TestApp};

const MISSING: &str = "0190163d-8694-739b-aea5-966c26f8ad91";

fn nightly() -> Value {
    json!({
        "name": "Nightly", "cron": "30 2 * * *", "timezone": "Europe/Berlin",
        "job": { "kind": "echo", "payload": {"n": 1.50} },
    })
}

/// A schedule with other members.
fn with(members: Value) -> Value {
    let mut schedule = nightly();
    schedule.as_object_mut().unwrap().extend(members.as_object().unwrap().clone());
    schedule
}

async fn create(client: &Client, body: Value) -> Value {
    client.post("/schedules", body).await.expect(201)["data"].clone()
}

fn path(schedule: &Value) -> String {
    format!("/schedules/{}", schedule["id"].as_str().unwrap())
}

fn time(value: &Value) -> DateTime<Utc> {
    value.as_str().unwrap().parse().unwrap()
}

#[tokio::test]
async fn a_schedule_is_created_shown_changed_and_deleted() {
    let app = TestApp::start().await;
    let acme = app.quiet_tenant("acme").await;
    let owner = &acme.owner;
    let body = with(json!({ "job": {
        "kind": "echo", "payload": {"n": 1.50}, "queue": "exports", "priority": 9, "max_attempts": 3, "timeout_ms": 5000,
        "unique_key": "nightly", "unique_for_s": 60, "tags": ["night"],
    } }));
    let reply = owner.post("/schedules", body).await;
    let made = reply.expect(201)["data"].clone();
    assert_eq!(reply.header("location"), format!("{}/api/v1{}", app.url, path(&made)));
    assert_eq!(
        made["job"],
        json!({
            "kind": "echo", "payload": {"n": 1.50}, "queue": "exports", "priority": 9, "max_attempts": 3,
            "timeout_ms": 5000, "unique_key": "nightly", "unique_for_s": 60, "tags": ["night"],
        })
    );
    assert_eq!(
        (&made["misfire"], &made["paused"], &made["version"], &made["last_run_at"]),
        (&json!("skip"), &json!(false), &json!(1), &Value::Null)
    );
    let times: Vec<_> = made["next_runs"].as_array().unwrap().iter().map(time).collect();
    assert_eq!(times.len(), 5);
    assert_eq!(times[0], time(&made["next_run_at"]));
    let now = app.db.clock.now();
    assert!(times[0] > now && times.windows(2).all(|pair| pair[1] > pair[0]));
    assert!(times.iter().all(|time| (time.minute(), time.second()) == (30, 0)));
    assert_eq!(owner.get(&path(&made)).await.expect(200)["data"], made);
    assert_eq!(owner.get("/schedules").await.expect(200)["data"], json!([made]));

    let patch = |tag: &str, body: Value| {
        Reply::of(owner.request(Method::PATCH, &path(&made)).header("if-match", tag).json(&body))
    };
    patch("\"7\"", json!({ "paused": true })).await.problem(412, "version_stale");
    let paused = patch("\"1\"", json!({ "paused": true })).await.expect(200)["data"].clone();
    assert!(paused["paused_at"].is_string());
    assert_eq!((&paused["next_run_at"], &paused["next_runs"]), (&Value::Null, &json!([])));
    let body = json!({ "cron": "0 * * * *", "timezone": "UTC", "misfire": "once", "name": " Hourly " });
    let changed = patch("\"2\"", body).await.expect(200)["data"].clone();
    assert_eq!((&changed["name"], &changed["misfire"]), (&json!("Hourly"), &json!("once")));
    assert_eq!((&changed["next_run_at"], &changed["paused_at"]), (&Value::Null, &paused["paused_at"]));
    let resumed = patch("\"3\"", json!({ "paused": false })).await.expect(200)["data"].clone();
    assert_eq!(
        (&resumed["paused"], &resumed["paused_at"], &resumed["version"]),
        (&json!(false), &Value::Null, &json!(4))
    );
    assert!(time(&resumed["next_run_at"]) - now <= chrono::TimeDelta::minutes(61), "{resumed}");
    let job = json!({ "kind": "echo", "payload": [] });
    let changed = patch("\"4\"", json!({ "job": job })).await.expect(200)["data"].clone();
    assert_eq!((&changed["job"]["unique_key"], &changed["job"]["queue"]), (&Value::Null, &json!("default")));
    assert_eq!((&changed["job"]["tags"], &changed["next_run_at"]), (&json!([]), &resumed["next_run_at"]));

    owner.delete(&path(&made)).await.expect(204);
    owner.get(&path(&made)).await.problem(404, "not_found");
    assert_eq!(owner.get("/schedules").await.expect(200)["data"], json!([]));
}

#[tokio::test]
async fn every_fault_of_a_schedule_is_told_at_once() {
    let app = TestApp::start().await;
    let owner = app.tenant("acme").await.owner;
    let existing = path(&create(&owner, nightly()).await);
    let body = json!({
        "name": "a\nb", "cron": "61 * * * *", "timezone": "Mars/Olympus", "misfire": "never", "colour": 1,
        "job": {
            "kind": "http.request", "payload": {"url": "http://169.254.169.254/"}, "queue": "maintenance", "priority": 10,
            "run_at": "2026-01-01T00:00:00Z", "unique_for_s": 5, "tags": [""],
        },
    });
    let expected = [
        "/colour",
        "/cron",
        "/job/payload/method",
        "/job/payload/url",
        "/job/priority",
        "/job/queue",
        "/job/run_at",
        "/job/tags/0",
        "/job/unique_for_s",
        "/misfire",
        "/name",
        "/timezone",
    ];
    for reply in [owner.post("/schedules", body.clone()).await, owner.patch(&existing, body).await] {
        let problem = reply.problem(422, "body_invalid");
        let mut pointers: Vec<_> =
            problem["errors"].as_array().unwrap().iter().map(|e| e["pointer"].as_str().unwrap()).collect();
        pointers.sort_unstable();
        assert_eq!(pointers, expected, "{problem}");
    }
    for (members, pointer, code) in [
        (json!({ "cron": "0 0 30 2 *" }), "/cron", "never"),
        (json!({ "cron": "0 0 * * * *" }), "/cron", "invalid"),
        (json!({ "cron": "@daily" }), "/cron", "invalid"),
        (json!({ "cron": "1".repeat(101) }), "/cron", "too_long"),
        (json!({ "cron": 5 }), "/cron", "type"),
        (json!({ "timezone": "+02:00" }), "/timezone", "unknown"),
        (json!({ "job": null }), "/job", "type"),
        (json!({ "job": { "kind": "webhook.deliver", "payload": {} } }), "/job/kind", "unknown"),
        (json!({ "job": { "kind": "echo" } }), "/job/payload", "required"),
    ] {
        let problem = owner.post("/schedules", with(members)).await.problem(422, "body_invalid");
        let faults: Vec<_> =
            problem["errors"].as_array().unwrap().iter().map(|e| (&e["pointer"], &e["code"])).collect();
        assert_eq!(faults, [(&json!(pointer), &json!(code))], "{problem}");
    }
    owner.post("/schedules", json!({})).await.problem(422, "body_invalid");
    assert_eq!(owner.get("/schedules").await.expect(200)["data"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn a_schedule_runs_now_when_asked_without_moving_its_next_time() {
    let app = TestApp::start().await;
    let acme = app.quiet_tenant("acme").await;
    let owner = &acme.owner;
    let job = json!({ "kind": "echo", "payload": {"n": 1}, "unique_key": "only-one" });
    let made = create(owner, with(json!({ "job": job, "paused": true }))).await;
    assert_eq!((&made["paused"], &made["next_runs"]), (&json!(true), &json!([])));
    let run = async |key: &str| {
        let request = owner.request(Method::POST, &format!("{}/run", path(&made)));
        Reply::of(request.header("idempotency-key", key).header("x-request-id", "r1")).await
    };
    let reply = run("a").await;
    let job = reply.expect(202)["data"].clone();
    let id = job["id"].as_str().unwrap();
    assert_eq!(reply.header("location"), format!("{}/api/v1/jobs/{id}", app.url));
    assert_eq!((&job["state"], &job["schedule_id"], &job["request_id"]), (&json!("queued"), &made["id"], &json!("r1")));
    let again = run("a").await;
    assert_eq!((again.header("idempotent-replayed"), &again.body), ("true", &reply.body));
    let problem = run("b").await.problem(409, "job_not_unique");
    assert_eq!(problem["job_id"], job["id"], "its unique key is held");
    let stored = owner.job(id).await;
    assert_eq!((&stored["schedule_id"], &stored["payload"]), (&made["id"], &json!({"n": 1})));
    owner.submit(json!({ "kind": "echo", "payload": {} })).await;
    let listed = owner.get(&format!("/jobs?schedule_id={}", made["id"].as_str().unwrap())).await.expect(200);
    assert_eq!(listed["data"].as_array().unwrap().iter().map(|job| &job["id"]).collect::<Vec<_>>(), [&job["id"]]);
    assert_eq!(owner.get(&format!("/jobs?schedule_id={MISSING}")).await.expect(200)["data"], json!([]));
    let shown = owner.get(&path(&made)).await.expect(200)["data"].clone();
    assert_eq!(shown, made, "nothing of it has changed");
    owner.delete(&path(&made)).await.expect(204);
    assert_eq!(owner.job(id).await["state"], "queued", "its job stays");
}

#[tokio::test]
async fn another_tenants_schedule_is_absent_and_each_route_needs_its_permission() {
    let app = TestApp::start().await;
    let (acme, other) = (app.quiet_tenant("acme").await, app.quiet_tenant("other").await);
    let made = create(&acme.owner, nightly()).await;
    let (one, run) = (path(&made), format!("{}/run", path(&made)));
    let send = async |client: &Client, method: &Method, path: &str| {
        let request = client.request(method.clone(), path);
        Reply::of(match *method {
            Method::PATCH => request.json(&json!({})),
            Method::POST if path == "/schedules" => request.json(&nightly()),
            _ => request,
        })
        .await
    };
    for (method, path, permission) in [
        (Method::GET, one.as_str(), "schedules:read"),
        (Method::GET, "/schedules", "schedules:read"),
        (Method::POST, "/schedules", "schedules:write"),
        (Method::PATCH, &one, "schedules:write"),
        (Method::POST, &run, "schedules:write"),
        (Method::DELETE, &one, "schedules:write"),
    ] {
        let others = Permission::ALL.iter().map(|p| p.as_str()).filter(|p| *p != permission);
        let without = acme.api_key(&others.collect::<Vec<_>>()).await;
        let problem = send(&without, &method, path).await.problem(403, "permission_missing");
        assert_eq!(problem["permission"], permission, "{method} {path}");
        if path != "/schedules" {
            send(&other.owner, &method, path).await.problem(404, "not_found");
        }
    }
    assert_eq!(other.owner.get("/schedules").await.expect(200)["data"], json!([]));
    assert_eq!(acme.owner.get(&one).await.expect(200)["data"], made);
    let viewer = acme.member(Role::Viewer).await;
    viewer.get("/schedules").await.expect(200);
    viewer.post("/schedules", nightly()).await.problem(403, "permission_missing");
    acme.member(Role::Developer).await.post("/schedules", nightly()).await.expect(201);
}

#[tokio::test]
async fn a_schedule_is_created_once_by_key_and_listed_by_cursor_and_a_tenant_has_only_so_many() {
    let app = TestApp::start().await;
    let acme = app.quiet_tenant("acme").await;
    let owner = &acme.owner;
    let first = owner.post_once("/schedules", "k", nightly()).await;
    first.expect(201);
    let again = owner.post_once("/schedules", "k", nightly()).await;
    assert_eq!((again.header("idempotent-replayed"), &again.body), ("true", &first.body));
    owner.post_once("/schedules", "k", with(json!({ "name": "b" }))).await.problem(422, "idempotency_key_reused");
    create(owner, with(json!({ "name": "b" }))).await;
    create(owner, with(json!({ "name": "c" }))).await;
    let page = owner.get("/schedules?limit=2").await.expect(200);
    let names = |page: &Value| page["data"].as_array().unwrap().iter().map(|s| s["name"].clone()).collect::<Vec<_>>();
    assert_eq!(names(&page), ["c", "b"]);
    let next = page["meta"]["next_cursor"].as_str().unwrap();
    assert_eq!(names(&owner.get(&format!("/schedules?limit=2&cursor={next}")).await.expect(200)), ["Nightly"]);

    app.db
        .sql(format!(
            "insert into schedules (id, tenant_id, name, cron, timezone, misfire, kind, queue, priority, payload,
                                    max_attempts, timeout_ms)
             select gen_random_uuid(), '{}', 'x', '* * * * *', 'UTC', 'skip', 'echo', 'default', 4, '1', 1, 1000
               from generate_series(1, 997)",
            acme.id
        ))
        .await;
    owner.post("/schedules", nightly()).await.problem(409, "too_many_schedules");
}

/// From the clock to the side effect: the real scheduler's look, and a real worker.
#[tokio::test]
async fn a_schedule_makes_a_job_that_a_worker_runs() {
    let app = TestApp::start().await;
    let acme = app.quiet_tenant("acme").await;
    let made = create(&acme.owner, with(json!({ "cron": "*/5 * * * *", "timezone": "UTC" }))).await;
    let wait = time(&made["next_run_at"]) - app.db.clock.now();
    app.advance(wait.to_std().unwrap() + Duration::from_secs(1)).await;
    assert_eq!(millwork_scheduler::fire::look(&app.db.db.system(), &app.app.dispatcher).await.unwrap(), 1);
    let _worker = app.worker();
    let shown = acme.owner.get(&path(&made)).await.expect(200)["data"].clone();
    let job = acme.owner.until(shown["last_job_id"].as_str().unwrap(), "succeeded").await;
    assert_eq!((&job["schedule_id"], &job["result"]), (&made["id"], &json!({"n": 1.50})));
    assert_eq!(time(&shown["next_run_at"]) - time(&made["next_run_at"]), chrono::TimeDelta::minutes(5));
    assert_eq!((&shown["version"], &shown["updated_at"]), (&json!(1), &made["updated_at"]), "nobody has changed it");
}
