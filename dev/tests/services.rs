//! The private servers and the process helper, for real: what the tests of faults in other crates stand on.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use millwork_dev::process::Process;
use millwork_dev::scratch::Scratch;
use millwork_dev::services::find::PostgresBinaries;
use millwork_dev::services::{Postgres, Redis, RedisCluster};
use millwork_dev::{http, sys};

#[test]
fn postgres_keeps_its_data_across_a_stop_a_crash_and_a_new_start() {
    let scratch = Scratch::new("postgres").unwrap();
    let home = scratch.path().join("deep").join("enough");
    let mut postgres = Postgres::start(&home).unwrap();
    let url = postgres.url();
    sql(&postgres, "create table kept (n int)");

    sql(&postgres, "insert into kept values (1)");
    postgres.restart().unwrap();
    sql(&postgres, "insert into kept values (2)");
    let crashed = postgres.pid().unwrap();
    postgres.kill9().unwrap();
    assert!(postgres.pid().is_none() && !sys::exists(crashed));
    postgres.restart().unwrap();
    assert_eq!(postgres.url(), url, "the port stays");
    assert_eq!(sql(&postgres, "select string_agg(n::text, ',' order by n) from kept"), "1,2");

    drop(postgres);
    let postgres = Postgres::start(&home).unwrap();
    assert_eq!(postgres.url(), url, "the port and the password are kept with the data");
    assert_eq!(sql(&postgres, "select count(*) from kept"), "2");
}

#[test]
fn the_role_is_what_managed_servers_give_and_no_more() {
    let scratch = Scratch::new("role").unwrap();
    let postgres = Postgres::start_with(scratch.path(), &[("max_connections", "20")]).unwrap();
    let rights = "select rolsuper, rolcreatedb, rolcreaterole, rolbypassrls from pg_roles where rolname = current_user";
    assert_eq!(sql(&postgres, rights), "f|t|t|f");
    assert_eq!(sql(&postgres, "show max_connections"), "20");
    assert_eq!(sql(&postgres, "show fsync"), "on");
    let wrong = postgres.url().replace("millwork:", "millwork:wrong");
    assert!(!psql(&wrong, "select 1").0, "a wrong password is refused");
}

#[test]
fn a_second_server_on_the_same_data_ends_the_first_one_left_over() {
    let scratch = Scratch::new("leftover").unwrap();
    let first = Postgres::start(scratch.path()).unwrap();
    let left_over = first.pid().unwrap();
    std::mem::forget(first);
    let second = Postgres::start(scratch.path()).unwrap();
    assert_ne!(second.pid(), Some(left_over));
    assert_eq!(sql(&second, "select 1"), "1");
}

#[test]
fn servers_outlive_the_thread_that_started_them() {
    let scratch = Scratch::new("thread").unwrap();
    let home = scratch.path().to_owned();
    let redis = std::thread::spawn(move || Redis::start(&home).unwrap()).join().unwrap();
    std::thread::sleep(Duration::from_millis(200));
    assert_eq!(redis_command(&redis, "PING"), "+PONG");
}

#[test]
fn redis_keeps_what_it_wrote_and_evicts_nothing() {
    let scratch = Scratch::new("redis").unwrap();
    let mut redis = Redis::start(scratch.path()).unwrap();
    let url = redis.url();
    redis_command(&redis, "SET kept 1");
    redis.stop().unwrap();
    assert!(TcpStream::connect(("127.0.0.1", redis.port())).is_err());
    redis.restart().unwrap();
    assert_eq!(redis.url(), url);
    assert_eq!(redis_command(&redis, "GET kept"), "$1 1");
    assert_eq!(redis_command(&redis, "CONFIG GET maxmemory-policy"), "*2 $16 maxmemory-policy $10 noeviction");

    redis.kill9().unwrap();
    assert!(redis.pid().is_none());
    redis.restart().unwrap();
    redis.freeze().unwrap();
    redis.thaw().unwrap();
    assert_eq!(redis_command(&redis, "PING"), "+PONG");
}

#[test]
fn a_redis_cluster_serves_what_living_nodes_have_and_is_found_again_by_the_next_run() {
    let scratch = Scratch::new("redis-cluster").unwrap();
    let mut cluster = RedisCluster::start(scratch.path()).unwrap();
    let url = cluster.url();
    for (node, queue) in ["webhooks", "default", "files"].iter().enumerate() {
        assert_eq!(redis_command(&cluster.nodes[node], &format!("SET {{{queue}}} {node}")), "+OK");
    }
    cluster.nodes[0].kill9().unwrap();
    cluster.nodes[0].lose_data().unwrap();
    assert_eq!(redis_command(&cluster.nodes[2], "GET {files}"), "$1 2");
    cluster.nodes[0].restart().unwrap();
    cluster.wait_until_whole().unwrap();
    assert_eq!(redis_command(&cluster.nodes[0], "GET {webhooks}"), "$-1");

    drop(cluster);
    let cluster = RedisCluster::start(scratch.path()).unwrap();
    assert_eq!(cluster.url(), url);
    assert_eq!(redis_command(&cluster.nodes[1], "GET {default}"), "$1 1");
}

#[test]
fn a_process_is_watched_held_still_and_killed() {
    let scratch = Scratch::new("process").unwrap();
    let log = scratch.path().join("log");
    let script = "echo hello $WHO; trap 'echo bye; exit 7' TERM; while :; do sleep 0.05; done";
    let start =
        || Process::builder("loop", "/bin/sh").args(["-c", script]).env("WHO", "world").log_to(&log).start().unwrap();

    let asked = start();
    until("its first line", || asked.last_lines(1) == "hello world");
    asked.sigstop().unwrap();
    asked.sigterm().unwrap();
    assert!(asked.wait(Duration::from_millis(200)).is_err(), "it is held still");
    asked.sigcont().unwrap();
    assert_eq!(asked.wait(Duration::from_secs(5)).unwrap().code(), Some(7));
    assert_eq!(asked.last_lines(9), "hello world\nbye");

    let killed = start();
    killed.kill9().unwrap();
    assert_eq!(killed.exited().unwrap().signal(), Some(9));
    assert!(!sys::exists(killed.pid()));
    assert!(std::fs::read_to_string(&log).unwrap().starts_with("hello world\nbye\n"));
}

#[test]
fn a_process_that_ends_at_its_start_is_reported_with_its_last_words() {
    let process =
        Process::builder("broken", "/bin/sh").args(["-c", "echo MASTER_KEYS is missing >&2; exit 2"]).start().unwrap();
    let error = process.wait_until_ok("http://127.0.0.1:1/health/ready", Duration::from_secs(30)).unwrap_err();
    let message = format!("{error:#}");
    assert!(
        message.contains("broken ended with exit status: 2") && message.contains("MASTER_KEYS is missing"),
        "{message}"
    );
}

#[test]
fn a_clean_environment_holds_nothing_of_the_callers() {
    let process = Process::builder("env", "/usr/bin/env").clean_env().env("DATABASE_URL", "given").start().unwrap();
    process.wait(Duration::from_secs(5)).unwrap();
    let lines = process.last_lines(100);
    assert!(
        lines.contains("DATABASE_URL=given") && lines.contains("PATH=") && !lines.contains("CARGO_PKG_NAME="),
        "{lines}"
    );
}

#[test]
fn nobody_answering_is_an_error_and_no_hang() {
    let error = http::get("http://127.0.0.1:1/").timeout(Duration::from_secs(1)).send().unwrap_err();
    assert!(format!("{error:#}").contains("no answer to GET http://127.0.0.1:1/"));
}

fn sql(postgres: &Postgres, statement: &str) -> String {
    let (worked, said) = psql(&postgres.url(), statement);
    assert!(worked, "{statement}: {said}");
    said
}

/// The client that comes with the server's packages.
fn psql(url: &str, statement: &str) -> (bool, String) {
    let beside = PostgresBinaries::find().unwrap().unwrap().folder.join("psql");
    let program = if beside.is_file() { beside.as_path() } else { Path::new("psql") };
    let output = Command::new(program).args(["-X", "-q", "-A", "-t", "-c", statement, url]).output().unwrap();
    let said = if output.status.success() { output.stdout } else { output.stderr };
    (output.status.success(), String::from_utf8_lossy(&said).trim().to_owned())
}

fn redis_command(redis: &Redis, command: &str) -> String {
    let url = redis.url();
    let password = url.strip_prefix("redis://:").and_then(|rest| rest.split('@').next()).unwrap();
    let mut stream = TcpStream::connect(("127.0.0.1", redis.port())).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    write!(stream, "AUTH {password}\r\n{command}\r\nQUIT\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let lines: Vec<&str> = answer.lines().collect();
    lines[1..lines.len() - 1].join(" ")
}

fn until(what: &str, mut check: impl FnMut() -> bool) {
    let started = Instant::now();
    while !check() {
        assert!(started.elapsed() < Duration::from_secs(10), "{what} did not come");
        std::thread::sleep(Duration::from_millis(10));
    }
}
