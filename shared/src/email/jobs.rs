//! The kind `email.send`, and what its payload must look like.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::{Mailbox, Template, is_one_line, to_one_line};
use crate::jobs::{Job, Queue};

const LONGEST_SUBJECT_CHARS: usize = 255;
const LARGEST_BODY_BYTES: usize = 256 * 1024;

/// Sends one mail to one mailbox.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct SendEmail {
    pub to: Mailbox,
    #[serde(flatten)]
    pub content: Content,
}

impl Job for SendEmail {
    const KIND: &'static str = "email.send";
    const QUEUE: Queue = Queue::Email;
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Content {
    /// Worded by Millwork, in the language of `locale` (a BCP 47 tag) where it is known, else in English.
    Template {
        template: Template,
        #[serde(default)]
        variables: Map<String, Value>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        locale: Option<String>,
    },
    /// Worded by the client.
    Written {
        subject: Subject,
        text: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        html: Option<String>,
    },
}

/// One line of 1 to 255 characters.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Subject(String);

impl Subject {
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Makes a subject of a rendered template: line breaks become spaces, what is too long is cut.
    pub fn lossy(text: &str) -> Self {
        Self(to_one_line(text, LONGEST_SUBJECT_CHARS))
    }
}

impl TryFrom<String> for Subject {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        if !is_one_line(&text) {
            return Err("a subject may not contain line breaks or other control characters".into());
        }
        if text.trim().is_empty() || text.chars().count() > LONGEST_SUBJECT_CHARS {
            return Err(format!("must have 1 to {LONGEST_SUBJECT_CHARS} characters"));
        }
        Ok(Self(text))
    }
}

impl From<Subject> for String {
    fn from(subject: Subject) -> Self {
        subject.0
    }
}

/// The shape of a payload; [`faults`] knows the rest.
pub fn schema() -> Value {
    json!({
        "type": "object",
        "required": ["to"],
        "properties": { "to": { "type": "string" } },
        "if": { "required": ["template"] },
        "then": {
            "required": ["variables"],
            "properties": {
                "to": true,
                "template": { "enum": Template::ALL.map(Template::as_str) },
                "variables": { "type": "object" },
                "locale": { "type": "string", "pattern": "^[A-Za-z]{2,3}(-[A-Za-z0-9]{2,8}){0,3}$" },
            },
            "additionalProperties": false,
        },
        "else": {
            "required": ["subject", "text"],
            "properties": {
                "to": true,
                "subject": { "type": "string" },
                "text": { "type": "string" },
                "html": { "type": "string" },
            },
            "additionalProperties": false,
        },
    })
}

/// What a schema cannot say of a payload, as (JSON pointer, sentence). Members of another type are the schema's matter.
pub fn faults(payload: &Value) -> Vec<(String, String)> {
    let mut faults = Vec::new();
    let text = |name: &str| payload.get(name).and_then(Value::as_str);
    if let Some(Err(fault)) = text("to").map(str::parse::<Mailbox>) {
        faults.push(("/to".into(), fault));
    }
    if let Some(Ok(template)) = text("template").map(str::parse::<Template>) {
        if let Some(variables) = payload.get("variables").and_then(Value::as_object) {
            let pointer = |name: String| format!("/variables/{}", name.replace('~', "~0").replace('/', "~1"));
            faults.extend(template.faults(variables).into_iter().map(|(name, fault)| (pointer(name), fault)));
        }
        return faults;
    }
    if let Some(Err(fault)) = text("subject").map(|s| Subject::try_from(s.to_owned())) {
        faults.push(("/subject".into(), fault));
    }
    for name in ["text", "html"] {
        if let Some(size) = text(name).map(str::len).filter(|size| *size > LARGEST_BODY_BYTES) {
            faults.push((format!("/{name}"), format!("has {size} bytes; at most {LARGEST_BODY_BYTES} are allowed")));
        }
    }
    faults
}
