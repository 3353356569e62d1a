//! Where a tenant's people and programs may come from.

use std::time::Instant;

use millwork_api::auth::cache::TTL;
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{Client, Options, Reply, TestApp};

fn options() -> Options {
    // So that a test may come from wherever it says.
    Options { proxies: "127.0.0.0/8".parse().unwrap(), ..Options::default() }
}

async fn from(client: &Client, address: &str, path: &str) -> Reply {
    Reply::of(client.request(Method::GET, path).header("x-forwarded-for", address)).await
}

fn rule(action: &str, cidr: &str) -> Value {
    json!({ "action": action, "cidr": cidr })
}

#[tokio::test]
async fn a_rule_is_kept_shown_and_deleted() {
    let app = TestApp::start().await;
    let owner = app.tenant("acme").await.owner;
    let body = json!({ "action": "deny", "cidr": "203.0.113.0/24", "description": "who guesses" });
    let reply = owner.post("/security/ip-rules", body).await;
    let made = reply.expect(201)["data"].clone();
    assert_eq!((&made["action"], &made["cidr"]), (&json!("deny"), &json!("203.0.113.0/24")), "{made}");
    assert_eq!(made["description"], "who guesses");
    let at = format!("/security/ip-rules/{}", made["id"].as_str().unwrap());
    assert_eq!(reply.header("location"), format!("{}/api/v1{at}", app.url));
    assert_eq!(owner.get(&at).await.expect(200)["data"], made);
    let second = owner.post("/security/ip-rules", rule("allow", "::ffff:127.0.0.1")).await.expect(201)["data"].clone();
    assert_eq!(second["cidr"], "127.0.0.1/32");
    let listed = owner.get("/security/ip-rules").await.expect(200);
    assert_eq!(listed["data"], json!([second, made]), "newest first");
    owner.delete(&at).await.expect(204);
    owner.get(&at).await.problem(404, "not_found");
    owner.delete(&at).await.problem(404, "not_found");
    let entries = owner.get("/audit-logs?resource_type=ip_rule").await.expect(200);
    let deeds: Vec<_> = entries["data"].as_array().unwrap().iter().map(|entry| entry["action"].clone()).collect();
    assert_eq!(deeds, ["ip_rule.deleted", "ip_rule.created", "ip_rule.created"]);
    assert_eq!(entries["data"][0]["before"]["network"], "203.0.113.0/24", "{entries}");
}

#[tokio::test]
async fn what_does_not_fit_is_named() {
    let app = TestApp::start().await;
    let owner = app.tenant("acme").await.owner;
    for (cidr, says) in [
        ("x", "not a network"),
        ("10.0.0.0/33", "not a network"),
        ("10.1.2.3/8", "the network is 10.0.0.0/8"),
        ("2001:db8::1/32", "the network is 2001:db8::/32"),
    ] {
        let problem = owner.post("/security/ip-rules", rule("deny", cidr)).await.problem(422, "body_invalid");
        assert_eq!(problem["errors"][0]["pointer"], "/cidr", "{problem}");
        assert!(problem["errors"][0]["detail"].as_str().unwrap().contains(says), "{problem}");
    }
    owner.post("/security/ip-rules", rule("perhaps", "10.0.0.0/8")).await.problem(422, "body_invalid");
    owner.post("/security/ip-rules", rule("deny", "10.0.0.0/8")).await.expect(201);
    owner.post("/security/ip-rules", rule("allow", "10.0.0.0/8")).await.problem(409, "ip_rule_exists");
}

#[tokio::test]
async fn a_tenant_has_so_many_rules_and_no_more() {
    let app = TestApp::start().await;
    let acme = app.tenant("acme").await;
    app.db
        .sql(format!(
            "insert into ip_rules (id, tenant_id, action, network)
             select gen_random_uuid(), '{}', 'deny', ('10.0.0.' || n)::cidr from generate_series(1, 99) n",
            acme.id
        ))
        .await;
    acme.owner.post("/security/ip-rules", rule("deny", "10.1.0.0/16")).await.expect(201);
    acme.owner.post("/security/ip-rules", rule("deny", "10.2.0.0/16")).await.problem(409, "too_many_ip_rules");
}

#[tokio::test]
async fn who_comes_from_where_nobody_may_is_refused_and_does_not_count() {
    let limits = "starter=20/20/20".parse().unwrap();
    let app = TestApp::start_with(Options { limits, ..options() }).await;
    let (acme, other) = (app.tenant("acme").await, app.tenant("other").await);
    let key = acme.api_key(&["jobs:read"]).await;
    acme.owner.post("/security/ip-rules", rule("allow", "127.0.0.0/8")).await.expect(201);
    acme.owner.post("/security/ip-rules", rule("allow", "203.0.113.0/24")).await.expect(201);
    acme.owner.post("/security/ip-rules", rule("deny", "203.0.113.66")).await.expect(201);
    for client in [&acme.owner, &key] {
        for (address, allowed) in [
            ("203.0.113.7", true),
            ("203.0.113.66", false),
            ("198.51.100.1", false),
            ("2001:db8::1", false),
            ("198.51.100.1, 203.0.113.7", true), // the first is made up
        ] {
            let reply = from(client, address, "/jobs").await;
            if allowed {
                reply.expect(200);
            } else {
                let problem = reply.problem(403, "ip_not_allowed");
                assert!(problem["detail"].as_str().unwrap().contains(address), "{problem}");
                assert!(!reply.headers.contains_key("ratelimit"), "it tells nothing of the tenant's limits");
            }
        }
    }
    for _ in 0..30 {
        from(&key, "198.51.100.1", "/jobs").await.problem(403, "ip_not_allowed");
    }
    from(&key, "203.0.113.7", "/jobs").await.expect(200);
    from(&other.owner, "198.51.100.1", "/jobs").await.expect(200);
}

#[tokio::test]
async fn a_rule_counts_at_once_in_every_process_for_sessions_and_keys() {
    let app = TestApp::start_with(options()).await;
    let acme = app.tenant("acme").await;
    let (other, url) = app.another(options()).await;
    while other.tokens.generation() == 0 {
        tokio::task::yield_now().await; // until it listens
    }
    let key = acme.api_key(&["jobs:read"]).await;
    let here = [acme.owner.clone(), key];
    let there = here.clone().map(|client| Client::new(&url, client.token));
    let known = Instant::now();
    for client in here.iter().chain(&there) {
        from(client, "203.0.113.7", "/jobs").await.expect(200); // it is remembered from now on
    }
    acme.owner.post("/security/ip-rules", rule("deny", "203.0.113.0/24")).await.expect(201);
    for client in &here {
        from(client, "203.0.113.7", "/jobs").await.problem(403, "ip_not_allowed");
    }
    for client in &there {
        while from(client, "203.0.113.7", "/jobs").await.status != 403 {
            assert!(known.elapsed() < TTL, "the other process knows it by its own looks alone");
        }
    }
}

#[tokio::test]
async fn nobody_locks_themselves_out_unless_they_say_so() {
    let app = TestApp::start_with(options()).await;
    let owner = app.tenant("acme").await.owner;
    let add = async |body: Value| {
        let request = owner.request(Method::POST, "/security/ip-rules").header("x-forwarded-for", "203.0.113.7");
        Reply::of(request.json(&body)).await
    };
    for body in [rule("allow", "198.51.100.0/24"), rule("deny", "203.0.113.0/24"), rule("deny", "0.0.0.0/0")] {
        let problem = add(body).await.problem(409, "would_lock_out");
        assert_eq!(problem["address"], "203.0.113.7");
    }
    assert_eq!(owner.get("/security/ip-rules").await.expect(200)["data"], json!([]), "nothing was kept");
    let own = add(rule("allow", "203.0.113.0/24")).await.expect(201);
    add(rule("allow", "198.51.100.0/24")).await.expect(201);

    let at = format!("/security/ip-rules/{}", own["data"]["id"].as_str().unwrap());
    let delete = async |query: &str| {
        let request = owner.request(Method::DELETE, &format!("{at}{query}"));
        Reply::of(request.header("x-forwarded-for", "203.0.113.7")).await
    };
    delete("").await.problem(409, "would_lock_out");
    from(&owner, "203.0.113.7", "/jobs").await.expect(200);
    delete("?force=true").await.expect(204);
    from(&owner, "203.0.113.7", "/jobs").await.problem(403, "ip_not_allowed");
    from(&owner, "198.51.100.1", "/jobs").await.expect(200);
}

#[tokio::test]
async fn rules_are_no_matter_of_who_signs_in() {
    let app = TestApp::start_with(options()).await;
    let acme = app.tenant("acme").await;
    let body = json!({ "action": "deny", "cidr": "127.0.0.0/8", "force": true });
    acme.owner.post("/security/ip-rules", body).await.expect(201);
    let login = json!({ "email": acme.email, "password": crate::support::PASSWORD });
    let session = app.anonymous().post("/auth/login", login).await.expect(200);
    let client = app.bearer(session["data"]["access_token"].as_str().unwrap());
    client.get("/auth/me").await.problem(403, "ip_not_allowed");
    app.anonymous().get("//health/live").await.expect(200);
}
