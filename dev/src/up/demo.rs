//! The main job from end to end: a tenant, an endpoint, an event, and its signed delivery, checked as a receiver would.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result, anyhow, bail, ensure};
use serde_json::{Value, json};

use super::environment::Environment;
use super::fleet::Fleet;
use crate::http::{self, Received, Receiver};
use crate::interrupt::Interrupted;
use crate::signature::{self, Signed};
use crate::{secret, terminal};

const DELIVERY_LIMIT: Duration = Duration::from_secs(30);

/// What the demo made, for the user to go on with.
pub struct Shown {
    email: String,
    password: String,
    token: String,
}

/// Fails with the last log lines of all processes, as any of them may be why.
pub fn run(fleet: &Fleet, environment: &Environment) -> Result<Shown> {
    show_main_job(fleet, environment).map_err(|error| match error.is::<Interrupted>() {
        true => error,
        false => anyhow!("the demo failed: {error:#}\n{}", fleet.last_lines()),
    })
}

fn show_main_job(fleet: &Fleet, environment: &Environment) -> Result<Shown> {
    let api = format!("{}/api/v1", environment.api_url);
    terminal::step("the main job: registering a tenant and a webhook, publishing an event");
    let shown = register(&api)?;
    let receiver = Receiver::start()?;
    let (webhook, webhook_secret) = create_webhook(&api, &shown.token, &receiver.url())?;
    let payload = json!({"order_id": "A-1001", "total_cents": 4200, "currency": "EUR"});
    let event = publish(&api, &shown.token, &payload)?;
    terminal::note(format!("published event {event} for {}", receiver.url()));

    let Some(delivery) = wait_for_delivery(fleet, &receiver)? else {
        let said = deliveries(&api, &shown.token, &webhook);
        bail!("no delivery arrived within {} s; what the API says of it: {said}", DELIVERY_LIMIT.as_secs());
    };
    show(&delivery);
    check(&delivery, &webhook_secret, &event, &payload).context("the delivery arrived, but is not right")?;
    terminal::note("verified: the signature fits the body and the webhook's secret");
    Ok(shown)
}

/// A tenant of its own for every run, so that runs on the same data do not meet.
fn register(api: &str) -> Result<Shown> {
    let unique = secret::password()?;
    let email = format!("demo-{}@example.com", &unique[..12]);
    let password = format!("Demo-{}", &unique[12..]);
    let body = json!({
        "tenant_name": format!("Demo {}", &unique[..12]), "name": "Demo", "email": email, "password": password,
    });
    let answer = http::post(&format!("{api}/auth/register")).json(&body).send()?.expect(201)?;
    let token = text(&answer, "/data/access_token")?;
    Ok(Shown { email, password, token })
}

/// Its id and secret.
fn create_webhook(api: &str, token: &str, url: &str) -> Result<(String, String)> {
    let body = json!({"url": url, "event_types": ["order.*"]});
    let answer = http::post(&format!("{api}/webhooks")).bearer(token).json(&body).send()?.expect(201)?;
    Ok((text(&answer, "/data/id")?, text(&answer, "/data/secret")?))
}

/// The event's id.
fn publish(api: &str, token: &str, payload: &Value) -> Result<String> {
    let body = json!({"type": "order.created", "payload": payload});
    let answer = http::post(&format!("{api}/events")).bearer(token).json(&body).send()?.expect(202)?;
    text(&answer, "/data/event/id")
}

fn wait_for_delivery(fleet: &Fleet, receiver: &Receiver) -> Result<Option<Received>> {
    let deadline = Instant::now() + DELIVERY_LIMIT;
    while Instant::now() < deadline {
        fleet.check()?;
        if let Some(delivery) = receiver.next(Duration::from_millis(500))? {
            return Ok(Some(delivery));
        }
    }
    Ok(None)
}

fn deliveries(api: &str, token: &str, webhook: &str) -> String {
    let answer = http::get(&format!("{api}/webhooks/{webhook}/deliveries")).bearer(token).send();
    answer.map_or_else(|error| format!("{error:#}"), |answer| answer.text())
}

fn show(delivery: &Received) {
    terminal::step("received");
    terminal::note(format!("{} {}", delivery.method, delivery.path));
    for (name, value) in &delivery.headers {
        terminal::note(format!("{name}: {value}"));
    }
    terminal::note("\n");
    terminal::note(String::from_utf8_lossy(&delivery.body));
    terminal::note("\n");
}

fn check(delivery: &Received, secret: &str, event: &str, payload: &Value) -> Result<()> {
    let header = |name: &str| delivery.header(name).with_context(|| format!("it has no header {name}"));
    let signed = Signed {
        id: header("webhook-id")?,
        timestamp: header("webhook-timestamp")?,
        signature: header("webhook-signature")?,
    };
    let now_s = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?.as_secs();
    signature::verify(secret, signed, &delivery.body, now_s)?;
    ensure!(signed.id == event, "webhook-id is {}, and the event's id {event}", signed.id);
    let body: Value = serde_json::from_slice(&delivery.body).context("its body is no JSON")?;
    ensure!(
        body["type"] == "order.created" && body["data"] == *payload,
        "its body is not the event that was published"
    );
    Ok(())
}

fn text(answer: &Value, pointer: &str) -> Result<String> {
    let found = answer.pointer(pointer).and_then(Value::as_str);
    found.map(str::to_owned).with_context(|| format!("the answer has no {pointer}: {answer}"))
}

impl Shown {
    /// Where to go from here.
    pub fn print(&self, environment: &Environment, home: &Path) {
        let Environment { api_url, mail_folder, file, .. } = environment;
        let mails = fs::read_dir(mail_folder).map(|entries| entries.flatten().count()).unwrap_or(0);
        let Self { email, password, token } = self;
        terminal::step("Millwork works");
        terminal::note(format!("API          {api_url}/api/v1"));
        terminal::note(format!("reference    {api_url}/docs"));
        terminal::note(format!("mails        {} (.eml files; {mails} so far)", mail_folder.display()));
        terminal::note(format!("data         {}", home.display()));
        terminal::note(format!("variables    {} (database, Redis, keys)", file.display()));
        terminal::note(format!("demo login   {email}  {password}"));
        terminal::note(format!("demo token   TOKEN={token}"));
        terminal::note(format!("try          curl -H \"Authorization: Bearer $TOKEN\" {api_url}/api/v1/webhooks"));
    }
}
