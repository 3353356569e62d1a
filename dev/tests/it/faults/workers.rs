//! Workers that die, are stopped, or hang.

use std::time::{Duration, Instant};

use crate::support::{Cluster, Gate, LEASE_OVER, Load, Member, SOON, echo, retrying, wait_for};

/// Looks, hand-back and goodbye on a busy machine, beside the grace that handlers are given.
const STOPPED: Duration = Duration::from_secs(10);

#[test]
fn every_job_of_a_killed_worker_runs_again_on_another() {
    let cluster = Cluster::start();
    let (client, gate) = (&cluster.client, Gate::closed());
    let first = cluster.spawn_worker();
    let ids = client.submit_many(&retrying(&gate.url("call"), "held"), 50);
    wait_for("50 running jobs", SOON, || gate.calls("call").len() == 50);

    first.kill9().unwrap();
    let killed = Instant::now();
    let second = cluster.spawn_worker();
    gate.answer_new(200, "second");
    wait_for("the end of every job", LEASE_OVER, || client.states("held").get("succeeded") == Some(&50));
    eprintln!("all ran again within {:?}", killed.elapsed());

    for id in &ids {
        let attempts = client.attempts(id);
        let endings: Vec<_> = attempts.iter().map(|attempt| attempt["ended"].as_str().unwrap()).collect();
        assert_eq!(endings, ["lost", "succeeded"]);
        assert_eq!(attempts[0]["worker_id"], first.worker_id());
        assert_eq!(attempts[0]["error"]["code"], "worker_lost");
        assert_eq!(attempts[1]["worker_id"], second.worker_id());
    }
    assert_eq!(gate.calls("call").len(), 100, "each ran twice, no more");
    assert_eq!(client.workers(), [second.worker_id()]);
}

#[test]
fn a_worker_stopped_under_load_ends_at_once_and_loses_nothing() {
    let cluster = Cluster::start();
    let client = &cluster.client;
    let backlog = client.submit_many(&echo("load"), 5_000).len();
    let load = Load::start(client, "load");
    let first = cluster.spawn_worker();
    wait_for("some of the backlog to be done", SOON, || client.live() + 200 < backlog as u64);

    // With claims under way all the time.
    first.sigterm().unwrap();
    let asked = Instant::now();
    let status = first.wait(STOPPED).unwrap();
    assert!(status.success(), "{}", first.obituary(status));
    eprintln!("it stopped within {:?}", asked.elapsed());
    assert!(client.live() > 0, "it was stopped in the middle of its work");
    let _second = cluster.spawn_worker();
    load.go_on_for(50);

    let answers = load.stop();
    cluster.wait_until_all_ended(SOON);
    let jobs = client.jobs("load");
    assert_eq!(jobs.len(), backlog + answers.len());
    for job in jobs {
        assert_eq!((&job["state"], &job["attempt"]), (&"succeeded".into(), &1.into()), "{job}");
    }
}

#[test]
fn a_stopped_worker_hands_back_what_it_cannot_finish_at_no_cost_of_an_attempt() {
    let cluster = Cluster::start();
    let (client, gate) = (&cluster.client, Gate::closed());
    let first = cluster.spawn_worker_with(&[("SHUTDOWN_GRACE_S", "1")]);
    let ids = client.submit_many(&retrying(&gate.url("call"), "held"), 40);
    wait_for("40 running jobs", SOON, || gate.calls("call").len() == 40);
    let load = Load::start(client, "load");
    load.go_on_for(20);
    let second = cluster.spawn_worker();
    gate.answer_new(200, "second");

    first.sigterm().unwrap();
    let asked = Instant::now();
    let status = first.wait(Duration::from_secs(1) + STOPPED).unwrap();
    assert!(status.success(), "{}", first.obituary(status));
    // Sooner than any lease runs out, counted from when it was asked.
    let left = Duration::from_secs(14).saturating_sub(asked.elapsed());
    wait_for("the end of every job handed back", left, || client.states("held").get("succeeded") == Some(&40));

    let accepted = load.stop().len();
    cluster.wait_until_all_ended(SOON);
    for id in &ids {
        let attempts = client.attempts(id);
        assert_eq!(attempts.len(), 1, "{attempts:?}");
        assert_eq!((attempts[0]["attempt"].as_u64(), &attempts[0]["ended"]), (Some(1), &"succeeded".into()));
        assert_eq!(attempts[0]["worker_id"], second.worker_id());
        assert_eq!(client.job(id)["result"]["body"], "second");
    }
    assert_eq!(client.states("load"), [("succeeded".to_owned(), accepted)].into());
}

#[test]
fn a_worker_stopped_while_postgres_is_away_leaves_its_jobs_to_run_elsewhere() {
    let mut cluster = Cluster::start();
    let (client, gate) = (cluster.client.clone(), Gate::closed());
    let first = cluster.spawn_worker_with(&[("SHUTDOWN_GRACE_S", "1")]);
    client.submit_many(&retrying(&gate.url("call"), "held"), 20);
    wait_for("20 running jobs", SOON, || gate.calls("call").len() == 20);
    let second = cluster.spawn_worker();
    gate.answer_new(200, "second");

    cluster.postgres.stop().unwrap();
    first.sigterm().unwrap();
    wait_for("its giving up to hand them back", SOON, || first.said("could not hand back; the lease will run out"));
    cluster.postgres.restart().unwrap();
    let back = Instant::now();
    let status = first.wait(STOPPED).unwrap();
    assert!(status.success(), "{}", first.obituary(status));
    // The rest of its lease, and no longer.
    let left = Duration::from_secs(20);
    wait_for("the end of every job", left, || client.states("held").get("succeeded") == Some(&20));
    eprintln!("all ran elsewhere within {:?}", back.elapsed());
    for job in client.jobs("held") {
        let attempts = client.attempts(job["id"].as_str().unwrap());
        assert_eq!(attempts.last().unwrap()["worker_id"], second.worker_id());
    }
}

#[test]
fn a_worker_that_hung_past_its_lease_is_refused_and_goes_on_under_another_name() {
    let cluster = Cluster::start();
    let (client, gate) = (&cluster.client, Gate::closed());
    let hung = cluster.spawn_worker();
    let ids = client.submit_many(&retrying(&gate.url("call"), "held"), 20);
    wait_for("20 running jobs", SOON, || gate.calls("call").len() == 20);

    hung.sigstop().unwrap();
    let second = cluster.spawn_worker();
    wait_for("the same 20 jobs on another worker", LEASE_OVER, || gate.calls("call").len() == 40);
    assert_eq!(client.workers(), [second.worker_id()]);

    // The hung worker finds its answers when it wakes, while the second one still waits for its own.
    gate.answer_first(20, 200, "late");
    hung.sigcont().unwrap();
    wait_for("the woken worker's new registration", SOON, || client.workers().len() == 2);
    wait_for("its noticing that its jobs are gone", SOON, || {
        hung.said("this worker's lease had run out and its jobs were taken back; starting afresh")
    });
    assert_eq!(client.states("held"), [("running".to_owned(), 20)].into(), "no late result is accepted");
    gate.open("second");
    wait_for("the end of every job", SOON, || client.states("held").get("succeeded") == Some(&20));
    for id in &ids {
        assert_eq!(client.endings(id), ["lost", "succeeded"]);
        assert_eq!(client.attempts(id)[1]["worker_id"], second.worker_id());
        assert_eq!(client.job(id)["result"]["body"], "second");
    }

    assert!(second.stop(STOPPED).unwrap());
    let id = client.submit(&echo("after"));
    wait_for("a job done by the woken worker", SOON, || client.job(&id)["state"] == "succeeded");
    let done_by = client.attempts(&id)[0]["worker_id"].as_str().unwrap().to_owned();
    assert_ne!(done_by, hung.worker_id());
    assert_eq!(client.workers(), [done_by]);
}

#[test]
fn a_job_that_kills_its_worker_three_times_is_quarantined_and_the_others_go_on() {
    let cluster = Cluster::start();
    let (client, gate) = (&cluster.client, Gate::closed());
    let mut workers = vec![cluster.spawn_worker(), cluster.spawn_worker()];
    let poison = client.submit(&retrying(&gate.url("poison"), "poison"));
    for round in 1..=3 {
        let load = Load::start(client, "load");
        wait_for("the poison's next run", LEASE_OVER, || gate.calls("poison").len() == round);
        let attempt = client.attempts(&poison).pop().unwrap();
        let struck = workers.iter().position(|worker| attempt["worker_id"] == worker.worker_id()).unwrap();
        workers.swap_remove(struck).kill9().unwrap();
        workers.push(cluster.spawn_worker());
        load.go_on_for(20);
        load.stop();
    }
    wait_for("the quarantine", LEASE_OVER, || client.job(&poison)["state"] == "failed");
    let job = client.job(&poison);
    assert_eq!((&job["last_error"]["code"], job["attempt"].as_u64()), (&"worker_lost".into(), Some(3)));
    assert_eq!(client.endings(&poison), ["lost", "lost", "failed"]);
    assert_eq!(gate.calls("poison").len(), 3);
    let figures = ["millwork_jobs_reaped_total{fate=\"quarantined\"} 1\n", "millwork_workers_lost_total 3\n"];
    wait_for("the scheduler's counting so", SOON, || {
        let page = cluster.scheduler.as_ref().unwrap().metrics();
        figures.iter().all(|figure| page.contains(figure))
    });

    cluster.wait_until_all_ended(LEASE_OVER);
    assert_eq!(client.states("load").keys().collect::<Vec<_>>(), ["succeeded"]);
    assert!(workers.iter().all(|worker: &Member| worker.exited().is_none()));
}
