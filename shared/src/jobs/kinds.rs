//! Contents page: the kinds a client may submit, with their defaults and the JSON Schema of their payload.

use std::sync::LazyLock;
use std::time::Duration;

use jsonschema::error::ValidationErrorKind;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;

use super::{Job, Queue};
use crate::egress::AllowedNets;
use crate::http_requests::jobs::HttpRequest;

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
    /// What the schema cannot say.
    rules: Option<Rules>,
}

/// What is wrong with a payload: JSON pointer within it, and a sentence.
pub type Fault = (String, String);

type Rules = fn(&Value, &AllowedNets) -> Vec<Fault>;

const MOST_FAULTS: usize = 50;

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
            rules: None,
        }
    }

    /// The rules leave alone what is missing or of another type than the schema wants.
    fn with_rules(self, rules: Rules) -> Self {
        Self { rules: Some(rules), ..self }
    }

    /// Every fault of `payload`, up to fifty. `nets` are the private networks that may be called all the same.
    pub fn faults(&self, payload: &RawValue, nets: &AllowedNets) -> Vec<Fault> {
        let Some(schema) = &self.schema else { return Vec::new() };
        let value = match serde_json::from_str::<Value>(payload.get()) {
            Ok(value) => value,
            Err(e) => return vec![(String::new(), e.to_string())],
        };
        let mut faults: Vec<Fault> = schema.iter_errors(&value).take(MOST_FAULTS).flat_map(sentences).collect();
        if let Some(rules) = self.rules {
            faults.extend(rules(&value, nets));
        }
        faults.truncate(MOST_FAULTS);
        faults
    }
}

/// Says what is wrong where, without repeating the value, which may be long.
fn sentences(error: jsonschema::ValidationError<'_>) -> Vec<Fault> {
    let place = error.instance_path().to_string();
    let member = |name: &str| format!("{place}/{}", name.replace('~', "~0").replace('/', "~1"));
    match error.kind() {
        ValidationErrorKind::Required { property } => {
            vec![(member(property.as_str().unwrap_or_default()), "missing".into())]
        }
        ValidationErrorKind::AdditionalProperties { unexpected } => {
            unexpected.iter().take(MOST_FAULTS).map(|name| (member(name), "not known here".into())).collect()
        }
        ValidationErrorKind::Enum { options } => {
            let options: Vec<_> = options
                .as_array()
                .into_iter()
                .flatten()
                .map(|o| o.as_str().map_or(o.to_string(), str::to_owned))
                .collect();
            vec![(place, format!("must be one of {}", options.join(", ")))]
        }
        _ => vec![(place, error.masked_with("the value").to_string().chars().take(300).collect())],
    }
}

static KINDS: LazyLock<Vec<ClientKind>> = LazyLock::new(|| {
    vec![
        ClientKind::of::<Echo>(None),
        ClientKind::of::<HttpRequest>(Some(HttpRequest::schema())).with_rules(HttpRequest::rules),
    ]
});

/// The kind of that name, if clients may submit it.
pub fn find(name: &str) -> Option<&'static ClientKind> {
    KINDS.iter().find(|kind| kind.name == name)
}

/// The names of all kinds that clients may submit.
pub fn names() -> Vec<&'static str> {
    KINDS.iter().map(|kind| kind.name).collect()
}
