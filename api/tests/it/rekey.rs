//! Another master key, as an operator takes it: `millwork-api rekey` beside processes that serve.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;
use tokio::process::Command;

use crate::support::{Client, Options, PASSWORD, PATIENCE, TestApp};

fn keys(ids: &[(&str, u8)]) -> String {
    let keys: Vec<_> = ids.iter().map(|(id, byte)| format!("{id}:{}", STANDARD.encode([*byte; 32]))).collect();
    keys.join(",")
}

fn with(ids: &[(&str, u8)]) -> Options {
    Options { master_keys: keys(ids), ..Options::default() }
}

/// Whether the command succeeded, and what it said.
async fn rekey(app: &TestApp, ids: &[(&str, u8)], arguments: &[&str]) -> (bool, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_millwork-api"));
    command.env_clear().current_dir(std::env::temp_dir()).kill_on_drop(true);
    command.env("DATABASE_URL", &app.db.url).env("MASTER_KEYS", keys(ids)).arg("rekey").args(arguments);
    let output = tokio::time::timeout(PATIENCE, command.output()).await.expect("it ends").unwrap();
    (output.status.success(), String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned())
}

#[tokio::test]
async fn an_operator_takes_another_master_key_while_everything_goes_on() {
    let (old, new) = (("old", 1), ("new", 2));
    let app = TestApp::start_with(with(&[old, new])).await; // the first step: all can open what the new key seals
    let acme = app.tenant("acme").await;
    let owner = &acme.owner;
    let body = json!({ "url": "https://x.example/", "event_types": ["*"], "headers": { "x-key": "value" } });
    let made = owner.post_once("/webhooks", "key", body.clone()).await;
    let endpoint = made.expect(201)["data"].clone();
    let path = format!("/webhooks/{}/secret", endpoint["id"].as_str().unwrap());
    owner.post("/auth/mfa/totp/enrol", json!({ "current_password": PASSWORD })).await.expect(200);

    let (_, url) = app.another(with(&[new, old])).await; // the second: one after the other seals with it
    let second = Client::new(&url, owner.token.clone());
    let (success, said) = rekey(&app, &[new, old], &["--check"]).await;
    assert!(!success && said.contains("webhooks.sealed_secret: 1 under older keys"), "{said}");
    assert!(
        said.contains("idempotency_keys.sealed_body: 1 under") && said.contains("signing_keys.sealed_private: 1 under")
    );

    let (success, said) = rekey(&app, &[new], &[]).await; // somebody was in a hurry
    assert!(!success && said.contains("key `old`, which MASTER_KEYS lacks"), "{said}");
    let (success, said) = rekey(&app, &[new, old], &[]).await; // the third
    assert!(success && said.contains("webhooks.sealed_secret: 1 sealed anew, 0 changed meanwhile, 0 cannot"), "{said}");
    assert!(said.contains("nothing is sealed under older keys"), "{said}");
    for client in [owner, &second] {
        assert_eq!(client.get(&path).await.expect(200)["data"]["secret"], endpoint["secret"]);
    }
    let (success, said) = rekey(&app, &[new], &["--check"]).await;
    assert!(success, "{said}");

    let (_, url) = app.another(with(&[new])).await; // the last: without the old one
    let last = Client::new(&url, owner.token.clone());
    assert_eq!(last.get(&path).await.expect(200)["data"]["secret"], endpoint["secret"]);
    let replayed = last.post_once("/webhooks", "key", body).await;
    assert_eq!((replayed.header("idempotent-replayed"), &replayed.body), ("true", &made.body));
    assert_eq!(last.get("/webhooks").await.expect(200)["data"][0]["headers"], endpoint["headers"]);
    let entries = last.get("/audit-logs?action=webhook.updated").await.expect(200);
    assert_eq!(entries["data"], json!([]), "the tenant's secrets are what they were");
}
