//! Jobs that run after others.

use millwork_shared::testing::HttpReceiver;
use millwork_shared::testing::receiver::Reply as Answer;
use serde_json::{Value, json};

use super::start;

fn call(url: String, members: Value) -> Value {
    let mut job = json!({ "kind": "http.request", "payload": { "url": url, "method": "POST" } });
    job.as_object_mut().unwrap().extend(members.as_object().unwrap().clone());
    job
}

#[tokio::test]
async fn a_chain_runs_in_its_order_without_waiting_for_the_scheduler() {
    let app = start().await;
    let owner = app.quiet_tenant("acme").await.owner;
    let receiver = HttpReceiver::start().await;
    let step =
        |name: &str, after: &[&str]| call(receiver.url(&format!("/{name}")), json!({ "ref": name, "after": after }));
    let jobs = json!({ "jobs": [step("a", &[]), step("b", &["a"]), step("c", &["b"]), step("d", &["a", "c"])] });
    let reply = owner.post("/jobs/batch", jobs).await.expect(202);
    let _worker = app.worker(); // nobody else would offer them, but the look every ten seconds that is not running
    owner.until(reply["data"][3]["id"].as_str().unwrap(), "succeeded").await;
    let paths: Vec<_> = receiver.requests().into_iter().map(|request| request.path).collect();
    assert_eq!(paths, ["/a", "/b", "/c", "/d"]);
}

#[tokio::test]
async fn a_failure_stops_the_chain_and_what_runs_anyway_does() {
    let app = start().await;
    let owner = app.quiet_tenant("acme").await.owner;
    let receiver = HttpReceiver::answering([Answer::from(400), 200.into()]).await;
    let _worker = app.worker();
    let jobs = json!({ "jobs": [
        call(receiver.url("/broken"), json!({ "ref": "a", "delay_s": 1 })),
        call(receiver.url("/never"), json!({ "ref": "b", "after": ["a"] })),
        call(receiver.url("/anyway"), json!({ "after": ["b"], "on_predecessor_failure": "run" })),
    ]});
    let reply = owner.post("/jobs/batch", jobs).await.expect(202);
    let _scheduler = app.scheduler();
    let id = |n: usize| reply["data"][n]["id"].as_str().unwrap().to_owned();
    owner.until(&id(2), "succeeded").await;
    assert_eq!(owner.job(&id(0)).await["state"], "failed");
    let stopped = owner.job(&id(1)).await;
    assert_eq!(
        (&stopped["state"], &stopped["last_error"]["code"]),
        (&json!("cancelled"), &json!("predecessor_failed"))
    );
    let paths: Vec<_> = receiver.requests().into_iter().map(|request| request.path).collect();
    assert_eq!(paths, ["/broken", "/anyway"]);
}

#[tokio::test]
async fn a_cancellation_by_the_api_goes_down_the_chain_by_itself() {
    let app = start().await;
    let owner = app.quiet_tenant("acme").await.owner;
    let echo = |members: Value| {
        let mut job = json!({ "kind": "echo", "payload": 1 });
        job.as_object_mut().unwrap().extend(members.as_object().unwrap().clone());
        job
    };
    let jobs = json!({ "jobs": [
        echo(json!({ "ref": "a" })), echo(json!({ "ref": "b", "after": ["a"] })), echo(json!({ "after": ["b"] })),
    ]});
    let reply = owner.post("/jobs/batch", jobs).await.expect(202);
    let id = |n: usize| reply["data"][n]["id"].as_str().unwrap().to_owned();
    owner.post_empty(&format!("/jobs/{}/cancel", id(0))).await.expect(202);
    owner.until(&id(1), "cancelled").await;
    owner.until(&id(2), "cancelled").await;
}

#[tokio::test]
async fn the_last_job_of_a_batch_is_told_how_the_others_ended() {
    let app = start().await;
    let owner = app.quiet_tenant("acme").await.owner;
    let receiver = HttpReceiver::answering([Answer::from(400), 200.into()]).await;
    let _worker = app.worker();
    let body = json!({ "done": "{{batch.succeeded}}", "text": "{{batch.failed}} of {{batch.total}} in {{batch.id}}" });
    let last =
        json!({ "kind": "http.request", "payload": { "url": receiver.url("/done"), "method": "POST", "body": body } });
    let mut jobs = vec![json!({ "kind": "echo", "payload": 1 }); 40];
    jobs.push(call(receiver.url("/broken"), json!({})));
    let reply = owner.post("/jobs/batch", json!({ "jobs": jobs, "batch": { "on_complete": last } })).await.expect(202);
    let batch_id = reply["data"][0]["batch_id"].as_str().unwrap();
    let batch = owner.get(&format!("/batches/{batch_id}")).await.expect(200)["data"].clone();
    owner.until(batch["on_complete_id"].as_str().unwrap(), "succeeded").await;
    let calls = receiver.requests();
    assert_eq!(calls.iter().map(|call| call.path.as_str()).collect::<Vec<_>>(), ["/broken", "/done"]);
    assert_eq!(calls[1].json(), json!({ "done": "40", "text": format!("1 of 41 in {batch_id}") }));
    let batch = owner.get(&format!("/batches/{batch_id}")).await.expect(200)["data"].clone();
    assert_eq!((&batch["pending"], &batch["succeeded"], &batch["failed"]), (&json!(0), &json!(40), &json!(1)));
    assert!(batch["finished_at"].is_string(), "{batch}");
}
