//! Keeps `.env.example` and docker-compose.yml in step with what the binaries read, which is what their `--help` says.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::time::Duration;

use millwork_dev::process::{Process, binary};

const BINARIES: [&str; 3] = ["millwork-api", "millwork-worker", "millwork-scheduler"];
/// Read by the logging library, and so in no binary's `--help`.
const NOT_OURS: &str = "RUST_LOG";

#[test]
fn the_example_names_every_variable_that_a_binary_reads_and_no_other() {
    let mut read = all_read();
    read.insert(NOT_OURS.to_owned());
    let described = described(&file(".env.example"));
    let missing: Vec<_> = read.difference(&described).collect();
    let unknown: Vec<_> = described.difference(&read).collect();
    assert!(missing.is_empty(), ".env.example does not describe {missing:?}");
    assert!(unknown.is_empty(), ".env.example describes {unknown:?}, which no binary reads");
}

#[test]
fn compose_sets_only_variables_that_are_read_and_all_that_are_required() {
    let mut read = all_read();
    read.insert(NOT_OURS.to_owned());
    let set = set_by_compose(&file("docker-compose.yml"));
    let unknown: Vec<_> = set.difference(&read).collect();
    assert!(unknown.is_empty(), "docker-compose.yml sets {unknown:?}, which no binary reads");
    let required: BTreeSet<_> = ["DATABASE_URL", "REDIS_URL", "MASTER_KEYS", "STORAGE_URL"].map(str::to_owned).into();
    assert!(set.is_superset(&required), "docker-compose.yml sets {set:?}; the binaries need {required:?}");
}

#[test]
fn compose_allows_more_time_to_stop_than_the_processes_take() {
    let compose = file("docker-compose.yml");
    let number_after = |key: &str| -> u64 {
        let line = compose.lines().find_map(|line| line.trim().strip_prefix(key)).unwrap();
        line.trim().chars().take_while(char::is_ascii_digit).collect::<String>().parse().unwrap()
    };
    assert!(number_after("stop_grace_period:") > number_after("SHUTDOWN_GRACE_S:"));
}

/// Of the three binaries together.
fn all_read() -> BTreeSet<String> {
    let by_binary: BTreeMap<_, _> = BINARIES.iter().map(|name| (name, read_by(name))).collect();
    for (name, variables) in &by_binary {
        assert!(variables.contains("DATABASE_URL"), "{name} --help names {variables:?}, and not DATABASE_URL");
    }
    by_binary.into_values().flatten().collect()
}

/// From `[env: NAME=value]` in the help.
fn read_by(name: &str) -> BTreeSet<String> {
    let help = Process::builder(name, binary(name).unwrap()).arg("--help").clean_env().start().unwrap();
    let status = help.wait(Duration::from_secs(30)).unwrap();
    assert!(status.success(), "{}", help.obituary(status));
    let text = help.last_lines(usize::MAX);
    text.split("[env: ").skip(1).filter_map(|rest| rest.split(['=', ']']).next()).map(str::to_owned).collect()
}

/// `NAME=…` and `# NAME=…`.
fn described(example: &str) -> BTreeSet<String> {
    let lines = example.lines().map(|line| line.strip_prefix("# ").unwrap_or(line));
    lines
        .filter_map(|line| line.split_once('='))
        .filter(|(name, _)| is_variable(name))
        .map(|(name, _)| name.to_owned())
        .collect()
}

/// Keys of the `environment` that Millwork's services share, and of any that one of them has of its own.
fn set_by_compose(compose: &str) -> BTreeSet<String> {
    let ours = ["x-environment", "api", "worker", "scheduler", "migrate"];
    let mut variables = BTreeSet::new();
    let mut section = "";
    for line in compose.lines() {
        let depth = line.len() - line.trim_start().len();
        let Some((key, _)) = line.trim_start().split_once(':') else { continue };
        if depth == 0 || (depth == 2 && !is_variable(key)) {
            section = key;
        }
        if ours.contains(&section) && is_variable(key) {
            variables.insert(key.to_owned());
        }
    }
    variables
}

fn is_variable(name: &str) -> bool {
    !name.is_empty() && name.chars().all(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_')
}

fn file(name: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(name)).unwrap()
}
