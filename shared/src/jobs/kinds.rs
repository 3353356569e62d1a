//! Contents page: the kinds a client may submit, with their defaults and the JSON Schema of their payload.

use std::sync::LazyLock;
use std::time::Duration;

use jsonschema::error::ValidationErrorKind;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;

use super::{Job, Queue};
use crate::egress::AllowedNets;
use crate::email::{self, jobs::SendEmail};
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
        ClientKind::of::<SendEmail>(Some(email::jobs::schema())).with_rules(|payload, _| email::jobs::faults(payload)),
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

#[cfg(test)]
mod tests {
    use serde_json::json;
    use serde_json::value::to_raw_value;

    use super::*;

    fn faults(kind: &str, payload: Value) -> Vec<Fault> {
        let mut faults = find(kind).unwrap().faults(&to_raw_value(&payload).unwrap(), &AllowedNets::default());
        faults.sort();
        faults
    }

    fn pointers(payload: Value) -> Vec<String> {
        faults("email.send", payload).into_iter().map(|(pointer, _)| pointer).collect()
    }

    #[test]
    fn a_mail_that_fits_has_no_faults_and_parses() {
        for payload in [
            json!({"to": "ada@example.com", "subject": "Hi", "text": "Hello"}),
            json!({"to": "Ada <ada@example.com>", "subject": "Hi", "text": "", "html": "<p>Hello</p>"}),
            json!({"to": "ada@example.com", "template": "welcome", "locale": "de-AT",
                   "variables": {"name": "Ada", "tenant": "Acme", "url": "https://example.com"}}),
        ] {
            assert_eq!(faults("email.send", payload.clone()), []);
            let mail: SendEmail = serde_json::from_value(payload.clone()).unwrap();
            let again: SendEmail = serde_json::from_value(json!(mail)).unwrap();
            assert_eq!(mail.to, again.to);
        }
    }

    #[test]
    fn every_fault_of_a_mail_is_named_where_it_is() {
        let payload = json!({"to": "ada@example.com\r\nBcc: eve@example.com", "template": "verification",
                             "variables": {"name": "a\nb", "a/b": 1, "valid_for_hours": 0}, "locale": "../en", "cc": "x"});
        let pointers = pointers(payload.clone());
        let expected = [
            "/cc",
            "/locale",
            "/to",
            "/variables/a~1b",
            "/variables/name",
            "/variables/url",
            "/variables/valid_for_hours",
        ];
        assert_eq!(pointers, expected);
        let url = faults("email.send", payload).into_iter().find(|(p, _)| p == "/variables/url").unwrap();
        assert_eq!(url.1, "missing; the template `verification` needs it");
    }

    #[test]
    fn the_two_forms_of_a_mail_do_not_mix() {
        assert_eq!(pointers(json!({})), ["/subject", "/text", "/to"]);
        assert_eq!(pointers(json!([])), [""]);
        assert_eq!(pointers(json!({"to": 1, "template": "welcome"})), ["/to", "/variables"]);
        let both = json!({"to": "a@b.c", "template": "welcome", "subject": "x", "text": "x",
                          "variables": {"name": "Ada", "tenant": "Acme", "url": "https://example.com"}});
        assert_eq!(pointers(both), ["/subject", "/text"]);
    }

    #[test]
    fn an_unknown_template_is_answered_with_the_list() {
        let payload = json!({"to": "a@b.c", "template": "nope", "variables": {}});
        let list = "must be one of welcome, verification, password_reset, password_changed, session_ended, \
                    second_factor_on, second_factor_off, identity_linked, identity_unlinked, invitation, jobs_failed, \
                    queue_backlogged, sign_in_locked, quota_reached, export_ready";
        assert_eq!(faults("email.send", payload), [("/template".to_owned(), list.to_owned())]);
    }

    #[test]
    fn a_written_mail_is_bounded_and_keeps_to_its_subject_line() {
        let mail = |subject: &str, text: usize| {
            pointers(json!({"to": "a@b.c", "subject": subject, "text": "x".repeat(text), "html": "x".repeat(text)}))
        };
        assert_eq!(mail(&"ä".repeat(255), 256 * 1024), [""; 0]);
        assert_eq!(mail(&"ä".repeat(256), 256 * 1024 + 1), ["/html", "/subject", "/text"]);
        for subject in ["", " ", "Hi\nBcc: eve@example.com", "Hi\r", "Hi\u{85}", "Hi\u{2028}x", "Hi\0"] {
            assert_eq!(mail(subject, 1), ["/subject"], "{subject:?}");
        }
    }
}
