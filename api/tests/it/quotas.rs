//! What a tenant may use in a month.

use std::time::Duration;

use futures::stream::{self, StreamExt};
use serde_json::{Value, json};

use crate::support::{Client, Options, TestApp};

const DAY: Duration = Duration::from_secs(86_400);

async fn with_quotas(quotas: &str) -> TestApp {
    TestApp::start_with(Options { quotas: quotas.parse().unwrap(), ..Options::default() }).await
}

async fn submit(client: &Client) -> crate::support::Reply {
    client.post("/jobs", json!({ "kind": "echo", "payload": {} })).await
}

async fn quota(client: &Client, name: &str) -> Value {
    client.get("/quotas").await.expect(200)["data"][name].clone()
}

#[tokio::test]
async fn of_those_who_ask_for_the_last_unit_one_gets_it() {
    let app = with_quotas("starter=20/100/5").await;
    let acme = app.quiet_tenant("acme").await;
    let replies: Vec<u16> =
        stream::iter(0..50).map(|_| async { submit(&acme.owner).await.status }).buffer_unordered(16).collect().await;
    assert_eq!(replies.iter().filter(|status| **status == 202).count(), 20);
    assert!(replies.iter().all(|status| [202, 429].contains(status)), "{replies:?}");
    let refused = submit(&acme.owner).await;
    assert_eq!(refused.problem(429, "quota_exceeded")["quota"], "jobs");
    assert!(refused.header("retry-after").parse::<u32>().unwrap() <= 31 * 86_400);
    assert_eq!(quota(&acme.owner, "jobs").await, json!({ "limit": 20, "used": 20, "remaining": 0 }));
    let stored = format!("select count(*)::text from jobs where kind = 'echo' and tenant_id = '{}'", acme.id);
    assert_eq!(app.db.sql(stored).await[0].as_deref(), Some("20"));
    submit(&app.tenant("other").await.owner).await.expect(202);

    app.advance(DAY * 32).await;
    let body = json!({ "email": acme.email, "password": crate::support::PASSWORD });
    let session = app.anonymous().post("/auth/login", body).await.expect(200);
    submit(&app.bearer(session["data"]["access_token"].as_str().unwrap())).await.expect(202);
}

#[tokio::test]
async fn two_processes_share_a_quota() {
    let app = with_quotas("starter=10/10/5").await;
    let acme = app.quiet_tenant("acme").await;
    let meter = || {
        let settings = "starter=10/10/5".parse().unwrap();
        millwork_api::quotas::meter::Meter::new(
            app.db.db.clone(),
            app.app.dispatcher.clone(),
            app.db.clock.clone(),
            settings,
        )
    };
    let (one, two) = (meter(), meter());
    let mut taken = 0;
    for n in 0..20 {
        let meter = if n % 2 == 0 { &one } else { &two };
        if let Ok(units) = meter.take((acme.id, 10), millwork_shared::quotas::Metric::Jobs, 1).await {
            units.keep();
            taken += 1;
        }
    }
    assert_eq!(taken, 10);
}

#[tokio::test]
async fn only_what_was_stored_counts() {
    let app = with_quotas("starter=1000/1000/5").await;
    let acme = app.tenant("acme").await;
    submit(&acme.owner).await.expect(202);
    for _ in 0..3 {
        acme.owner.post_once("/jobs", "k", json!({ "kind": "echo", "payload": 1 })).await.expect(202);
        acme.owner.post("/jobs", json!({ "kind": "nope" })).await.expect(422);
    }
    let unique = json!({ "kind": "echo", "payload": 1, "unique_key": "u", "delay_s": 600 });
    acme.owner.post("/jobs", unique.clone()).await.expect(202);
    acme.owner.post("/jobs", unique).await.problem(409, "job_not_unique");
    let batch = json!({ "jobs": [{ "kind": "echo", "payload": 1 }, { "kind": "echo", "payload": 2 }] });
    acme.owner.post("/jobs/batch", batch).await.expect(202);
    for n in 0..2 {
        acme.owner.post("/events", json!({ "type": "a.b", "payload": n })).await.expect(202);
    }
    let usage = acme.owner.get("/usage").await.expect(200)["data"].clone();
    assert_eq!((&usage["jobs"], &usage["events"], &usage["members"]), (&json!(5), &json!(2), &json!(1)), "{usage}");
    app.app.meter.give_back(true).await;
    let used = format!("select used::text from usage where metric = 'jobs' and tenant_id = '{}'", acme.id);
    assert_eq!(app.db.sql(used).await[0].as_deref(), Some("5"), "what was not used is given back");
    assert_eq!(quota(&acme.owner, "jobs").await["remaining"], 995);
}

#[tokio::test]
async fn requests_are_counted_by_the_month_and_in_all_processes_and_shown_beside_their_rates() {
    let options = Options { limits: "starter=13/12/11".parse().unwrap(), ..Options::default() };
    let app = TestApp::start_with(options).await;
    let (acme, other) = (app.quiet_tenant("acme").await, app.quiet_tenant("other").await);
    for _ in 0..3 {
        acme.owner.get("/auth/me").await.expect(200);
    }
    acme.owner.get("/jobs/0").await.problem(400, "parameter_invalid");
    app.anonymous().get("/auth/me").await.expect(401);
    other.owner.get("/auth/me").await.expect(200);
    let used = async |client: &Client| client.get("/usage").await.expect(200)["data"]["requests"].as_i64().unwrap();
    assert_eq!((used(&acme.owner).await, used(&other.owner).await), (5, 2), "the one that asks too");

    app.app.requests.write(&app.db.db).await;
    app.app.requests.write(&app.db.db).await;
    let stored = format!("select used::text from usage where metric = 'requests' and tenant_id = '{}'", acme.id);
    assert_eq!(app.db.sql(stored).await, [Some("5".to_owned())]);
    app.db.sql("update usage set used = used + 100 where metric = 'requests'").await; // by another process
    let rates = json!({ "tenant_per_minute": 13, "user_per_minute": 12, "api_key_per_minute": 11, "used": 106 });
    assert_eq!(quota(&acme.owner, "requests").await, rates);

    let mut admitted = 0;
    while acme.owner.get("/auth/me").await.status == 200 {
        admitted += 1;
    }
    app.advance(Duration::from_secs(120)).await;
    assert_eq!(used(&acme.owner).await, 106 + admitted + 1, "who is refused is not counted");
    app.app.requests.write(&app.db.db).await;
    app.db.sql("update usage set period = period - 40").await;
    assert_eq!(used(&acme.owner).await, 1, "a month begins anew");
}

#[tokio::test]
async fn requests_that_could_not_be_written_are_written_later() {
    let app = with_quotas("starter=10/10/5").await;
    let acme = app.quiet_tenant("acme").await;
    app.db.sql("alter table usage rename to gone").await;
    acme.owner.get("/auth/me").await.expect(200);
    app.app.requests.write(&app.db.db).await;
    app.db.sql("alter table gone rename to usage").await;
    app.app.requests.write(&app.db.db).await;
    assert_eq!(app.db.sql("select used::text from usage where metric = 'requests'").await, [Some("1".to_owned())]);
}

#[tokio::test]
async fn owners_are_told_once_at_80_and_at_100_per_cent() {
    let app = with_quotas("starter=10/10/5").await;
    let acme = app.quiet_tenant("acme").await;
    let told = async || {
        let sql = "select payload::json ->> 'percent' from jobs where kind = 'quotas.send_notice' order by id";
        app.db.sql(sql).await.into_iter().flatten().collect::<Vec<_>>()
    };
    for (jobs, percents) in [(7, &[][..]), (1, &["80"][..]), (1, &["80"][..]), (1, &["80", "100"][..])] {
        for _ in 0..jobs {
            submit(&acme.owner).await.expect(202);
        }
        assert_eq!(told().await, percents);
    }
    submit(&acme.owner).await.problem(429, "quota_exceeded");
    assert_eq!(told().await, ["80", "100"]);
}
