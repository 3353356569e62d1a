//! Reports of faults, as Sentry receives them.

use clap::Parser;
use serde_json::Value;

use super::HttpReceiver;
use crate::infra::config::Faults;
use crate::infra::telemetry::sentry::SentryArgs;
use crate::infra::telemetry::{LogConfig, LogFormat, Running, Telemetry};

#[derive(Parser)]
struct Cli {
    #[command(flatten)]
    sentry: SentryArgs,
}

/// From now on this process reports its faults to `receiver`, project 7. Other tests' too, if they share the process.
pub fn reporting_to(receiver: &HttpReceiver) -> Running {
    let dsn = format!("http://key@{}/7", receiver.addr());
    let mut faults = Faults::default();
    let sentry = Cli::parse_from(["test", "--sentry-dsn", &dsn]).sentry.read(&mut faults);
    faults.finish().expect("a DSN");
    let log = LogConfig { log_format: Some(LogFormat::Json) };
    Telemetry { process: "test", log, traces: None, sentry }.install().expect("an HTTP client")
}

/// One report.
#[derive(Debug)]
pub struct Report {
    pub event: Value,
}

impl Report {
    /// Those received so far.
    pub fn all(receiver: &HttpReceiver) -> Vec<Self> {
        let mut reports = Vec::new();
        for request in receiver.requests() {
            assert_eq!(request.path, "/api/7/envelope/");
            assert!(request.header("x-sentry-auth").is_some_and(|auth| auth.contains("sentry_key=key")));
            // An envelope: a line for itself, then a line before each item.
            let text = String::from_utf8(request.body).expect("an envelope of text");
            let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
            let items = lines[1..].chunks(2).filter(|item| item[0]["type"] == "event");
            reports.extend(items.map(|item| Self { event: item[1].clone() }));
        }
        reports
    }

    pub fn tag(&self, name: &str) -> &str {
        self.event["tags"][name].as_str().unwrap_or_default()
    }
}
