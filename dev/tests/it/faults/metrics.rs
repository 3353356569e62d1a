//! What a scrape of the real processes shows, with their stores and without.

use std::collections::BTreeSet;
use std::path::Path;

use millwork_dev::http;
use serde_json::Value;

use crate::support::{Cluster, Member, SOON, echo, wait_for};

#[test]
fn dashboard_alerts_and_manual_speak_of_figures_that_exist_and_a_scrape_needs_no_store() {
    let mut cluster = Cluster::start();
    let worker = cluster.spawn_worker();
    cluster.client.submit(&echo("one"));
    cluster.wait_until_all_ended(SOON);
    let scheduler = cluster.scheduler.as_ref().unwrap();
    let members = [&cluster.api, &worker, scheduler];
    wait_for("the first count of the queues", SOON, || {
        [&cluster.api, scheduler].iter().all(|member| member.metrics().contains("\nmillwork_queue_jobs{"))
    });

    let shown: BTreeSet<String> = members.iter().flat_map(|member| names(&member.metrics())).collect();
    let manual = file("OPERATIONS.md");
    let (_, manual) = manual.split_once("\n## Metrics\n").unwrap();
    let (manual, _) = manual.split_once("\n## ").unwrap();
    for (of, text) in [("alerts.yml", file("alerts.yml")), ("grafana.json", file("grafana.json"))] {
        let mentioned = mentioned(&text, &shown);
        let unknown: Vec<_> = mentioned.difference(&shown).collect();
        assert!(unknown.is_empty(), "docs/{of} speaks of {unknown:?}, which no process shows");
        assert!(mentioned.len() > 15, "{of}: {mentioned:?}");
    }
    let described = mentioned(manual, &shown);
    assert_eq!(
        described, shown,
        "docs/OPERATIONS.md (left) lists what the processes show (right), no more and no less"
    );
    let dashboard: Value = serde_json::from_str(&file("grafana.json")).unwrap();
    assert!(dashboard["panels"].as_array().unwrap().len() > 20);

    cluster.redis.stop().unwrap();
    cluster.postgres.stop().unwrap();
    for member in [&cluster.api, &worker, cluster.scheduler.as_ref().unwrap()] {
        wait_for("a process's saying that its stores are away", SOON, || {
            let page = member.metrics();
            ["database", "redis"]
                .iter()
                .all(|store| page.contains(&format!("\nmillwork_dependency_up{{dependency=\"{store}\"}} 0\n")))
        });
    }
}

#[test]
fn every_process_tells_of_its_dependencies_in_one_form() {
    let mut cluster = Cluster::start();
    let worker = cluster.spawn_worker();
    let health = |member: &Member| http::get(&format!("{}/health", member.url)).send().unwrap().expect(200).unwrap();
    let scheduler = cluster.scheduler.as_ref().unwrap();
    for (member, checks) in [
        (&cluster.api, &["database", "disk", "queues", "redis", "storage"][..]),
        (&worker, &["database", "disk", "mail", "redis", "storage"]),
        (scheduler, &["database", "disk", "queues", "redis"]),
    ] {
        let health = health(member);
        assert_eq!(health["status"], "ok", "{health}");
        assert!(health["version"].is_string(), "{health}");
        let shown: Vec<_> = health["checks"].as_object().unwrap().keys().collect();
        assert_eq!(shown, checks);
        for check in checks {
            assert_eq!(health["checks"][*check]["status"], "ok", "{health}");
            assert!(health["checks"][*check]["latency_ms"].is_number(), "{health}");
        }
    }
    assert!(health(&worker)["checks"]["disk"]["volumes"]["mail"]["free_bytes"].is_number());

    let without_mail = cluster.spawn_worker_with(&[("MAIL_URL", "smtp://127.0.0.1:1,smtp://127.0.0.1:2?tls=none")]);
    let poor = health(&without_mail);
    assert_eq!((&poor["status"], &poor["checks"]["mail"]["status"]), (&"degraded".into(), &"degraded".into()));

    assert!(health(&worker)["checks"]["storage"]["free_bytes"].is_number());
    let without_storage = cluster.spawn_worker_with(&[
        ("STORAGE_URL", "s3://bucket?endpoint=http://127.0.0.1:1&path_style=true"),
        ("AWS_ACCESS_KEY_ID", "id"),
        ("AWS_SECRET_ACCESS_KEY", "secret"),
    ]);
    let poor = health(&without_storage);
    assert_eq!((&poor["status"], &poor["checks"]["storage"]["status"]), (&"degraded".into(), &"degraded".into()));
    wait_for("a worker's saying that its storage is away", SOON, || {
        without_storage.metrics().contains("\nmillwork_dependency_up{dependency=\"storage\"} 0\n")
    });

    cluster.redis.stop().unwrap();
    for member in [&cluster.api, &worker, cluster.scheduler.as_ref().unwrap()] {
        wait_for("a process's being degraded", SOON, || health(member)["checks"]["redis"]["status"] == "degraded");
        assert_eq!(health(member)["status"], "degraded");
    }
}

/// Of every metric on the page.
fn names(page: &str) -> BTreeSet<String> {
    page.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next()).map(str::to_owned).collect()
}

/// Every word in `text` that looks like the name of a metric; the parts of a histogram by its name.
fn mentioned(text: &str, shown: &BTreeSet<String>) -> BTreeSet<String> {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    let names = words.filter(|word| word.starts_with("millwork_") || word.starts_with("process_"));
    let whole = |word: &str| {
        let parts = ["_bucket", "_sum", "_count"];
        let of = parts.iter().find_map(|part| word.strip_suffix(part)).filter(|name| shown.contains(*name));
        of.unwrap_or(word).to_owned()
    };
    names.map(whole).collect()
}

fn file(name: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs").join(name)).unwrap()
}
