//! What does not count: other people's links, old ones, answers of others, tokens that nobody signed.

use std::time::Duration;

use millwork_api::config::Registration;
use millwork_shared::infra::crypto::Secret;
use millwork_shared::testing::{HttpReceiver, Reply as Answer};
use serde_json::json;

use super::browser::{changed, parameter};
use super::{PUBLIC_URL, Scene, Stage, account, registered};

#[tokio::test]
async fn a_callback_counts_once_and_in_the_browser_that_began_alone() {
    let mut stage = Stage::new().await;
    let back = stage.agreed("ann@new.example").await;
    let mut other = stage.browser.another();
    let problem = other.get(&back).await.problem(400, "oauth_state_invalid");
    assert!(problem["detail"].as_str().unwrap().contains("this browser has not begun one"), "{problem}");
    other.get(&format!("{PUBLIC_URL}/api/v1/auth/oauth/acme")).await; // one of their own does not help
    other.get(&back).await.problem(400, "oauth_state_invalid");

    let mut copy = stage.browser.clone();
    stage.browser.get(&back).await.expect(200);
    stage.browser.get(&back).await.problem(400, "oauth_state_invalid");
    let problem = copy.get(&back).await.problem(400, "oauth_state_invalid");
    assert!(problem["detail"].as_str().unwrap().contains("came to its end before"), "{problem}");
    assert_eq!(stage.refusals().await, vec!["oauth_state_invalid"; 4]);
    let entry = "select tenant_id || ' ' || actor_type || ' ' || resource_id from audit_logs
                  where action = 'oauth.refused' limit 1";
    let entry = stage.app.db.sql(entry).await.remove(0).unwrap();
    assert_eq!(entry, "00000000-0000-7000-8000-000000000000 anonymous acme");
}

#[tokio::test]
async fn a_state_that_is_wrong_missing_or_too_old_is_refused() {
    let mut stage = Stage::new().await;
    for state in [Some("x"), Some(""), None] {
        let back = stage.agreed("ann@new.example").await;
        let problem = stage.browser.get(&changed(&back, "state", state)).await;
        problem.problem(400, "oauth_state_invalid");
        assert!(stage.browser.carries().is_empty(), "the flow is over");
    }
    let back = stage.agreed("ann@new.example").await;
    stage.app.advance(Duration::from_secs(601)).await;
    stage.browser.get(&back).await.problem(400, "oauth_state_invalid");
    assert_eq!(stage.app.db.sql("select count(*)::text from users").await, [Some("0".to_owned())]);
}

#[tokio::test]
async fn what_was_begun_with_one_provider_does_not_end_with_another() {
    let providers =
        vec![registered("acme", PUBLIC_URL, 0, json!({})).await, registered("other", PUBLIC_URL, 1, json!({})).await];
    let mut stage = Stage::knowing(providers, Registration::Open, PUBLIC_URL).await;
    let back = stage.agreed("ann@new.example").await;
    let elsewhere = back.replace("/oauth/acme/", "/oauth/other/");
    stage.browser.clone().get(&elsewhere).await.problem(400, "oauth_state_invalid");
    // An answer that names another issuer, or none where the issuer names itself.
    for iss in [Some("https://evil.example"), None] {
        let back = stage.agreed("ann@new.example").await;
        stage.browser.get(&changed(&back, "iss", iss)).await.problem(400, "issuer_mismatch");
    }
    stage.browser.get(&format!("{PUBLIC_URL}/api/v1/auth/oauth/nobody")).await.problem(404, "not_found");
    stage.browser.get(&format!("{PUBLIC_URL}/api/v1/auth/oauth/nobody/callback")).await.problem(404, "not_found");
}

#[tokio::test]
async fn a_code_is_of_no_use_without_its_verifier_or_a_second_time() {
    let mut stage = Stage::new().await;
    let address = stage.begin().await;
    assert_eq!(parameter(&address, "code_challenge_method").as_deref(), Some("S256"));
    let challenge = Some("E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM");
    let back = stage.browser.agree(&changed(&address, "code_challenge", challenge), "ann@new.example").await;
    stage.browser.get(&back).await.problem(400, "code_refused");

    // Somebody else's code, with a state of one's own: the verifier is another one.
    let mut victim = stage.browser.another();
    let begun = victim.get(&format!("{PUBLIC_URL}/api/v1/auth/oauth/acme")).await;
    let theirs = victim.agree(begun.header("location"), "ann@new.example").await;
    let back = stage.agreed("bob@new.example").await;
    let stolen = changed(&back, "code", parameter(&theirs, "code").as_deref());
    stage.browser.get(&stolen).await.problem(400, "code_refused");
    let back = stage.agreed("bob@new.example").await;
    stage.browser.get(&changed(&back, "code", None)).await.problem(400, "code_missing");
    assert_eq!(stage.app.db.sql("select count(*)::text from users").await, [Some("0".to_owned())]);
}

#[tokio::test]
async fn an_id_token_that_answers_another_sign_in_is_refused() {
    let mut stage = Stage::new().await;
    let address = stage.begin().await;
    let back = stage.browser.agree(&changed(&address, "nonce", Some("of-another")), "ann@new.example").await;
    let problem = stage.browser.get(&back).await.problem(401, "id_token_invalid");
    assert!(problem["detail"].as_str().unwrap().contains("nonce"), "{problem}");
}

#[tokio::test]
async fn an_id_token_that_has_expired_is_refused() {
    let mut stage = Stage::new().await;
    let back = stage.agreed("ann@new.example").await;
    stage.app.advance(Duration::from_secs(300)).await; // the provider's are good for one minute
    let problem = stage.browser.get(&back).await.problem(401, "id_token_invalid");
    assert!(problem["detail"].as_str().unwrap().contains("expired"), "{problem}");
}

#[tokio::test]
async fn an_id_token_signed_with_the_shared_secret_is_refused() {
    let client = json!({ "id_token_signed_response_alg": "HS256" });
    let mut stage = Stage::with(Scene { client, ..Scene::default() }).await;
    let problem = stage.sign_in("ann@new.example").await.problem(401, "id_token_invalid");
    assert!(problem["detail"].as_str().unwrap().contains("private key"), "{problem}");
}

#[tokio::test]
async fn who_thinks_better_of_it_is_told_so() {
    let mut stage = Stage::new().await;
    let address = stage.begin().await;
    let back = stage.browser.decline(&address).await;
    stage.browser.get(&back).await.problem(403, "access_denied");
    for (error, status, code) in [
        ("invalid_scope", 400, "provider_error"),
        ("<script>", 400, "provider_error"),
        ("temporarily_unavailable", 503, "unavailable"),
    ] {
        let back = stage.agreed("ann@new.example").await;
        let reply = stage.browser.get(&changed(&back, "error", Some(error))).await;
        let problem = reply.problem(status, code);
        assert!(!reply.text().contains("<script>"), "{problem}");
    }
}

#[tokio::test]
async fn a_client_that_the_provider_does_not_know_is_our_fault_and_nobodys_account() {
    let mut provider = registered("acme", PUBLIC_URL, 0, json!({})).await;
    provider.client_secret = Secret::new("another".to_owned());
    let mut stage = Stage::knowing(vec![provider], Registration::Open, PUBLIC_URL).await;
    let reply = stage.sign_in("ann@new.example").await;
    reply.problem(503, "unavailable");
    assert!(!reply.header("retry-after").is_empty());
}

#[tokio::test]
async fn a_provider_that_misbehaves_costs_one_answer_and_no_more() {
    let issuer = HttpReceiver::start().await;
    let mut provider = registered("acme", PUBLIC_URL, 0, json!({})).await;
    provider.issuer = issuer.url("");
    let document = |issuer: &str| {
        json!({
            "issuer": issuer, "authorization_endpoint": format!("{issuer}/a"), "token_endpoint": format!("{issuer}/t"),
            "jwks_uri": format!("{issuer}/j"),
        })
        .to_string()
    };
    let elsewhere = [("location", "https://other.example/")];
    for answer in [
        Answer::Status(500),
        Answer::with_headers(302, &elsewhere),
        Answer::with_body(200, "no JSON"),
        Answer::with_body(200, document("https://other.example")),
        Answer::Huge(100_000_000),
        Answer::Cut,
        Answer::Garbage,
    ] {
        let mut stage = Stage::knowing(vec![provider.clone()], Registration::Open, PUBLIC_URL).await;
        issuer.then([answer.clone()]);
        let asked = issuer.hits();
        let reply = stage.browser.get(&format!("{PUBLIC_URL}/api/v1/auth/oauth/acme")).await;
        reply.problem(503, "unavailable");
        // It is left alone for a moment, and then asked again.
        stage.browser.get(&format!("{PUBLIC_URL}/api/v1/auth/oauth/acme")).await.problem(503, "unavailable");
        assert_eq!(issuer.hits(), asked + 1, "{answer:?}");
        stage.app.advance(Duration::from_secs(3)).await;
        issuer.then([Answer::with_body(200, document(&provider.issuer))]);
        stage.begin().await;
    }
}

#[tokio::test]
async fn who_sends_one_forged_callback_after_the_other_waits() {
    let mut stage = Stage::new().await;
    let forged = format!("{PUBLIC_URL}/api/v1/auth/oauth/acme/callback?state=x&code=y");
    let mut last = stage.browser.get(&forged).await;
    for _ in 0..60 {
        if last.status == 429 {
            break;
        }
        last.problem(400, "oauth_state_invalid");
        last = stage.browser.get(&forged).await;
    }
    last.problem(429, "rate_limited");
}

#[tokio::test]
async fn the_cookie_is_for_this_host_alone_and_not_for_scripts() {
    for (public_url, cookie) in [(PUBLIC_URL, "__Host-millwork_oauth"), ("http://api.example", "millwork_oauth")] {
        let mut stage = Stage::with(Scene { public_url, ..Scene::default() }).await;
        let reply = stage.browser.get(&format!("{public_url}/api/v1/auth/oauth/acme")).await;
        let line = reply.header("set-cookie");
        let (name, _) = line.split_once('=').unwrap();
        assert_eq!(name, cookie);
        for word in ["; Path=/;", "; Max-Age=600;", "; HttpOnly;", "; SameSite=Lax"] {
            assert!(line.contains(word), "{word} in {line}");
        }
        assert_eq!(line.contains("; Secure"), public_url.starts_with("https"), "{line}");
        assert!(!line.contains("Domain"), "{line}");
        let address = reply.header("location").to_owned();
        let back = stage.browser.agree(&address, "ann@new.example").await;
        stage.browser.get(&back).await.expect(200);
    }
    let mut stage = Stage::new().await;
    account(&stage.app, "ann@acme.example", false).await;
    assert!(stage.browser.carries().is_empty());
    stage.begin().await;
    assert_eq!(stage.browser.carries(), ["__Host-millwork_oauth"]);
}
