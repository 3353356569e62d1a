//! PostgreSQL restarted and crashed under load: nothing accepted is lost, and nobody restarts the processes.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use millwork_dev::process;
use millwork_dev::services::Postgres;

use crate::support::{Cluster, Gate, Load, Member, SOON, retrying, wait_for};

/// Shorter than a lease, so that nothing needs to run twice.
const AWAY: Duration = Duration::from_secs(4);

#[test]
fn a_restart_of_postgres_under_load_loses_nothing_accepted() {
    survives(|postgres| postgres.stop().unwrap());
}

#[test]
fn a_crash_of_postgres_under_load_loses_nothing_accepted() {
    survives(|postgres| postgres.kill9().unwrap());
}

fn survives(fault: impl FnOnce(&mut Postgres)) {
    let mut cluster = Cluster::start();
    let (client, gate) = (cluster.client.clone(), Gate::closed());
    let worker = cluster.spawn_worker();
    let held = client.submit_many(&retrying(&gate.url("call"), "held"), 20);
    wait_for("20 running jobs", SOON, || gate.calls("call").len() == 20);
    let load = Load::start(&client, "load");
    load.go_on_for(200);

    fault(&mut cluster.postgres);
    let down = Instant::now();
    gate.open("while it was away"); // results that cannot be stored yet
    for member in [&cluster.api, &worker] {
        wait_for("a process's saying that it is not ready", SOON, || refusal(member).is_some());
    }
    assert_eq!(cluster.health(), "down");
    wait_for("some time without it", SOON, || down.elapsed() > AWAY);
    cluster.postgres.restart().unwrap();
    let members = [&cluster.api, &worker, cluster.scheduler.as_ref().unwrap()];
    for member in members {
        wait_for("every process's being ready again", SOON, || refusal(member).is_none());
    }
    load.go_on_for(200);

    let answers = load.stop();
    let mut counts = BTreeMap::<u16, usize>::new();
    for answer in &answers {
        *counts.entry(answer.status).or_default() += 1;
        let fits = answer.status == 202 || (answer.status == 503 && answer.retry_after.is_some());
        assert!(fits, "{answer:?}");
    }
    assert!(counts.contains_key(&202) && counts.contains_key(&503), "{counts:?}");
    cluster.wait_until_all_ended(SOON);
    let jobs = client.jobs("load");
    eprintln!("answers: {counts:?}; {} jobs", jobs.len());
    let states: BTreeMap<&str, &str> =
        jobs.iter().map(|job| (job["id"].as_str().unwrap(), job["state"].as_str().unwrap())).collect();
    for accepted in answers.iter().filter(|answer| answer.status == 202) {
        assert_eq!(states.get(&*accepted.body), Some(&"succeeded"), "job {}", accepted.body);
    }
    assert!(states.values().all(|state| *state == "succeeded"), "{states:?}");
    for id in &held {
        assert_eq!(client.endings(id), ["succeeded"]);
        assert_eq!(client.job(id)["result"]["body"], "while it was away");
    }
    assert_eq!(gate.calls("call").len(), held.len(), "nothing ran twice");
    for member in members {
        assert!(member.exited().is_none(), "{} ended", member.name());
    }
}

fn refusal(member: &Member) -> Option<String> {
    process::refusal(&format!("{}/health/ready", member.url))
}
