//! A mail server that is down: mails wait, nothing else does.

use millwork_dev::services::ports;
use serde_json::json;

use crate::support::{Cluster, MailServer, SOON, echo, wait_for};

#[test]
fn mails_wait_while_the_mail_server_is_down_and_each_arrives_once_it_is_up() {
    let cluster = Cluster::start();
    let client = &cluster.client;
    let port = ports::free().unwrap();
    let url = format!("smtp://127.0.0.1:{port}");
    let worker = cluster.spawn_worker_with(&[("MAIL_URL", &*url), ("MAIL_FROM", "millwork@example.com")]);
    let subjects: Vec<String> = (0..10).map(|number| format!("mail {number}")).collect();
    let ids: Vec<String> = subjects
        .iter()
        .map(|subject| {
            let payload = json!({"to": "someone@example.com", "subject": subject, "text": "Hello"});
            client.submit(&json!({"kind": "email.send", "payload": payload, "tags": ["mail"]}))
        })
        .collect();
    wait_for("an attempt at each", SOON, || ids.iter().all(|id| client.endings(id).contains(&"retry".to_owned())));
    let mut said = worker.lines().filter(|line| line["message"] == "a mail server failed");
    assert!(said.all(|line| line["error.category"] == "dependency"));
    assert!(worker.said("a mail server failed"));
    for job in client.jobs("mail") {
        assert!(["retrying", "queued", "running"].iter().any(|state| job["state"] == *state), "{job}");
        assert!(job["last_error"]["code"].is_string(), "{job}");
    }
    let other = client.submit(&echo("other"));
    wait_for("the end of another job", SOON, || client.job(&other)["state"] == "succeeded");

    let server = MailServer::start_at(port);
    wait_for("the end of all mails", SOON, || client.states("mail").get("succeeded") == Some(&10));
    let arrived: Vec<String> = server.subjects().into_iter().filter(|subject| subject.starts_with("mail ")).collect();
    assert_eq!(arrived, subjects, "each once");
}
