//! Nothing that is secret gets into a log: every kind of secret passes through the three real processes, which say all
//! they can say.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use millwork_api::auth::totp;
use millwork_shared::infra::crypto::token_hash;
use millwork_shared::testing::object_store::ObjectStore;
use millwork_shared::testing::smtp::SmtpServer;
use millwork_shared::testing::{HttpReceiver, Reply as Answer, TestDb, redis_url};
use reqwest::Method;
use serde_json::{Value, json};
use tokio::process::{Child, Command};
use url::Url;

use crate::auth::oauth::browser::{Browser, parameter};
use crate::auth::oauth::{PUBLIC_URL, RETURN_URL, registered};
use crate::support::{Client, PATIENCE, Reply};

const BINARIES: [&str; 3] = ["api", "worker", "scheduler"];
/// Everything that our own code says, and what libraries say of their work.
const LEVELS: &str = "debug,millwork_api=trace,millwork_worker=trace,millwork_scheduler=trace,millwork_shared=trace";

fn binary(role: &str) -> PathBuf {
    let folder = std::env::var("MILLWORK_TEST_BIN_DIR").expect("run the tests by `cargo dev test`");
    Path::new(&folder).join(format!("millwork-{role}"))
}

fn command(role: &str, environment: &[(&str, String)]) -> Command {
    let mut command = Command::new(binary(role));
    command.env_clear().current_dir(std::env::temp_dir()).kill_on_drop(true).stdin(Stdio::null());
    command.envs(environment.iter().map(|(name, value)| (*name, value)));
    command
}

/// What must not be told, by what it is.
#[derive(Default)]
struct Secrets(Vec<(String, String)>);

impl Secrets {
    fn note(&mut self, what: &str, value: impl Into<String>) -> String {
        let value = value.into();
        assert!(value.len() >= 8, "{what} `{value}` is too short to be looked for");
        self.0.push((what.to_owned(), value.clone()));
        value
    }

    /// Everything of `text` that is one.
    fn found_in(&self, text: &str) -> Vec<String> {
        let line = |value: &str| text.lines().find(|line| line.contains(value)).unwrap_or_default().to_owned();
        let leaked = self.0.iter().filter(|(_, value)| text.contains(value.as_str()));
        leaked.map(|(what, value)| format!("{what} in {}", line(value))).collect()
    }
}

fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

struct Fleet {
    processes: Vec<Child>,
    logs: PathBuf,
    url: String,
    client: Client,
}

impl Fleet {
    async fn start(environment: &[(&str, String)]) -> Self {
        let logs = std::env::temp_dir().join(format!("millwork-secrets-{}", uuid::Uuid::new_v4().simple()));
        std::fs::create_dir(&logs).unwrap();
        let ports = BINARIES.map(|_| free_port());
        let mut processes = Vec::new();
        for (role, port) in BINARIES.into_iter().zip(ports) {
            let mut command = command(role, environment);
            command.env(format!("{}_ADDR", role.to_uppercase()), format!("127.0.0.1:{port}"));
            let log = File::create(logs.join(role)).unwrap();
            command.stdout(log.try_clone().unwrap()).stderr(log);
            processes.push(command.spawn().unwrap());
        }
        let url = format!("http://127.0.0.1:{}", ports[0]);
        let fleet = Self { processes, logs, client: Client::new(&url, None), url };
        for port in ports {
            let client = Client::new(&format!("http://127.0.0.1:{port}"), None);
            until("a process is ready", async || {
                let up = tokio::net::TcpStream::connect(("127.0.0.1", port)).await.is_ok();
                up && client.get("//health/ready").await.status == 200
            })
            .await;
        }
        fleet
    }

    fn bearer(&self, token: &str) -> Client {
        let mut client = self.client.clone();
        client.token = Some(token.to_owned());
        client
    }

    /// Stops them. What they said, all of it.
    async fn stop(mut self) -> String {
        for process in &mut self.processes {
            let id = process.id().unwrap().to_string();
            assert!(std::process::Command::new("kill").args(["-TERM", &id]).status().unwrap().success());
            tokio::time::timeout(PATIENCE * 2, process.wait()).await.expect("it stops").unwrap();
        }
        let said = BINARIES.map(|role| std::fs::read_to_string(self.logs.join(role)).unwrap());
        std::fs::remove_dir_all(&self.logs).unwrap();
        said.concat()
    }
}

async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let began = Instant::now();
    while !holds().await {
        assert!(began.elapsed() < PATIENCE * 2, "{what}: not within {PATIENCE:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// The token of the newest mail with a link to `page`.
async fn mailed_token(mails: &SmtpServer, page: &str) -> String {
    let find = || {
        let mails = mails.received();
        let link =
            mails.iter().rev().find_map(|mail| mail.mail.text.as_ref()?.split(page).nth(1).map(str::to_owned))?;
        link.split_whitespace().next().map(str::to_owned)
    };
    until(page, async || find().is_some()).await;
    find().unwrap()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap()
}

#[tokio::test]
async fn no_process_logs_a_secret_whatever_it_is_asked_to_log() {
    let (db, mut secrets) = (TestDb::create().await, Secrets::default());
    let mails = SmtpServer::start().await.with_login("mailer", &secrets.note("mail password", "smtp-Pa55-word"));
    let receiver = HttpReceiver::answering(
        [200, 200, 410, 200, 200].map(|status| Answer::with_body(status, "the-answer-of-a-receiver")),
    )
    .await;
    for (what, url) in [("database password", db.url.clone()), ("Redis password", redis_url())] {
        let password = Url::parse(&url).unwrap().password().map(str::to_owned);
        secrets.note(what, password.unwrap_or_else(|| panic!("the test server has a {what}")));
    }
    let keys = [[7_u8; 32], [9; 32]].map(|key| STANDARD.encode(key));
    keys.iter().for_each(|key| drop(secrets.note("master key", key)));
    let storage = ObjectStore::start().await;
    let provider = registered("acme", PUBLIC_URL, 0, json!({})).await;
    let collector = secrets.note("collector's header", "otlp-header-value");
    let fleet = Fleet::start(&[
        ("DATABASE_URL", db.url.clone()),
        ("REDIS_URL", redis_url()),
        ("MASTER_KEYS", format!("new:{},old:{}", keys[0], keys[1])),
        ("MAIL_URL", mails.url()),
        ("MAIL_FROM", "no-reply@example.com".to_owned()),
        ("STORAGE_URL", storage.url()),
        ("AWS_ACCESS_KEY_ID", ObjectStore::keys().id),
        ("AWS_SECRET_ACCESS_KEY", secrets.note("storage key", ObjectStore::keys().secret.expose())),
        ("EGRESS_ALLOW_CIDRS", "127.0.0.0/8".to_owned()),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", format!("http://127.0.0.1:{}", free_port())),
        ("OTEL_EXPORTER_OTLP_HEADERS", format!("authorization={collector}")),
        ("OTEL_BSP_SCHEDULE_DELAY", "10".to_owned()),
        ("PUBLIC_URL", PUBLIC_URL.to_owned()),
        ("OAUTH_ACME_CLIENT_ID", provider.client_id),
        ("OAUTH_ACME_CLIENT_SECRET", secrets.note("client secret", provider.client_secret.expose())),
        ("OAUTH_ACME_ISSUER", provider.issuer),
        ("OAUTH_RETURN_URLS", RETURN_URL.to_owned()),
        ("LOG_FORMAT", "json".to_owned()),
        ("RUST_LOG", LEVELS.to_owned()),
        ("SHUTDOWN_GRACE_S", "2".to_owned()),
    ])
    .await;
    let anonymous = &fleet.client;

    // A person: passwords right and wrong, tokens, and the links in mails.
    let email = secrets.note("mail address", "olive.owner@secrets.example");
    let password = secrets.note("password", "correct horse 77 battery");
    let wrong = secrets.note("wrong password", "wr0ng horse 77 battery");
    let body = json!({ "tenant_name": "Acme", "name": "Olive", "email": email, "password": password });
    let session = anonymous.post("/auth/register", body).await.expect(201);
    let access = secrets.note("access token", text(&session["data"]["access_token"]));
    let refresh = secrets.note("refresh token", text(&session["data"]["refresh_token"]));
    let owner = fleet.bearer(&access);
    anonymous.post("/auth/login", json!({ "email": email, "password": wrong })).await.expect(401);
    anonymous.post("/auth/login", json!({ "email": email, "password": wrong, "extra": 1 })).await.expect(422);
    let refreshed = anonymous.post("/auth/refresh", json!({ "refresh_token": refresh })).await.expect(200);
    let second = secrets.note("second refresh token", text(&refreshed["data"]["refresh_token"]));
    secrets.note("second access token", text(&refreshed["data"]["access_token"]));
    let verify = secrets.note("verification token", mailed_token(&mails, "/verify-email?token=").await);
    anonymous.post("/auth/verify-email", json!({ "token": verify })).await.expect(204);
    anonymous.post("/auth/verify-email", json!({ "token": verify })).await.expect(410);
    anonymous.post("/auth/forgot-password", json!({ "email": email })).await.expect(202);
    let reset = secrets.note("reset token", mailed_token(&mails, "/reset-password?token=").await);
    let forged = secrets.note("token that is none", "forged-token-forged-token-forged-token-1234");
    anonymous.post("/auth/reset-password", json!({ "token": forged, "password": password })).await;
    fleet.bearer(&forged).get("/jobs").await.expect(401);
    Reply::of(anonymous.request(Method::GET, &format!("/jobs?token={forged}&cursor={forged}"))).await;
    Reply::of(anonymous.request(Method::GET, &format!("//nothing?token={forged}"))).await.expect(404);

    // The second factor.
    let enrolled = owner.post("/auth/mfa/totp/enrol", json!({ "current_password": password })).await.expect(200);
    let seed = secrets.note("secret of the second factor", text(&enrolled["data"]["secret"]));
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() as i64;
    let otp = totp::code(&from_base32(&seed), now);
    let codes = owner.post("/auth/mfa/totp/confirm", json!({ "otp": otp })).await.expect(200);
    for code in codes["data"]["recovery_codes"].as_array().unwrap() {
        secrets.note("recovery code", text(code));
    }
    let code = text(&codes["data"]["recovery_codes"][0]);
    let login = json!({ "email": email, "password": password, "otp": code });
    let session = anonymous.post("/auth/login", login.clone()).await.expect(200);
    secrets.note("third access token", text(&session["data"]["access_token"]));
    anonymous.post("/auth/login", login).await.expect(401); // a recovery code is good once

    // Another provider's word: what a browser carries, and a front end exchanges.
    let verifier = secrets.note("verifier", "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk");
    let challenge = URL_SAFE_NO_PAD.encode(token_hash(&verifier));
    let begin = [("return_to", RETURN_URL), ("challenge", challenge.as_str())];
    let begin = Url::parse_with_params(&format!("{PUBLIC_URL}/api/v1/auth/oauth/acme"), begin).unwrap();
    let mut browser = Browser::new(PUBLIC_URL, &fleet.url);
    let address = browser.get(begin.as_str()).await.header("location").to_owned();
    let guest = secrets.note("address at the provider", "ida.entity@secrets.example");
    let back = browser.agree(&address, &guest).await;
    for name in ["code", "state"] {
        secrets.note(&format!("the provider's {name}"), parameter(&back, name).unwrap());
    }
    let end = browser.get(&back).await.header("location").to_owned();
    let code = secrets.note("code to exchange", parameter(&end, "code").unwrap());
    let exchange = json!({ "code": code, "verifier": verifier });
    let session = anonymous.post("/auth/oauth/exchange", exchange.clone()).await.expect(200);
    secrets.note("access token of the exchange", text(&session["data"]["access_token"]));
    anonymous.post("/auth/oauth/exchange", exchange).await.expect(401);

    // A guest, and a link to a file.
    let invitation = json!({ "email": secrets.note("guest", "gus.guest@secrets.example"), "roles": ["viewer"] });
    owner.post("/invitations", invitation).await.expect(201);
    let token = secrets.note("invitation token", mailed_token(&mails, "/accept-invitation?token=").await);
    let acceptance = json!({ "token": token, "name": "Gus", "password": "gus guest 77 battery" });
    secrets.note("guest's password", "gus guest 77 battery");
    anonymous.post("/invitations/accept", acceptance.clone()).await.expect(201);
    anonymous.post("/invitations/accept", acceptance).await.expect(410);
    let file = owner.upload("a.txt", "text/plain", b"content-of-a-file").await.expect(201);
    secrets.note("content", "content-of-a-file");
    let link = owner.get(&format!("/files/{}/url", text(&file["data"]["id"]))).await.expect(200);
    let link = text(&link["data"]["url"]);
    secrets.note("signature of a link", parameter(link, "X-Amz-Signature").unwrap());
    assert_eq!(Reply::of(anonymous.request_url(Method::GET, link)).await.text(), "content-of-a-file");

    // A program, an endpoint, an event, calls and mails.
    let key = owner.post("/api-keys", json!({ "name": "k", "permissions": ["jobs:read", "jobs:submit"] })).await;
    let key = key.expect(201)["data"].clone();
    let secret = secrets.note("API key", text(&key["secret"]));
    fleet.bearer(&secret).get("/jobs").await.expect(200);
    let rotated = owner.post(&format!("/api-keys/{}/rotate", text(&key["id"])), json!({})).await;
    let rotated = secrets.note("rotated API key", text(&rotated.expect(200)["data"]["secret"]));
    fleet.bearer(&format!("{rotated}x")).get("/jobs").await.expect(401);
    let header = secrets.note("header of an endpoint", "endpoint-header-value");
    let endpoint = json!({
        "url": receiver.url("/hook?token=endpoint-url-token"), "event_types": ["*"], "headers": { "x-key": header },
    });
    secrets.note("token in a URL", "endpoint-url-token");
    let endpoint = owner.post("/webhooks", endpoint).await.expect(201)["data"].clone();
    let id = text(&endpoint["id"]);
    let signing = secrets.note("signing secret", text(&endpoint["secret"]));
    secrets.note("bare signing secret", signing.strip_prefix("whsec_").unwrap());
    owner.get(&format!("/webhooks/{id}/secret")).await.expect(200);
    let rotated = owner.post(&format!("/webhooks/{id}/rotate-secret"), json!({})).await.expect(200);
    secrets.note("rotated signing secret", text(&rotated["data"]["secret"]));
    let payload = secrets.note("payload", "payload-of-an-event");
    let event = json!({ "type": "order.paid", "payload": { "note": payload } });
    Reply::of(owner.request(Method::POST, "/events").header("idempotency-key", "k").json(&event)).await.expect(202);
    let bearer = secrets.note("header of a call", "Bearer call-header-value");
    let call = json!({
        "kind": "http.request",
        "payload": {
            "url": receiver.url("/call?token=call-url-token"), "method": "POST",
            "headers": { "authorization": bearer }, "body": { "note": secrets.note("body", "body-of-a-call") },
        },
    });
    secrets.note("token in a call's URL", "call-url-token");
    secrets.note("answer", "the-answer-of-a-receiver");
    let call = owner.post("/jobs", call).await.expect(202)["data"]["id"].clone();
    let nowhere = json!({
        "kind": "http.request", "max_attempts": 1,
        "payload": { "url": format!("http://127.0.0.1:{}/?token=call-url-token", free_port()), "method": "GET" },
    });
    let nowhere = owner.post("/jobs", nowhere).await.expect(202)["data"]["id"].clone();
    let mail = json!({
        "kind": "email.send",
        "payload": {
            "to": secrets.note("whom a mail goes to", "whoever@elsewhere.example"),
            "subject": secrets.note("subject", "subject-of-a-mail"), "text": secrets.note("text", "text-of-a-mail"),
        },
    });
    let mail = owner.post("/jobs", mail).await.expect(202)["data"]["id"].clone();
    for id in [&call, &nowhere, &mail] {
        until("the jobs end", async || ["succeeded", "failed"].contains(&text(&owner.job(text(id)).await["state"])))
            .await;
    }
    until("the event is delivered", async || receiver.hits() >= 2).await;

    // A fault of ours, whose cause PostgreSQL tells with the row in it.
    db.sql("alter table webhooks add constraint fault check (description <> 'fault') not valid").await;
    let row = json!({ "url": "https://x.example/?t=endpoint-url-token", "event_types": ["*"], "description": "fault" });
    owner.post("/webhooks", row).await.expect(500);

    // The end: another password, a token that comes twice, faults that make a process say why.
    let fresh = secrets.note("new password", "quiet copper teapot 77");
    let known = anonymous.post("/auth/reset-password", json!({ "token": reset, "password": fresh })).await;
    known.expect(204);
    anonymous.post("/auth/refresh", json!({ "refresh_token": refresh })).await.expect(401);
    anonymous.post("/auth/refresh", json!({ "refresh_token": second })).await.expect(401);
    let marker = "the-request-that-is-looked-for";
    Reply::of(anonymous.request(Method::GET, "/jobs").header("x-request-id", marker)).await.expect(401);

    let said = fleet.stop().await;
    assert!(said.contains(marker), "what was said is not all here");
    for told in ["\"level\":\"DEBUG\"", "a request was refused", "\"target\":\"sqlx", "listening", "working"] {
        assert!(said.contains(told), "{told} was not said");
    }
    let leaked = secrets.found_in(&said);
    assert!(leaked.is_empty(), "{} secrets in {} bytes of logs:\n{}", leaked.len(), said.len(), leaked.join("\n"));
}

fn from_base32(text: &str) -> Vec<u8> {
    let value = |c: u8| u64::from(if c.is_ascii_uppercase() { c - b'A' } else { c - b'2' + 26 });
    let decode = |group: &[u8]| group.iter().fold(0_u64, |bits, c| bits << 5 | value(*c)).to_be_bytes()[3..].to_vec();
    text.as_bytes().chunks(8).flat_map(decode).collect()
}

#[tokio::test]
async fn neither_help_nor_a_refusal_of_the_configuration_shows_a_secret() {
    let mut secrets = Secrets::default();
    let secret = secrets.note("a secret", "s3cret-s3cret-s3cret");
    let malformed = [
        ("DATABASE_URL", format!("postgres//u:{secret}@h/x")),
        ("REDIS_URL", format!("redis//:{secret}@h")),
        ("MASTER_KEYS", secret.clone()),
        ("MAIL_URL", format!("smtp//u:{secret}@h")),
        ("STORAGE_URL", format!("s3//u:{secret}@h")),
        ("AWS_SECRET_ACCESS_KEY", secret.clone()),
        ("SENTRY_DSN", format!("https//{secret}@h/x")),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", format!("http//u:{secret}@h")),
        ("OTEL_EXPORTER_OTLP_HEADERS", secret.clone()),
    ];
    let odd = [
        ("DATABASE_URL", format!("postgres://u:{secret}@h:port/x")),
        ("REDIS_URL", format!("redis://:{secret}@h:port")),
        ("MASTER_KEYS", format!("k1:{secret}")),
        ("MAIL_URL", format!("smtp://u:{secret}@h:port,gopher://u:{secret}@h")),
        ("STORAGE_URL", format!("s3://u:{secret}@bucket?endpoint=https://u:{secret}@h")),
        ("AWS_SECRET_ACCESS_KEY", secret.clone()),
        ("SENTRY_DSN", format!("https://{secret}@")),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", format!("http://u:{secret}@h:port")),
        ("OTEL_EXPORTER_OTLP_HEADERS", format!("a b={secret}")),
    ];
    for (environment, arguments) in [(&malformed, &[][..]), (&odd, &[]), (&odd, &["--help"]), (&malformed, &["-h"])] {
        for role in BINARIES {
            let output = command(role, environment).args(arguments).output();
            let output = tokio::time::timeout(PATIENCE, output).await.expect("it ends").unwrap();
            let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
            assert!(said.contains("DATABASE_URL"), "{role}: {said}");
            let leaked = secrets.found_in(&said);
            assert!(leaked.is_empty(), "millwork-{role} {arguments:?}:\n{}", leaked.join("\n"));
        }
    }
}
