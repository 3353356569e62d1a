//! Types of bodies that more than one feature uses.

use std::borrow::Cow;

use chrono::{DateTime, SecondsFormat, Utc};
use millwork_shared::infra::crypto::Secret;
use poem_openapi::registry::{MetaSchema, MetaSchemaRef};
use poem_openapi::types::{Example, ParseError, ParseFromJSON, ParseFromParameter, ParseResult, ToJSON, Type};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;

/// A moment, written as RFC 3339 UTC with milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(transparent)]
pub struct Time(pub DateTime<Utc>);

impl From<DateTime<Utc>> for Time {
    fn from(at: DateTime<Utc>) -> Self {
        Self(at)
    }
}

impl std::fmt::Display for Time {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0.to_rfc3339_opts(SecondsFormat::Millis, true))
    }
}

impl Serialize for Time {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl ParseFromParameter for Time {
    fn parse_from_parameter(value: &str) -> ParseResult<Self> {
        DateTime::parse_from_rfc3339(value)
            .map(|at| Self(at.to_utc()))
            .map_err(|_| ParseError::custom("not a time such as 2026-01-31T12:00:00Z"))
    }
}

impl ParseFromJSON for Time {
    fn parse_from_json(value: Option<Value>) -> ParseResult<Self> {
        match value {
            Some(Value::String(text)) => Self::parse_from_parameter(&text),
            other => Err(ParseError::expected_type(other.unwrap_or_default())),
        }
    }
}

impl ToJSON for Time {
    fn to_json(&self) -> Option<Value> {
        Some(Value::String(self.to_string()))
    }
}

/// Any JSON, as the text that came or was stored: digits, order and spelling are kept.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RawJson(pub Box<RawValue>);

impl RawJson {
    /// The text itself.
    pub fn text(&self) -> &str {
        self.0.get()
    }

    /// JSON text from the database. Text that is no JSON, which nothing writes, becomes null.
    pub fn stored(text: String) -> Self {
        Self(RawValue::from_string(text).unwrap_or_else(|_| RawValue::NULL.to_owned()))
    }
}

impl ParseFromJSON for RawJson {
    fn parse_from_json(value: Option<Value>) -> ParseResult<Self> {
        let value = value.ok_or_else(ParseError::expected_input)?;
        Ok(Self(serde_json::value::to_raw_value(&value)?))
    }
}

impl ToJSON for RawJson {
    fn to_json(&self) -> Option<Value> {
        serde_json::from_str(self.text()).ok()
    }
}

/// A password: it does not print, and is never sent back.
#[derive(Debug, Clone, Deserialize)]
#[serde(transparent)]
pub struct Password(pub Secret<String>);

impl ParseFromJSON for Password {
    fn parse_from_json(value: Option<Value>) -> ParseResult<Self> {
        String::parse_from_json(value).map(|text| Self(Secret::new(text))).map_err(ParseError::propagate)
    }
}

impl Example for Password {
    fn example() -> Self {
        Self(Secret::new(EXAMPLE_PASSWORD.to_owned()))
    }
}

/// For the reference alone: whatever the password is, the example comes out.
impl ToJSON for Password {
    fn to_json(&self) -> Option<Value> {
        Some(Value::String(EXAMPLE_PASSWORD.to_owned()))
    }
}

const EXAMPLE_PASSWORD: &str = "correct horse battery staple";

/// One line of text that is not blank, for names that end up in headings and mails. Trimmed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Line(pub String);

/// A mail address. Trimmed; letters keep their case.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct MailAddress(pub String);

/// Whether `text` is a [`Line`]; its length is the schema's to bound.
pub(super) fn is_line(text: &str) -> bool {
    !text.trim().is_empty() && !text.chars().any(char::is_control)
}

/// Text that is trimmed as it is read.
macro_rules! trimmed {
    ($($ty:ident),*) => {$(
        impl<'de> Deserialize<'de> for $ty {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                Ok(Self(String::deserialize(deserializer)?.trim().to_owned()))
            }
        }

        impl ParseFromJSON for $ty {
            fn parse_from_json(value: Option<Value>) -> ParseResult<Self> {
                String::parse_from_json(value).map(|text| Self(text.trim().to_owned())).map_err(ParseError::propagate)
            }
        }

        impl ToJSON for $ty {
            fn to_json(&self) -> Option<Value> {
                Some(Value::String(self.0.clone()))
            }
        }
    )*};
}
trimmed!(Line, MailAddress);

/// Implements what poem-openapi documents of a type that is one value. `raw` is what its validators look at.
macro_rules! documented {
    ($ty:ty, $name:literal, $schema:expr, raw $raw:ty = $get:expr) => {
        impl Type for $ty {
            const IS_REQUIRED: bool = true;
            type RawValueType = $raw;
            type RawElementValueType = $raw;

            fn name() -> Cow<'static, str> {
                $name.into()
            }

            fn schema_ref() -> MetaSchemaRef {
                MetaSchemaRef::Inline(Box::new($schema))
            }

            fn as_raw_value(&self) -> Option<&$raw> {
                let get: fn(&Self) -> &$raw = $get;
                Some(get(self))
            }

            fn raw_element_iter<'a>(&'a self) -> Box<dyn Iterator<Item = &'a $raw> + 'a> {
                Box::new(self.as_raw_value().into_iter())
            }
        }
    };
}
documented!(Time, "time", MetaSchema::new_with_format("string", "date-time"), raw Self = |t| t);
documented!(RawJson, "any", MetaSchema::ANY, raw Self = |t| t);
documented!(Password, "password", MetaSchema::new_with_format("string", "password"), raw String = |t| t.0.expose());
documented!(Line, "line", MetaSchema::new_with_format("string", "line"), raw String = |t| &t.0);
documented!(MailAddress, "email", MetaSchema::new_with_format("string", "email"), raw String = |t| &t.0);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_written_in_utc_with_milliseconds() {
        let time = Time::parse_from_parameter("2026-01-31T13:00:00.123456+01:00").unwrap();
        assert_eq!(serde_json::to_string(&time).unwrap(), "\"2026-01-31T12:00:00.123Z\"");
    }

    #[test]
    fn a_line_is_one_and_not_blank() {
        for (text, ok) in [("Acme", true), (" Ä & Ö ", true), ("", false), (" \t", false), ("a\r\nBcc: x", false)] {
            assert_eq!(is_line(text), ok, "{text:?}");
        }
        assert_eq!(serde_json::from_str::<Line>("\" a \"").unwrap().0, "a");
    }

    #[test]
    fn raw_json_keeps_every_digit_and_the_order_of_keys() {
        let text = r#"{"b":1.10,"a":123456789012345678901234567890}"#;
        let raw: RawJson = serde_json::from_str(text).unwrap();
        assert_eq!(serde_json::to_string(&raw).unwrap(), text);
    }
}
