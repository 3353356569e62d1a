//! What tenants are told of.

use millwork_shared::testing::HttpReceiver;
use millwork_shared::testing::receiver::Reply as Answer;
use serde_json::json;

use super::start;

#[tokio::test]
async fn a_job_that_fails_is_told_to_the_webhook_that_wants_to_know() {
    let app = start().await;
    let owner = app.quiet_tenant("acme").await.owner;
    let (broken, receiver) = (HttpReceiver::answering([Answer::from(400)]).await, HttpReceiver::start().await);
    let webhook = json!({ "url": receiver.url("/hook"), "event_types": ["job.failed"] });
    owner.post("/webhooks", webhook).await.expect(201);
    owner.post("/alerts", json!({ "on": "job.failed", "notify": { "event": true } })).await.expect(201);
    let _worker = app.worker(); // which tells and offers by itself
    let call = json!({ "kind": "http.request", "payload": { "url": broken.url("/"), "method": "POST" } });
    let id = owner.submit(call).await;
    super::hits(&receiver, 1).await;
    let told = receiver.requests().remove(0).json();
    assert_eq!((&told["type"], &told["data"]["job_id"]), (&json!("job.failed"), &json!(id)));
    let job = owner.job(&id).await;
    assert_eq!((&job["state"], &job["last_error"]), (&json!("failed"), &told["data"]["error"]));
}
