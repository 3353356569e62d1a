//! Faults of requests, as Sentry is told of them on loopback.

use millwork_shared::testing::HttpReceiver;
use millwork_shared::testing::sentry::{Report, reporting_to};
use reqwest::Method;
use serde_json::json;

use crate::support::{Reply, TestApp};

#[tokio::test]
async fn a_fault_of_ours_is_reported_with_its_request_and_nobodys_data() {
    let receiver = HttpReceiver::start().await;
    let running = reporting_to(&receiver);
    let app = TestApp::start().await;
    let acme = app.tenant("acme").await;
    let ask = async |id: &str| {
        let request = acme.owner.request(Method::POST, "/webhooks?token=secret").header("x-request-id", id);
        let body = json!({ "url": "https://example.com/private", "event_types": ["order.*"] });
        Reply::of(request.json(&body)).await
    };
    ask("well").await.expect(201);
    app.db.sql("alter table webhooks rename column url to elsewhere").await;
    ask("badly").await.problem(500, "internal");
    acme.owner.get("/jobs/nonsense").await; // a client's fault

    running.flush().await;
    let reports = Report::all(&receiver);
    let ours: Vec<_> = reports.iter().filter(|report| report.tag("request.id") == "badly").collect();
    let [report] = ours.as_slice() else { panic!("{reports:#?}") };
    assert_eq!(report.event["message"], "a request failed");
    assert_eq!(report.event["logger"], "millwork_api::http::problem");
    for (tag, value) in
        [("process", "test"), ("http.method", "POST"), ("problem.code", "internal"), ("error.category", "server")]
    {
        assert_eq!(report.tag(tag), value, "{report:#?}");
    }
    let cause = report.event["extra"]["cause"].as_str().unwrap();
    assert!(cause.contains("column") && cause.contains("does not exist"), "{cause}");
    assert!(!cause.contains("url"), "without what it quotes: {cause}");
    let text = report.event.to_string();
    for private in ["owner-", "acme.example", "example.com/private", "token=secret", "Olive", "/webhooks"] {
        assert!(!text.contains(private), "{private} in {text}");
    }
    assert!(!reports.iter().any(|report| report.tag("error.category") == "client"), "{reports:#?}");
}
