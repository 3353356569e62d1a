use std::ops::Deref;
use std::path::Path;
use std::sync::OnceLock;

use millwork_dev::process::{Process, binary};
use millwork_dev::services::ports;
use serde_json::Value;

use super::{SOON, wait_for};

/// A process of Millwork's that listens. Killed on drop; its last lines are shown when the test fails.
pub struct Member {
    process: Process,
    pub url: String,
    worker_id: OnceLock<String>,
}

impl Member {
    /// Starts `millwork-<role>` on a free port and waits until it is ready.
    pub fn start(role: &str, environment: &[(String, String)], scratch: &Path) -> Self {
        Self::start_at(role, ports::free().unwrap(), environment, scratch)
    }

    /// The same on a given port.
    pub fn start_at(role: &str, port: u16, environment: &[(String, String)], scratch: &Path) -> Self {
        let name = format!("millwork-{role}");
        let address = format!("127.0.0.1:{port}");
        let process = Process::builder(&format!("{role}:{port}"), binary(&name).unwrap())
            .clean_env()
            .env(format!("{}_ADDR", role.to_uppercase()), &address)
            .envs(environment.iter().map(|(name, value)| (name, value)))
            .current_dir(scratch) // away from a developer's .env
            .start()
            .unwrap();
        let member = Self { process, url: format!("http://{address}"), worker_id: OnceLock::new() };
        member.wait_until_ok(&format!("{}/health/ready", member.url), SOON).unwrap();
        member
    }

    /// Whether it has logged a line with this message.
    pub fn said(&self, message: &str) -> bool {
        self.lines().any(|line| line["message"] == message)
    }

    /// What its health route shows.
    pub fn health(&self) -> Value {
        millwork_dev::http::get(&format!("{}/health", self.url)).send().unwrap().json().unwrap()
    }

    /// What a scrape of it shows.
    pub fn metrics(&self) -> String {
        let answer = millwork_dev::http::get(&format!("{}/metrics", self.url)).send().unwrap();
        assert_eq!(answer.header("content-type"), Some("text/plain; version=0.0.4; charset=utf-8"));
        answer.text()
    }

    pub fn lines(&self) -> impl Iterator<Item = Value> {
        let lines = self.process.last_lines(usize::MAX);
        let lines: Vec<Value> = lines.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
        lines.into_iter()
    }

    /// The id under which a worker began to work. Asked for at its start, before the line is forgotten.
    pub fn worker_id(&self) -> &str {
        self.worker_id.get_or_init(|| {
            let mut id = None;
            wait_for("the worker's registration", SOON, || {
                let mut said = self.lines().filter(|line| line["message"] == "working");
                id = said.next().and_then(|line| line["worker.id"].as_str().map(str::to_owned));
                id.is_some()
            });
            id.unwrap()
        })
    }
}

impl Deref for Member {
    type Target = Process;

    fn deref(&self) -> &Process {
        &self.process
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- last lines of {} (process {}):\n{}", self.name(), self.pid(), self.last_lines(25));
        }
    }
}
