//! Contents page: the kinds a client may submit, with their defaults and the JSON Schema of their payload.

use std::sync::LazyLock;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;

use super::{Job, Queue};

/// Returns its payload. For trying things and for benchmarks.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Echo(pub Box<RawValue>);

impl Job for Echo {
    const KIND: &'static str = "echo";
    const QUEUE: Queue = Queue::Default;
}

/// A kind that clients may submit.
pub struct ClientKind {
    pub name: &'static str,
    pub queue: Queue,
    pub max_attempts: i16,
    pub timeout: Duration,
    /// None accepts any JSON.
    schema: Option<jsonschema::Validator>,
}

impl ClientKind {
    fn of<J: Job>(schema: Option<Value>) -> Self {
        Self {
            name: J::KIND,
            queue: J::QUEUE,
            max_attempts: J::MAX_ATTEMPTS,
            timeout: J::TIMEOUT,
            #[expect(clippy::expect_used, reason = "schemas are constants, compiled by a test")]
            schema: schema.map(|s| {
                jsonschema::options().should_validate_formats(true).build(&s).expect("a kind's schema compiles")
            }),
        }
    }

    /// Every fault of `payload`, as (JSON pointer within it, sentence).
    pub fn faults(&self, payload: &RawValue) -> Vec<(String, String)> {
        let Some(schema) = &self.schema else { return Vec::new() };
        match serde_json::from_str::<Value>(payload.get()) {
            Ok(value) => schema
                .iter_errors(&value)
                .take(50)
                .map(|e| (e.instance_path().to_string(), e.to_string().chars().take(300).collect()))
                .collect(),
            Err(e) => vec![(String::new(), e.to_string())],
        }
    }
}

static KINDS: LazyLock<Vec<ClientKind>> = LazyLock::new(|| vec![ClientKind::of::<Echo>(None)]);

/// The kind of that name, if clients may submit it.
pub fn find(name: &str) -> Option<&'static ClientKind> {
    KINDS.iter().find(|kind| kind.name == name)
}

/// The names of all kinds that clients may submit.
pub fn names() -> Vec<&'static str> {
    KINDS.iter().map(|kind| kind.name).collect()
}
