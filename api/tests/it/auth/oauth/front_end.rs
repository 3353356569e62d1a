//! Sign-ins that end with a front end on another origin.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use millwork_shared::infra::crypto::token_hash;
use serde_json::{Value, json};

use super::browser::{changed, parameter};
use super::{PUBLIC_URL, RETURN_URL, Stage};

const VERIFIER: &str = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";

fn query() -> String {
    let challenge = URL_SAFE_NO_PAD.encode(token_hash(VERIFIER));
    let pairs = [("return_to", RETURN_URL), ("challenge", challenge.as_str())];
    format!("?{}", url::form_urlencoded::Serializer::new(String::new()).extend_pairs(pairs).finish())
}

impl Stage {
    /// Where the browser ends.
    async fn returned(&mut self, back: &str) -> String {
        let reply = self.browser.get(back).await;
        assert_eq!(reply.status, 302, "{}", reply.text());
        assert_eq!(reply.header("referrer-policy"), "no-referrer");
        assert!(self.browser.carries().is_empty());
        let end = reply.header("location").to_owned();
        assert!(end.starts_with("https://app.example/signed-in?from=millwork&"), "{end}");
        end
    }

    async fn exchange(&self, code: &str, verifier: Option<&str>) -> crate::support::Reply {
        let body = json!({ "code": code, "verifier": verifier });
        self.app.anonymous().post("/auth/oauth/exchange", body).await
    }
}

#[tokio::test]
async fn the_front_end_that_began_exchanges_its_code_once() {
    let mut stage = Stage::new().await;
    let address = stage.begin_with(&query()).await;
    let back = stage.browser.agree(&address, "ann@new.example").await;
    let end = stage.returned(&back).await;
    let code = parameter(&end, "code").unwrap();
    assert_eq!(parameter(&end, "error"), None);
    for wrong in [None, Some(""), Some("another")] {
        stage.exchange(&code, wrong).await.problem(401, "code_invalid");
    }
    let session = stage.exchange(&code, Some(VERIFIER)).await.expect(200)["data"].clone();
    assert_eq!(session["user"]["email"], "ann@new.example");
    stage.exchange(&code, Some(VERIFIER)).await.problem(401, "code_invalid");
    let stored = stage.app.db.sql("select count(*)::text from oauth_codes").await;
    assert_eq!(stored, [Some("0".to_owned())]);

    let address = stage.begin_with(&query()).await;
    let back = stage.browser.agree(&address, "ann@new.example").await;
    let code = parameter(&stage.returned(&back).await, "code").unwrap();
    let stored = stage.app.db.sql("select encode(code_hash, 'hex') from oauth_codes").await.remove(0).unwrap();
    assert_eq!(stored, token_hash(&code).iter().map(|byte| format!("{byte:02x}")).collect::<String>());
    stage.app.advance(Duration::from_secs(301)).await;
    stage.exchange(&code, Some(VERIFIER)).await.problem(401, "code_invalid");
}

#[tokio::test]
async fn of_two_exchanges_at_once_one_wins() {
    let mut stage = Stage::new().await;
    let address = stage.begin_with(&query()).await;
    let back = stage.browser.agree(&address, "ann@new.example").await;
    let code = parameter(&stage.returned(&back).await, "code").unwrap();
    let replies = futures::future::join_all((0..4).map(|_| stage.exchange(&code, Some(VERIFIER)))).await;
    let mut statuses: Vec<_> = replies.iter().map(|reply| reply.status).collect();
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 401, 401, 401]);
}

#[tokio::test]
async fn what_goes_wrong_is_told_to_the_front_end() {
    let mut stage = Stage::new().await;
    let address = stage.begin_with(&query()).await;
    let back = stage.browser.decline(&address).await;
    let end = stage.returned(&back).await;
    assert_eq!(parameter(&end, "error").as_deref(), Some("access_denied"));
    assert!(parameter(&end, "request_id").is_some_and(|id| !id.is_empty()));
    let address = stage.begin_with(&query()).await;
    let back = stage.browser.agree(&address, "ann@new.example").await;
    let end = stage.returned(&changed(&back, "state", Some("x"))).await;
    assert_eq!(parameter(&end, "error").as_deref(), Some("oauth_state_invalid"));
    assert_eq!(stage.refusals().await, ["access_denied", "oauth_state_invalid"]);
}

#[tokio::test]
async fn a_browser_is_sent_to_no_other_address() {
    let mut stage = Stage::new().await;
    let challenge = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM";
    for (return_to, challenge, code) in [
        (Some("https://app.example/signed-in"), Some(challenge), "return_url_unknown"),
        (Some("https://app.example/signed-in?from=millwork#"), Some(challenge), "return_url_unknown"),
        (Some("https://evil.example/"), Some(challenge), "return_url_unknown"),
        (Some(""), Some(challenge), "return_url_unknown"),
        (Some(RETURN_URL), None, "parameter_invalid"),
        (Some(RETURN_URL), Some("short"), "parameter_invalid"),
        (None, Some(challenge), "parameter_invalid"),
    ] {
        let pairs = [("return_to", return_to), ("challenge", challenge)];
        let pairs = pairs.into_iter().filter_map(|(name, value)| Some((name, value?)));
        let query = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(pairs).finish();
        let reply = stage.browser.get(&format!("{PUBLIC_URL}/api/v1/auth/oauth/acme?{query}")).await;
        reply.problem(400, code);
        assert_eq!(reply.headers.get("set-cookie"), None, "{return_to:?}");
    }
    let unknown: Value = stage.exchange("mwo_x", None).await.problem(401, "code_invalid");
    assert!(unknown["detail"].as_str().unwrap().contains("begin again"), "{unknown}");
}
