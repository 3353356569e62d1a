//! Connections whose users go away at the worst moment.

use std::time::{Duration, Instant};

use millwork_shared::Error;
use millwork_shared::infra::db::{Db, Durability};
use millwork_shared::infra::tasks;
use sqlx::PgPool;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::Ledger;

/// Transactions of this database that are open and do nothing.
async fn forgotten(owner: &PgPool) -> i64 {
    let idle = "select count(*) from pg_stat_activity
                 where datname = current_database() and state like 'idle in transaction%'";
    sqlx::query_scalar(idle).fetch_one(owner).await.unwrap()
}

async fn until_none_is_forgotten(owner: &PgPool, what: &str) {
    let began = Instant::now();
    while forgotten(owner).await > 0 {
        assert!(began.elapsed() < Duration::from_secs(10), "{what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Stops a server process, or lets it go on.
fn signal(name: &str, pid: i32) {
    let status = std::process::Command::new("kill").args(["-s", name, &pid.to_string()]).status().unwrap();
    assert!(status.success());
}

#[tokio::test]
async fn a_transaction_whose_caller_goes_away_while_it_begins_is_not_left_open() {
    let ledger = Ledger::create().await;
    let owner = ledger.test.owner().await;
    let db = Db::connect_lazy(ledger.test.url.parse().unwrap(), 1);
    let mut tx = db.tenant(ledger.tenant).await.unwrap();
    let pid: i32 = sqlx::query_scalar("select pg_backend_pid()").fetch_one(&mut *tx).await.unwrap();
    tx.commit().await.unwrap();

    while db.pool().num_idle() == 0 {
        tokio::task::yield_now().await; // it is on its way back
    }
    signal("STOP", pid);
    let begin = tokio::time::timeout(Duration::from_millis(100), db.tenant(ledger.tenant)).await;
    assert!(begin.is_err(), "the server did not answer");
    signal("CONT", pid);
    until_gone(&owner, pid).await;
    assert_eq!(forgotten(&owner).await, 0);
    db.tenant(ledger.tenant).await.unwrap().commit().await.unwrap();
}

/// Waits until the server process has ended: it reads all that was sent to it first.
async fn until_gone(owner: &PgPool, pid: i32) {
    let there = "select exists (select from pg_stat_activity where pid = $1)";
    let began = Instant::now();
    while sqlx::query_scalar::<_, bool>(there).bind(pid).fetch_one(owner).await.unwrap() {
        assert!(began.elapsed() < Duration::from_secs(10), "the connection stays, with what became of its BEGIN");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn a_transaction_that_is_dropped_rolls_back_and_its_connection_is_used_again() {
    let ledger = Ledger::create().await;
    let owner = ledger.test.owner().await;
    let job = ledger.job();
    for _ in 0..30 {
        let mut tx = ledger.tenant().await;
        millwork_shared::jobs::queries::enqueue(&mut tx, std::slice::from_ref(&job)).await.unwrap();
        drop(tx);
    }
    until_none_is_forgotten(&owner, "dropped").await;
    ledger.store(&[job]).await; // which none of them has stored
    let count = "select count(*) from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()";
    let connections: i64 = sqlx::query_scalar(count).fetch_one(&owner).await.unwrap();
    assert!(connections <= 11, "{connections} connections: the pool has ten");
}

#[tokio::test]
async fn a_dedicated_connection_has_the_systems_role_and_is_replaced_when_it_is_dead() {
    let ledger = Ledger::create().await;
    let owner = ledger.test.owner().await;
    let mut dedicated = ledger.system.dedicated(Durability::Relaxed);
    let settings = "select concat_ws(' ', current_user, current_setting('synchronous_commit'), current_setting('statement_timeout'),
                           current_setting('enable_seqscan'), pg_backend_pid())";
    let mut pids = Vec::new();
    for _ in 0..2 {
        let mut connection = dedicated.take().await.unwrap();
        let seen: String = sqlx::query_scalar(settings).fetch_one(&mut connection).await.unwrap();
        dedicated.keep(connection);
        let (settings, pid) = seen.rsplit_once(' ').unwrap();
        assert_eq!(settings, "millwork_system off 10s off");
        pids.push(pid.to_owned());
    }
    assert_eq!(pids[0], pids[1], "it is kept");

    let terminate = format!("select pg_terminate_backend({})", pids[0]);
    ledger.test.sql(terminate).await;
    tokio::time::sleep(Duration::from_millis(600)).await; // one that has just been used is not tested
    let mut connection = dedicated.take().await.unwrap();
    let pid: i32 = sqlx::query_scalar("select pg_backend_pid()").fetch_one(&mut connection).await.unwrap();
    assert_ne!(pid.to_string(), pids[0]);
    drop(owner);
}

/// A server that refuses each session with an error of that severity and code.
async fn refusing(severity: &'static str, code: &'static str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tasks::spawn("refusing", async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut startup = vec![0; stream.read_i32().await.unwrap() as usize - 4];
            stream.read_exact(&mut startup).await.unwrap();
            let fields = format!("S{severity}\0V{severity}\0C{code}\0Mcould not write init file\0\0");
            let length = (fields.len() as i32 + 4).to_be_bytes();
            stream.write_all(&[b"E", &length[..], fields.as_bytes()].concat()).await.unwrap();
        }
    });
    format!("postgres://u:p@127.0.0.1:{port}/x?sslmode=disable")
}

#[tokio::test]
async fn a_server_that_gives_new_sessions_up_is_away_and_one_that_refuses_us_is_not() {
    for (severity, code, away) in
        [("FATAL", "XX000", true), ("FATAL", "53100", true), ("FATAL", "28P01", false), ("ERROR", "XX000", false)]
    {
        let db = Db::connect_lazy(refusing(severity, code).await.parse().unwrap(), 1);
        let error = db.identity().await.err().unwrap();
        assert_eq!(matches!(error, Error::Unavailable { .. }), away, "{severity} {code}: {error}");
    }
}
