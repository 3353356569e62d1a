//! How much a caller may ask for.

use std::time::{Duration, Instant};

use futures::stream::{self, StreamExt};
use millwork_api::limits::settings::LimitSettings;
use serde_json::json;

use crate::support::{Client, Options, PASSWORD, PATIENCE, Reply, TestApp};

async fn limited(limits: &str) -> TestApp {
    TestApp::start_with(Options { limits: limits.parse().unwrap(), ..Options::default() }).await
}

/// The one number of a header such as `"tenant";r=6;t=60, "user";r=1;t=60`.
fn of(reply: &Reply, header: &str, name: &str, parameter: &str) -> u64 {
    let text = reply.header(header);
    let item =
        text.split(", ").find(|item| item.starts_with(&format!("\"{name}\""))).unwrap_or_else(|| panic!("{text}"));
    let value = item.split(';').find_map(|part| part.strip_prefix(&format!("{parameter}="))).unwrap();
    value.parse().unwrap()
}

fn retry_after(reply: &Reply) -> Duration {
    Duration::from_secs(reply.header("retry-after").parse().unwrap())
}

async fn until_refused(client: &Client) -> (usize, Reply) {
    for n in 0..100 {
        let reply = client.get("/auth/me").await;
        if reply.status != 200 {
            return (n, reply);
        }
    }
    panic!("it was never refused")
}

#[tokio::test]
async fn a_person_a_key_and_their_tenant_have_limits_that_every_answer_tells() {
    let app = limited("starter=11/4/6").await;
    let acme = app.tenant("acme").await;
    let first = acme.owner.get("/auth/me").await;
    first.expect(200);
    assert_eq!(first.header("ratelimit-policy"), "\"tenant\";q=11;w=60, \"user\";q=4;w=60");
    assert_eq!((of(&first, "ratelimit", "tenant", "r"), of(&first, "ratelimit", "user", "r")), (10, 3));
    assert!((1..=60).contains(&of(&first, "ratelimit", "user", "t")));
    assert_eq!((first.header("x-ratelimit-limit"), first.header("x-ratelimit-remaining")), ("4", "3"));
    let key = acme.api_key(&["jobs:read"]).await;
    let refused = acme.owner.get("/jobs/0").await;
    assert_eq!((refused.status, of(&refused, "ratelimit", "user", "r")), (400, 1), "failures count, and tell");

    let (more, reply) = until_refused(&acme.owner).await;
    assert_eq!(more, 1);
    reply.problem(429, "rate_limited");
    assert!((1..=75).contains(&retry_after(&reply).as_secs()), "{}", reply.header("retry-after"));
    assert_eq!((reply.header("x-ratelimit-remaining"), of(&reply, "ratelimit", "tenant", "r")), ("0", 7));

    assert_eq!(until_refused(&key).await.0, 6, "the key has a limit of its own");
    app.advance(Duration::from_secs(120)).await;
    let second = acme.api_key(&["jobs:read"]).await;
    assert_eq!(until_refused(&key).await.0, 6);
    let (more, reply) = until_refused(&second).await;
    assert_eq!((more, of(&reply, "ratelimit", "tenant", "r")), (4, 0), "and all of them that of the tenant");
    assert_eq!(reply.header("x-ratelimit-limit"), "11");

    let other = app.tenant("other").await;
    other.owner.get("/auth/me").await.expect(200);
}

#[tokio::test]
async fn two_processes_share_a_limit() {
    let options = || Options { limits: "starter=20/20/20".parse().unwrap(), ..Options::default() };
    let app = TestApp::start_with(options()).await;
    let acme = app.tenant("acme").await;
    let (_, url) = app.another(options()).await;
    let elsewhere = Client::new(&url, acme.owner.token.clone());
    let mut admitted = [0, 0];
    for n in 0..60 {
        let client = if n % 3 == 0 { &elsewhere } else { &acme.owner };
        admitted[usize::from(n % 3 == 0)] += usize::from(client.get("/auth/me").await.status == 200);
    }
    assert_eq!(admitted.iter().sum::<usize>(), 20, "{admitted:?}");
    assert!(admitted.iter().all(|count| *count > 0), "{admitted:?}");
}

#[tokio::test]
async fn what_was_refused_is_admitted_after_the_time_that_was_told() {
    let app = limited("starter=100/5/5").await;
    let acme = app.tenant("acme").await;
    let (_, reply) = until_refused(&acme.owner).await;
    app.advance(retry_after(&reply)).await;
    acme.owner.get("/auth/me").await.expect(200);
    acme.owner.get("/auth/me").await.problem(429, "rate_limited");
}

#[tokio::test]
async fn requests_at_once_are_counted_one_by_one() {
    let app = limited("starter=1000/50/50").await;
    let acme = app.tenant("acme").await;
    let replies = stream::iter(0..80).map(|_| acme.owner.get("/auth/me")).buffer_unordered(16);
    let admitted = replies.filter(|reply| std::future::ready(reply.status == 200)).count().await;
    assert_eq!(admitted, 50);
}

#[tokio::test]
async fn dear_requests_cost_more_and_a_larger_plan_allows_more() {
    let app = limited("starter=100/15/15,pro=100/40/40").await;
    let acme = app.tenant("acme").await;
    let batch = json!({ "jobs": [{ "kind": "echo", "payload": {} }] });
    let reply = acme.owner.post("/jobs/batch", batch.clone()).await;
    reply.expect(202);
    assert_eq!(of(&reply, "ratelimit", "user", "r"), 5);
    acme.owner.post("/jobs/batch", batch.clone()).await.problem(429, "rate_limited");
    acme.owner.get("/auth/me").await.expect(200);

    app.db.sql(format!("update tenants set plan = 'pro' where id = '{}'", acme.id)).await;
    app.advance(Duration::from_secs(121)).await;
    for _ in 0..4 {
        acme.owner.post("/jobs/batch", batch.clone()).await.expect(202);
    }
    acme.owner.post("/jobs/batch", batch).await.problem(429, "rate_limited");
}

#[tokio::test]
async fn without_redis_a_process_counts_by_itself() {
    let limits = "starter=100/5/5".parse().unwrap();
    let app =
        TestApp::start_with(Options { limits, redis_url: "redis://127.0.0.1:1/".into(), ..Options::default() }).await;
    let acme = app.tenant("acme").await;
    let (admitted, reply) = until_refused(&acme.owner).await;
    assert_eq!(admitted, 5);
    reply.problem(429, "rate_limited");
    app.advance(Duration::from_secs(120)).await;
    acme.owner.get("/auth/me").await.expect(200);

    for n in 0..6 {
        let body = json!({ "email": acme.email, "password": "wrong" });
        assert_eq!(app.anonymous().post("/auth/login", body).await.status, if n < 5 { 401 } else { 429 });
    }
}

#[tokio::test]
async fn an_address_has_a_limit_where_passwords_are_taken() {
    let limits = LimitSettings { address: 3, ..LimitSettings::default() };
    let app = TestApp::start_with(Options { limits, ..Options::default() }).await;
    let acme = app.tenant("acme").await;
    for token in ["a", "b"] {
        app.anonymous()
            .post("/auth/refresh", json!({ "refresh_token": token }))
            .await
            .problem(401, "refresh_token_invalid");
    }
    let reply = app.anonymous().post("/auth/login", json!({ "email": acme.email, "password": PASSWORD })).await;
    reply.problem(429, "rate_limited");
    acme.owner.get("/auth/me").await.expect(200);
    app.advance(retry_after(&reply)).await;
    app.anonymous().post("/auth/login", json!({ "email": acme.email, "password": PASSWORD })).await.expect(200);
}

#[tokio::test]
async fn who_guesses_waits_longer_each_time_and_the_owner_is_told() {
    let app = TestApp::start().await;
    let acme = app.tenant("acme").await;
    let guess = async |email: &str, password: &str| {
        app.anonymous().post("/auth/login", json!({ "email": email, "password": password })).await
    };
    for email in ["nobody@nowhere.example", acme.email.as_str()] {
        for _ in 0..5 {
            guess(email, "wrong").await.problem(401, "login_refused");
        }
        let reply = guess(&email.to_uppercase(), PASSWORD).await;
        reply.problem(429, "rate_limited");
        assert_eq!(retry_after(&reply).as_secs(), 1, "whether or not there is such an account");
    }
    let mut waits = Vec::new();
    for _ in 6..=10 {
        app.advance(retry_after(&guess(&acme.email, PASSWORD).await)).await;
        guess(&acme.email, "wrong").await.problem(401, "login_refused");
        waits.push(retry_after(&guess(&acme.email, PASSWORD).await).as_secs());
    }
    assert_eq!(waits, [2, 4, 8, 16, 32]);

    let began = Instant::now();
    let told = format!("select payload from jobs where kind = 'auth.send_lockout' and tenant_id = '{}'", acme.id);
    let mails = loop {
        let mails = app.db.sql(&told).await;
        if !mails.is_empty() {
            break mails;
        }
        assert!(began.elapsed() < PATIENCE, "nobody is told");
        tokio::time::sleep(Duration::from_millis(10)).await;
    };
    assert_eq!(mails.len(), 1);
    assert!(mails[0].as_ref().unwrap().contains("127.0.0.1"), "{mails:?}");
    let failures = acme.owner.get("/audit-logs?action=session.refused").await.expect(200);
    let failures = failures["data"].as_array().unwrap();
    assert!(
        failures.iter().any(|entry| entry["after"]["failures"] == 10 && entry["ip"] == "127.0.0.1"),
        "{failures:?}"
    );

    app.advance(Duration::from_secs(32)).await;
    guess(&acme.email, PASSWORD).await.expect(200);
    for _ in 0..4 {
        guess(&acme.email, "wrong").await.problem(401, "login_refused");
    }
    guess(&acme.email, PASSWORD).await.expect(200);
}

#[tokio::test]
async fn redis_is_told_no_mail_address() {
    let app = TestApp::start().await;
    let acme = app.tenant("acme").await;
    app.anonymous().post("/auth/login", json!({ "email": acme.email, "password": "wrong" })).await.expect(401);
    let client = redis::Client::open(millwork_shared::testing::redis_url()).unwrap();
    let mut redis = client.get_multiplexed_async_connection().await.unwrap();
    let pattern = format!("{}:attempts:*", app.app.dispatcher.prefix());
    let keys: Vec<String> = redis::cmd("KEYS").arg(pattern).query_async(&mut redis).await.unwrap();
    assert_eq!(keys.len(), 2, "{keys:?}");
    assert!(keys.iter().all(|key| !key.contains("owner") && !key.contains("acme")), "{keys:?}");
}
