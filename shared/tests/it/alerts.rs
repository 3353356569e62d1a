//! What tenants are told of.

use std::time::Duration;

use millwork_shared::alerts::queries::{self as alerts, NewAlert};
use millwork_shared::alerts::{Cause, EVENTS_PER_MINUTE, TAG};
use millwork_shared::infra::ids::{AlertId, JobId, WebhookId};
use millwork_shared::jobs::queries::{self, Ending};
use millwork_shared::jobs::{NewJob, Queue};
use millwork_shared::webhooks::queries::{self as webhooks, NewWebhook};
use serde_json::{Value, json};

use super::Ledger;

const MINUTE: Duration = Duration::from_secs(61);

/// An alert on failures that tells nobody.
fn quiet() -> NewAlert {
    NewAlert {
        id: AlertId::generate(),
        cause: Cause::JobFailed,
        kind: None,
        queue: None,
        depth: None,
        age_s: None,
        email: None,
        event: false,
        enabled: true,
    }
}

fn by_mail() -> NewAlert {
    NewAlert { email: Some("ops@acme.example".into()), ..quiet() }
}

fn by_event() -> NewAlert {
    NewAlert { event: true, ..quiet() }
}

impl Ledger {
    async fn alert(&self, alert: &NewAlert) {
        let mut tx = self.tenant().await;
        alerts::insert(&mut tx, alert).await.unwrap();
        tx.commit().await.unwrap();
    }

    /// Lets so many jobs fail, and has it told: the jobs that tell of it.
    async fn fail(&self, count: usize) -> Vec<JobId> {
        let jobs: Vec<NewJob> = (0..count).map(|_| self.job()).collect();
        self.store(&jobs).await;
        self.fail_these(&jobs).await
    }

    async fn fail_these(&self, jobs: &[NewJob]) -> Vec<JobId> {
        for claimed in &self.claim(self.worker().await, jobs).await {
            assert_eq!(self.finish(claimed, Ending::Failed).await, 1);
        }
        self.tell().await
    }

    /// The mails that had to wait, and are sent now.
    async fn late_mails(&self) -> Vec<JobId> {
        let mut tx = self.system.system_by_index().await.unwrap();
        let mails = alerts::mail_failures(&mut tx).await.unwrap();
        tx.commit().await.unwrap();
        mails.iter().map(|mail| mail.id).collect()
    }

    async fn check_queues(&self) -> Vec<JobId> {
        let mut tx = self.system.system_by_index().await.unwrap();
        let checked = alerts::check_queues(&mut tx, Duration::ZERO).await.unwrap();
        tx.commit().await.unwrap();
        checked.told.iter().map(|job| job.id).collect()
    }

    async fn payload(&self, id: JobId) -> Value {
        let mut tx = self.tenant().await;
        let job = queries::get(&mut tx, id).await.unwrap();
        assert_eq!(job.tags.as_deref(), Some(&[TAG.to_owned()][..]), "{}", job.kind);
        serde_json::from_str(&job.payload).unwrap()
    }

    async fn events(&self) -> Vec<Value> {
        let sql = "select json_build_object('type', type, 'payload', payload::json)::text from events order by id";
        self.test.sql(sql).await.into_iter().map(|event| serde_json::from_str(&event.unwrap()).unwrap()).collect()
    }

    async fn webhook(&self, event_types: &[&str]) {
        let new = NewWebhook {
            id: WebhookId::generate(),
            url: "https://acme.example/hook".into(),
            description: String::new(),
            event_types: event_types.iter().map(|name| (*name).to_owned()).collect(),
            enabled: true,
            rate_limit_per_s: None,
            sealed_headers: None,
            metadata: None,
            sealed_secret: vec![1],
        };
        let mut tx = self.tenant().await;
        webhooks::insert(&mut tx, &new).await.unwrap();
        tx.commit().await.unwrap();
    }
}

#[tokio::test]
async fn the_first_failure_is_mailed_at_once_and_those_of_the_next_minute_together() {
    let ledger = Ledger::create().await;
    ledger.alert(&by_mail()).await;
    let [mail] = ledger.fail(2).await[..] else { panic!("one mail") };
    let payload = ledger.payload(mail).await;
    assert_eq!((&payload["to"], &payload["template"]), (&json!("ops@acme.example"), &json!("jobs_failed")));
    let variables = &payload["variables"];
    assert_eq!((&variables["tenant"], &variables["count"]), (&json!("acme"), &json!(2)));
    assert_eq!((&variables["kind"], &variables["error"]), (&json!("echo"), &json!("boom: it broke")));

    assert_eq!(ledger.fail(3).await, []);
    assert_eq!(ledger.fail(1).await, []);
    assert_eq!(ledger.late_mails().await, []);
    ledger.test.advance(MINUTE).await;
    let [mail] = ledger.late_mails().await[..] else { panic!("one mail") };
    assert_eq!(ledger.payload(mail).await["variables"]["count"], 4);
    assert_eq!(ledger.late_mails().await, []);
    assert_eq!(ledger.fail(1).await, [], "the minute begins with every mail");
    ledger.test.advance(MINUTE).await;
    let [mail] = ledger.fail(1).await[..] else { panic!("one mail") };
    assert_eq!(ledger.payload(mail).await["variables"]["count"], 2, "what waited goes with what comes");
    assert_eq!(ledger.late_mails().await, []);
}

#[tokio::test]
async fn every_failure_is_an_event_up_to_so_many_a_minute() {
    let ledger = Ledger::create().await;
    let alert = by_event();
    ledger.alert(&alert).await;
    ledger.webhook(&["job.*"]).await;
    ledger.webhook(&["order.*"]).await;
    let job = ledger.job();
    ledger.store(std::slice::from_ref(&job)).await;
    let [delivery] = ledger.fail_these(std::slice::from_ref(&job)).await[..] else { panic!("one delivery") };
    ledger.payload(delivery).await;
    let event = ledger.events().await.remove(0);
    let failed_at = event["payload"]["failed_at"].clone();
    let expected = json!({
        "alert_id": alert.id, "job_id": job.id, "kind": "echo", "queue": "default", "attempts": 1,
        "error": { "code": "boom", "message": "it broke" }, "failed_at": failed_at, "suppressed": 0,
    });
    assert_eq!((&event["type"], &event["payload"]), (&json!("job.failed"), &expected));

    let most = usize::try_from(EVENTS_PER_MINUTE).unwrap();
    ledger.fail(most + 9).await;
    assert_eq!(ledger.events().await.len(), most);
    ledger.test.advance(MINUTE).await;
    ledger.fail(2).await;
    let events = ledger.events().await;
    let suppressed: Vec<_> = events[most..].iter().map(|event| event["payload"]["suppressed"].clone()).collect();
    assert_eq!(suppressed, [10, 0]);
}

#[tokio::test]
async fn what_tells_of_an_alert_raises_none() {
    let ledger = Ledger::create().await;
    ledger.webhook(&["*"]).await;
    ledger.alert(&by_mail()).await;
    ledger.alert(&by_event()).await;
    let told = ledger.fail(1).await;
    assert_eq!(told.len(), 2);
    ledger.test.advance(MINUTE).await;
    let owner = ledger.worker().await;
    for id in told {
        let tickets = [millwork_shared::jobs::dispatch::Ticket {
            tenant: ledger.tenant,
            id,
            queue: Queue::Default,
            priority: millwork_shared::jobs::Priority::DEFAULT,
        }];
        let mut tx = ledger.system.system_relaxed().await.unwrap();
        let claimed = queries::claim(&mut tx, owner, &tickets).await.unwrap().remove(0);
        tx.commit().await.unwrap();
        ledger.finish(&claimed, Ending::Failed).await;
    }
    assert_eq!(ledger.tell().await, []);
    assert_eq!((ledger.late_mails().await, ledger.events().await.len()), (vec![], 1));
}

#[tokio::test]
async fn an_alert_is_about_what_it_asks_for() {
    let ledger = Ledger::create().await;
    assert_eq!(ledger.fail(1).await, []);
    for alert in [
        NewAlert { kind: Some("email.send".into()), ..by_mail() },
        NewAlert { queue: Some(Queue::Email), ..by_mail() },
        NewAlert { enabled: false, ..by_mail() },
        NewAlert { cause: Cause::QueueBacklogged, queue: Some(Queue::Email), depth: Some(1), ..by_mail() },
    ] {
        ledger.alert(&alert).await;
    }
    assert_eq!(ledger.fail(1).await, []);
    let other = ledger.test.tenant("other").await;
    let mut tx = ledger.test.db.tenant(other).await.unwrap();
    alerts::insert(&mut tx, &by_mail()).await.unwrap();
    tx.commit().await.unwrap();
    assert_eq!(ledger.fail(1).await, []);
    ledger.alert(&NewAlert { kind: Some("echo".into()), queue: Some(Queue::Default), ..by_mail() }).await;
    assert_eq!(ledger.fail(1).await.len(), 1);
    let job = ledger.job();
    ledger.store(std::slice::from_ref(&job)).await;
    ledger.test.advance(MINUTE).await;
    ledger.run_to(&job, Ending::Succeeded).await;
    assert_eq!(ledger.tell().await, [], "a success is none");
}

#[tokio::test]
async fn only_failures_that_somebody_wants_to_know_of_are_written_down() {
    let ledger = Ledger::create().await;
    let run = async |ending| {
        let job = ledger.job();
        ledger.store(std::slice::from_ref(&job)).await;
        ledger.run_to(&job, ending).await;
        ledger.left().await[2]
    };
    assert_eq!(run(Ending::Failed).await, 0);
    ledger.alert(&by_mail()).await;
    assert_eq!(run(Ending::Succeeded).await, 0);
    assert_eq!(run(Ending::Failed).await, 1);
}

#[tokio::test]
async fn a_job_that_kills_its_workers_is_a_failure_too() {
    let ledger = Ledger::create().await;
    ledger.alert(&by_mail()).await;
    let poison = ledger.job();
    ledger.store(std::slice::from_ref(&poison)).await;
    for _ in 0..3 {
        assert_eq!(ledger.claim(ledger.worker().await, std::slice::from_ref(&poison)).await.len(), 1);
        ledger.test.advance(Duration::from_secs(16)).await;
        ledger.reap().await;
    }
    let [mail] = ledger.tell().await[..] else { panic!("one mail") };
    let error = ledger.payload(mail).await["variables"]["error"].clone();
    assert!(error.as_str().unwrap().starts_with("worker_lost: "), "{error}");
}

#[tokio::test]
async fn a_queue_that_falls_behind_is_told_once_until_it_has_caught_up() {
    let ledger = Ledger::create().await;
    ledger.webhook(&["queue.backlogged"]).await;
    let deep = NewAlert {
        cause: Cause::QueueBacklogged,
        queue: Some(Queue::Default),
        depth: Some(4),
        email: Some("ops@acme.example".into()),
        event: true,
        ..quiet()
    };
    ledger.alert(&deep).await;
    let jobs: Vec<NewJob> = (0..4).map(|_| ledger.job()).collect();
    ledger.store(&jobs[..3]).await;
    assert_eq!(ledger.check_queues().await, []);
    ledger.store(&jobs[3..]).await;
    let [mail, delivery] = ledger.check_queues().await[..] else { panic!("a mail and a delivery") };
    let variables = ledger.payload(mail).await["variables"].clone();
    assert_eq!((&variables["queue"], &variables["depth"]), (&json!("default"), &json!("4")));
    ledger.payload(delivery).await;
    let event = ledger.events().await.remove(0);
    assert_eq!((&event["type"], &event["payload"]["depth"]), (&json!("queue.backlogged"), &json!(4)));
    ledger.test.advance(MINUTE).await;
    assert_eq!(ledger.check_queues().await, [], "once");

    ledger.run_to(&jobs[0], Ending::Succeeded).await;
    ledger.check_queues().await; // 3 of 4: neither behind nor caught up
    let more = [ledger.job()];
    ledger.store(&more).await;
    assert_eq!(ledger.check_queues().await, [], "about its threshold it is still the same backlog");
    for job in jobs[1..].iter().chain(&more) {
        ledger.run_to(job, Ending::Succeeded).await;
    }
    assert_eq!(ledger.check_queues().await, []);
    ledger.store(&(0..4).map(|_| ledger.job()).collect::<Vec<_>>()).await;
    assert_eq!(ledger.check_queues().await.len(), 2, "once more");
}

#[tokio::test]
async fn a_queue_is_behind_by_the_age_of_its_oldest_due_job() {
    let ledger = Ledger::create().await;
    let aged = NewAlert { cause: Cause::QueueBacklogged, queue: Some(Queue::Default), age_s: Some(300), ..by_mail() };
    ledger.alert(&aged).await;
    let [running, waiting, later] = [ledger.job(), ledger.job(), ledger.job()];
    let far = NewJob { due: millwork_shared::jobs::Due::In(MINUTE * 60), ..later };
    ledger.store(&[running.clone(), waiting.clone(), far]).await;
    let claimed = ledger.claim(ledger.worker().await, std::slice::from_ref(&running)).await.remove(0);
    ledger.test.advance(Duration::from_secs(299)).await;
    assert_eq!(ledger.check_queues().await, []);
    ledger.test.advance(Duration::from_secs(2)).await;
    let [mail] = ledger.check_queues().await[..] else { panic!("one mail") };
    let age: i64 = ledger.payload(mail).await["variables"]["age_s"].as_str().unwrap().parse().unwrap();
    assert!((300..400).contains(&age), "{age}");
    ledger.finish(&claimed, Ending::Succeeded).await;
}
