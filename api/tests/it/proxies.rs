//! Clients behind a proxy, and those who pretend to be.

use millwork_api::limits::settings::LimitSettings;
use reqwest::Method;
use serde_json::json;

use crate::support::{Client, Options, PASSWORD, Reply, TestApp};

const TRUSTED: &str = "127.0.0.0/8, 10.0.0.0/8";

async fn behind(proxies: &str, limits: LimitSettings) -> TestApp {
    TestApp::start_with(Options { proxies: proxies.parse().unwrap(), limits, ..Options::default() }).await
}

async fn sign_in(client: &Client, email: &str, password: &str, forwarded_for: &str) -> Reply {
    let body = json!({ "email": email, "password": password });
    let request = client.request(Method::POST, "/auth/login").header("x-forwarded-for", forwarded_for);
    Reply::of(request.json(&body)).await
}

#[tokio::test]
async fn the_clients_address_is_that_of_the_session_and_of_the_audit_entry() {
    let app = behind(TRUSTED, LimitSettings::default()).await;
    let acme = app.tenant("acme").await;
    let forwarded = "6.6.6.6, 203.0.113.7, 10.1.1.1"; // the client made up the first
    let session = sign_in(&app.anonymous(), &acme.email, PASSWORD, forwarded).await.expect(200);
    let client = app.bearer(session["data"]["access_token"].as_str().unwrap());
    let sessions = client.get("/auth/sessions").await.expect(200);
    assert_eq!(sessions["data"][0]["address"], "203.0.113.7", "{sessions}");
    let entries = client.get("/audit-logs?action=session.created").await.expect(200);
    assert_eq!(entries["data"][0]["ip"], "203.0.113.7", "{entries}");
}

#[tokio::test]
async fn each_client_behind_a_proxy_has_a_limit_of_its_own() {
    let app = behind(TRUSTED, LimitSettings { address: 3, ..LimitSettings::default() }).await;
    let anonymous = app.anonymous();
    for (i, client) in ["203.0.113.7", "203.0.113.8", "2001:db8::1"].into_iter().enumerate() {
        for n in 0..4 {
            let reply = sign_in(&anonymous, &format!("nobody-{i}-{n}@nowhere.example"), "wrong", client).await;
            assert_eq!(reply.status, if n < 3 { 401 } else { 429 }, "{client} {n}");
        }
    }
    let neighbour = sign_in(&anonymous, "nobody@nowhere.example", "wrong", "2001:db8::2").await;
    neighbour.problem(429, "rate_limited");
}

#[tokio::test]
async fn nobody_chooses_an_address_who_is_no_trusted_proxy() {
    for proxies in ["", "10.0.0.0/8"] {
        let app = behind(proxies, LimitSettings { address: 3, ..LimitSettings::default() }).await;
        let statuses = [1, 2, 3, 4].map(async |n| {
            let address = format!("203.0.113.{n}");
            sign_in(&app.anonymous(), &format!("nobody-{n}@nowhere.example"), "wrong", &address).await.status
        });
        let mut seen = Vec::new();
        for status in statuses {
            seen.push(status.await);
        }
        assert_eq!(seen, [401, 401, 401, 429], "{proxies}");
    }
}

#[tokio::test]
async fn what_is_no_address_counts_for_the_proxy_that_passed_it_on() {
    let app = behind(TRUSTED, LimitSettings { address: 3, ..LimitSettings::default() }).await;
    for (n, forwarded) in ["unknown", "203.0.113.7, _hidden", "' or 1=1", ""].into_iter().enumerate() {
        let reply = sign_in(&app.anonymous(), &format!("nobody-{n}@nowhere.example"), "wrong", forwarded).await;
        assert_eq!(reply.status, if n < 3 { 401 } else { 429 }, "{forwarded}");
    }
}
