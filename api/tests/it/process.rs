//! `millwork-api` as a process: its start, its refusals, its stop.

use std::net::TcpListener as StdListener;
use std::process::{Output, Stdio};
use std::time::{Duration, Instant};

use millwork_shared::testing::{TestDb, redis_url};
use sqlx::{AssertSqlSafe, Connection, PgConnection};
use tokio::io::AsyncWriteExt;
use tokio::process::{Child, Command};

const MASTER_KEYS: &str = "test:BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc=";
/// Longest wait for anything a process does; far beyond what it takes.
const PATIENCE: Duration = Duration::from_secs(30);

fn command() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_millwork-api"));
    command.env_clear().current_dir(std::env::temp_dir()).kill_on_drop(true);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn configured(database_url: &str, port: u16) -> Command {
    let mut command = command();
    command.env("DATABASE_URL", database_url).env("REDIS_URL", redis_url()).env("MASTER_KEYS", MASTER_KEYS);
    command.env("API_ADDR", format!("127.0.0.1:{port}")).env("SHUTDOWN_GRACE_S", "5");
    command
}

fn free_port() -> u16 {
    StdListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

async fn finish(mut command: Command) -> (bool, String) {
    let output: Output = tokio::time::timeout(PATIENCE, command.output()).await.expect("the process ends").unwrap();
    let text = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&text).into_owned())
}

/// The status of a GET, once the process answers at all and, if `wanted` is given, answers that.
async fn status(port: u16, path: &str, wanted: Option<u16>) -> u16 {
    let client = crate::support::Client::new(&format!("http://127.0.0.1:{port}"), None);
    let deadline = Instant::now() + PATIENCE;
    loop {
        if tokio::net::TcpStream::connect(("127.0.0.1", port)).await.is_ok() {
            let status = client.get(path).await.status;
            if wanted.is_none_or(|wanted| wanted == status) {
                return status;
            }
        }
        assert!(Instant::now() < deadline, "{path} does not answer {wanted:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn terminate(process: &Child) {
    let id = process.id().unwrap().to_string();
    assert!(std::process::Command::new("kill").args(["-TERM", &id]).status().unwrap().success());
}

#[tokio::test]
async fn help_and_version_need_no_configuration() {
    for (flag, says) in [("--help", "API_ADDR"), ("--version", "millwork-api "), ("-h", "migrate")] {
        let mut command = command();
        command.arg(flag);
        let (success, text) = finish(command).await;
        assert!(success && text.contains(says), "{flag}: {text}");
    }
}

#[tokio::test]
async fn a_bad_configuration_stops_the_process_and_names_every_fault() {
    let mut command = command();
    command.env("REDIS_URL", "http://x").env("REGISTRATION", "perhaps").args(["--api-addr", "8080"]);
    command.env("OAUTH_ACME_CLIENT_ID", "x").env("OAUTH_ACME_ISSUER", "http://login.acme.example");
    let (success, text) = finish(command).await;
    assert!(!success);
    for name in [
        "DATABASE_URL: missing",
        "REDIS_URL: ",
        "MASTER_KEYS: missing",
        "API_ADDR: `8080`",
        "REGISTRATION: ",
        "OAUTH_ACME_CLIENT_SECRET: missing",
        "OAUTH_ACME_ISSUER: `http://login.acme.example` must begin with https://",
    ] {
        assert!(text.contains(name), "{name} in {text}");
    }
}

#[tokio::test]
async fn the_command_line_lets_the_first_of_the_staff_in() {
    let db = TestDb::create().await;
    for says in ["mwi_", "reset-staff"] {
        let mut admin = command();
        admin.env("DATABASE_URL", &db.url).args(["admin", "create-staff", "--email", "olga@millwork.example"]);
        let (success, text) = finish(admin).await; // needs neither Redis nor keys
        assert_eq!(success, says == "mwi_", "{text}");
        assert!(text.contains(says), "{text}");
    }
}

#[tokio::test]
async fn the_command_line_fails_where_audit_entries_were_touched() {
    let db = TestDb::create().await;
    let tenant = uuid::Uuid::new_v4();
    for (found, says) in [(false, "0 tenants verified"), (true, "there is no chain"), (true, "of 1 of 1 tenants")] {
        let mut verify = command();
        verify.env("DATABASE_URL", &db.url).env("MASTER_KEYS", MASTER_KEYS).args(["audit", "verify"]);
        if says.contains("no chain") {
            db.sql(format!(
                "insert into audit_logs (tenant_id, id, actor_type, action, resource_type, seq, sealed_at, prev_hash, hash)
                 values ('{tenant}', '01990000-0000-7000-8000-000000000001', 'system', 'x.done', 'x', 1, now(), '', '')"
            ))
            .await;
        }
        let (success, text) = finish(verify).await;
        assert_eq!(success, !found, "{text}");
        assert!(text.contains(says), "{text}");
    }
}

#[tokio::test]
async fn a_process_refuses_an_old_schema_until_it_is_migrated_and_stops_when_told() {
    let db = TestDb::create().await;
    let name = format!("e_{}", uuid::Uuid::new_v4().simple());
    let (server, _) = db.url.rsplit_once('/').unwrap();
    let url = format!("{server}/{name}");
    let mut admin = PgConnection::connect(&db.url).await.unwrap();
    sqlx::raw_sql(AssertSqlSafe(format!("create database {name}"))).execute(&mut admin).await.unwrap();

    let port = free_port();
    let (success, text) = finish(configured(&url, port)).await;
    assert!(!success && text.contains("run `millwork-api migrate`"), "{text}");

    for _ in 0..2 {
        let mut migrate = command();
        migrate.env("DATABASE_URL", &url).arg("migrate"); // needs neither Redis nor keys
        let (success, text) = finish(migrate).await;
        assert!(success, "{text}");
    }

    let mut process = configured(&url, port).spawn().unwrap();
    status(port, "//health/ready", Some(200)).await;
    assert_eq!(status(port, "/auth/me", None).await, 401);
    terminate(&process);
    let stopped = tokio::time::timeout(PATIENCE, process.wait()).await.expect("it stops").unwrap();
    assert!(stopped.success(), "{stopped}");
    drop(process);
    sqlx::raw_sql(AssertSqlSafe(format!("drop database {name} with (force)"))).execute(&mut admin).await.unwrap();
}

#[tokio::test]
async fn a_process_that_starts_before_its_database_waits_for_it() {
    let db = TestDb::create().await;
    let (database_port, port) = (free_port(), free_port());
    let mut url = url::Url::parse(&db.url).unwrap();
    let real = (url.host_str().unwrap().to_owned(), url.port().unwrap_or(5432));
    url.set_port(Some(database_port)).unwrap();

    let mut process = configured(url.as_str(), port).spawn().unwrap();
    assert_eq!(status(port, "//health/live", None).await, 200);
    assert_eq!(status(port, "//health/ready", None).await, 503);
    assert_eq!(status(port, "/auth/me", None).await, 503);

    let listener = tokio::net::TcpListener::bind(("127.0.0.1", database_port)).await.unwrap();
    millwork_shared::infra::tasks::spawn("proxy", async move {
        while let Ok((mut here, _)) = listener.accept().await {
            let mut there = tokio::net::TcpStream::connect((real.0.as_str(), real.1)).await.unwrap();
            millwork_shared::infra::tasks::detach(async move {
                let _ = tokio::io::copy_bidirectional(&mut here, &mut there).await;
                let _ = there.shutdown().await;
            });
        }
    });
    status(port, "//health/ready", Some(200)).await;
    assert_eq!(status(port, "/auth/me", None).await, 401);
    terminate(&process);
    assert!(tokio::time::timeout(PATIENCE, process.wait()).await.expect("it stops").unwrap().success());
}
