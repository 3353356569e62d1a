//! A tenant with endpoints and events, and the context that handlers work in.

use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use millwork_shared::egress::AllowedNets;
use millwork_shared::events::queries::{NewDelivery, NewEvent, insert_deliveries, insert_events};
use millwork_shared::infra::clock::Clock;
use millwork_shared::infra::config::Faults;
use millwork_shared::infra::crypto::KeyRing;
use millwork_shared::infra::db::Db;
use millwork_shared::infra::ids::{DeliveryId, EventId, JobId, TenantId, WebhookId};
use millwork_shared::jobs::dispatch::Dispatcher;
use millwork_shared::jobs::{Cause, JobError, Outcome};
use millwork_shared::maintenance::Retention;
use millwork_shared::testing::TestDb;
use millwork_shared::webhooks::jobs::DeliverWebhook;
use millwork_shared::webhooks::queries::{self, NewWebhook, WebhookRow};
use millwork_shared::webhooks::{generate_secret, headers_context, secret_context};
use millwork_worker::context::Context;
use millwork_worker::egress::Egress;
use millwork_worker::email::MailArgs;
use millwork_worker::runtime::Run;
use millwork_worker::webhooks::{Deliveries, Settings};
use serde_json::value::RawValue;

pub struct World {
    pub db: TestDb,
    pub ctx: Arc<Context>,
    pub tenant: TenantId,
    pub keys: Arc<KeyRing>,
}

/// An endpoint and the secret that its receiver knows.
pub struct Endpoint {
    pub id: WebhookId,
    pub secret: String,
}

impl World {
    pub async fn create() -> Self {
        Self::create_with("127.0.0.0/8".parse().unwrap()).await
    }

    /// A world in which only `nets` may be called, of what is private.
    pub async fn create_with(nets: AllowedNets) -> Self {
        let db = TestDb::create().await;
        let tenant = db.tenant("Acme").await;
        let keys = Arc::new(KeyRing::parse(&format!("t:{}", STANDARD.encode([7; 32]))).unwrap());
        let settings = Settings { schedule: "10s,100s".parse().unwrap(), timeout: Duration::from_millis(1_000) };
        let ctx = Context::for_test(&db, keys.clone(), nets, settings).unwrap();
        Self { db, ctx: Arc::new(ctx), tenant, keys }
    }

    pub async fn endpoint(&self, url: String) -> Endpoint {
        self.endpoint_with(url, &[]).await
    }

    pub async fn endpoint_with(&self, url: String, headers: &[(&str, &str)]) -> Endpoint {
        let (id, secret) = (WebhookId::generate(), generate_secret().expose().clone());
        let headers: std::collections::BTreeMap<_, _> = headers.iter().copied().collect();
        let sealed_headers = self.keys.seal(&headers_context(id), &serde_json::to_vec(&headers).unwrap()).unwrap();
        let new = NewWebhook {
            id,
            url,
            description: String::new(),
            event_types: vec!["*".into()],
            enabled: true,
            rate_limit_per_s: None,
            sealed_headers: Some(sealed_headers),
            metadata: None,
            sealed_secret: self.keys.seal(&secret_context(id), secret.as_bytes()).unwrap(),
        };
        let mut tx = self.db.db.tenant(self.tenant).await.unwrap();
        queries::insert(&mut tx, &new).await.unwrap();
        tx.commit().await.unwrap();
        Endpoint { id, secret }
    }

    pub async fn webhook(&self, id: WebhookId) -> WebhookRow {
        let mut tx = self.db.db.tenant(self.tenant).await.unwrap();
        queries::get(&mut tx, id).await.unwrap()
    }

    pub async fn change(&self, id: WebhookId, change: &queries::Change) {
        let mut tx = self.db.db.tenant(self.tenant).await.unwrap();
        queries::update(&mut tx, id, change).await.unwrap();
        tx.commit().await.unwrap();
    }

    /// Publishes an event to one endpoint, by hand.
    pub async fn event(&self, webhook: WebhookId, payload: &str) -> (DeliverWebhook, Run) {
        let event = NewEvent {
            tenant: self.tenant,
            id: EventId::generate(),
            event_type: "order.created".into(),
            payload: RawValue::from_string(payload.to_owned()).unwrap(),
            created_at: self.db.clock.now(),
            cause: Cause::default(),
        };
        let delivery = NewDelivery {
            tenant: self.tenant,
            id: DeliveryId::generate(),
            webhook,
            event: event.id,
            event_type: event.event_type.clone(),
        };
        let mut tx = self.db.db.system().system().await.unwrap();
        assert_eq!(insert_events(&mut tx, std::slice::from_ref(&event)).await.unwrap(), 1);
        insert_deliveries(&mut tx, std::slice::from_ref(&delivery)).await.unwrap();
        tx.commit().await.unwrap();
        (DeliverWebhook { event: event.id, webhook }, self.run(JobId(delivery.id.0)))
    }

    pub fn run(&self, job: JobId) -> Run {
        Run::for_test(self.tenant, job)
    }
}

/// A context whose mails go to `mail_url`.
pub fn context(db: &Db, egress: Egress, mail_url: &str) -> Context {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let mut faults = Faults::default();
    let mail = MailArgs { mail_url: Some(mail_url.into()), mail_from: Some("Millwork <no-reply@example.com>".into()) };
    let mailer = mail.read(&mut faults);
    faults.finish().unwrap();
    let webhooks = Settings { schedule: "10s,100s".parse().unwrap(), timeout: Duration::from_millis(1_000) };
    Context {
        db: db.clone(),
        system: db.system(),
        keys: Arc::new(KeyRing::parse(&format!("t:{}", STANDARD.encode([7; 32]))).unwrap()),
        clock: Clock::default(),
        retention: Retention::of_all(Duration::from_secs(86_400)),
        egress,
        deliveries: Deliveries::new(webhooks, db.system(), millwork_shared::testing::redis()),
        storage: millwork_shared::testing::storage(),
        media_types: Default::default(),
        mailer: mailer.unwrap(),
        public_url: "https://millwork.example.com/m".parse().unwrap(),
        dispatcher: Dispatcher::with_prefix(millwork_shared::testing::redis(), millwork_shared::testing::key_prefix()),
    }
}

/// No private network may be called.
pub fn no_egress() -> Egress {
    Egress::new(AllowedNets::default()).unwrap()
}

/// The error and the wait in seconds of a retry.
pub fn retried(outcome: Outcome) -> (JobError, Option<u64>) {
    match outcome {
        Outcome::Retry { error, after } => (error, after.map(|after| after.as_secs())),
        other => panic!("not a retry: {other:?}"),
    }
}

/// The error of a failure for good.
pub fn failed(outcome: Outcome) -> JobError {
    match outcome {
        Outcome::Fail(error) => error,
        other => panic!("not a failure: {other:?}"),
    }
}

/// The result of a success.
pub fn done(outcome: Outcome) -> serde_json::Value {
    match outcome {
        Outcome::Done(result) => serde_json::from_str(result.expect("a result").get()).unwrap(),
        other => panic!("not done: {other:?}"),
    }
}

/// Polls `work` so many times, and drops it, as a kill does. Whether it had ended by then.
pub async fn killed_after(polls: usize, work: impl Future) -> bool {
    let (mut work, mut left) = (Box::pin(work), polls);
    std::future::poll_fn(|cx| {
        left -= 1;
        match work.as_mut().poll(cx) {
            Poll::Ready(_) => Poll::Ready(true),
            Poll::Pending if left == 0 => Poll::Ready(false),
            Poll::Pending => Poll::Pending,
        }
    })
    .await
}
