//! JSON Schemas that tenants declare for their events.
//!
//! A schema is a program that runs here, so it is held to what can be checked cheaply: local references that do not lead
//! back to themselves, a bounded size once they are followed, and patterns matched in linear time.

use std::collections::HashMap;

use jsonschema::{Draft, PatternOptions, Validator};
use serde_json::Value;

use crate::Fault;

/// Bytes of a schema's text.
pub const SCHEMA_MAX_BYTES: usize = 64 * 1024;
/// Objects and arrays of a schema with every reference followed: what one value of a payload may be compared with.
const WEIGHT_MAX: usize = 2_000;
/// Most faults told at once.
const FAULTS_MAX: usize = 50;

/// A schema that payloads are checked against.
#[derive(Debug)]
pub struct EventSchema {
    validator: Validator,
    weight: usize,
}

impl EventSchema {
    /// Compiles JSON text.
    ///
    /// # Errors
    /// Every fault, by its pointer within the schema.
    pub fn compile(text: &str) -> Result<Self, Vec<Fault>> {
        let fault = |pointer: String, detail: String| Fault::new(pointer, "schema_invalid", detail);
        if text.len() > SCHEMA_MAX_BYTES {
            let detail = format!("a schema has at most {SCHEMA_MAX_BYTES} bytes");
            return Err(vec![fault(String::new(), detail)]);
        }
        let schema: Value =
            serde_json::from_str(text).map_err(|e| vec![fault(String::new(), format!("not JSON: {e}"))])?;
        if !schema.is_object() {
            return Err(vec![fault(String::new(), "a schema is an object".to_owned())]);
        }
        let draft = draft_of(&schema).map_err(|detail| vec![fault("/$schema".to_owned(), detail)])?;
        let mut faults: Vec<Fault> = errors_of(draft, &schema);
        forbid(&schema, &mut String::new(), true, &mut faults);
        if !faults.is_empty() {
            faults.truncate(FAULTS_MAX);
            return Err(faults);
        }
        let weight = Weights { root: &schema, known: HashMap::new() }.of_ref("#").map_err(|f| vec![f])?;
        if weight > WEIGHT_MAX {
            let detail =
                format!("with references followed the schema has {weight} parts; at most {WEIGHT_MAX} are allowed");
            return Err(vec![fault(String::new(), detail)]);
        }
        let validator = jsonschema::options()
            .with_draft(draft)
            .should_validate_formats(true)
            .should_ignore_unknown_formats(true)
            .with_pattern_options(PatternOptions::regex().size_limit(1 << 20).dfa_size_limit(1 << 20))
            .build(&schema)
            .map_err(|e| vec![fault(e.instance_path().to_string(), e.masked().to_string())])?;
        Ok(Self { validator, weight })
    }

    /// Everything about a payload that does not fit, by pointers that begin with `prefix`.
    ///
    /// # Errors
    /// Fails when the text is not JSON.
    pub fn faults(&self, payload: &str, prefix: &str) -> serde_json::Result<Vec<Fault>> {
        let payload: Value = serde_json::from_str(payload)?;
        let faults = self.validator.iter_errors(&payload).take(FAULTS_MAX).map(|e| {
            // The message without the value, which may be secret, and cut, because it may repeat the schema.
            let detail: String = e.masked().to_string().chars().take(300).collect();
            Fault::new(format!("{prefix}{}", e.instance_path().as_str()), "schema_mismatch", detail)
        });
        Ok(faults.collect())
    }

    /// Whether checking this payload may take long enough to be in the way of other requests.
    pub fn is_costly(&self, payload: &str) -> bool {
        self.weight.saturating_mul(payload.len()) > 1 << 20
    }
}

/// The newest draft, unless the schema names another that we know.
fn draft_of(schema: &Value) -> Result<Draft, String> {
    let Some(named) = schema.get("$schema") else { return Ok(Draft::Draft202012) };
    match named.as_str().map(|uri| uri.trim_end_matches('#')) {
        Some("https://json-schema.org/draft/2020-12/schema") => Ok(Draft::Draft202012),
        Some("https://json-schema.org/draft/2019-09/schema") => Ok(Draft::Draft201909),
        Some("http://json-schema.org/draft-07/schema" | "https://json-schema.org/draft-07/schema") => Ok(Draft::Draft7),
        _ => Err("the drafts 2020-12, 2019-09 and 07 are supported".to_owned()),
    }
}

fn errors_of(draft: Draft, schema: &Value) -> Vec<Fault> {
    let meta = match draft {
        Draft::Draft7 => jsonschema::draft7::meta::validator(),
        Draft::Draft201909 => jsonschema::draft201909::meta::validator(),
        _ => jsonschema::draft202012::meta::validator(),
    };
    let fault = |e: jsonschema::ValidationError<'_>| {
        let detail: String = e.masked().to_string().chars().take(300).collect();
        Fault::new(e.instance_path().to_string(), "schema_invalid", detail)
    };
    meta.iter_errors(schema).take(FAULTS_MAX).map(fault).collect()
}

/// Finds keywords that would make references mean something else than a pointer into this very document.
fn forbid(value: &Value, at: &mut String, is_root: bool, faults: &mut Vec<Fault>) {
    let length = at.len();
    match value {
        Value::Object(map) => {
            for (key, inner) in map {
                at.push('/');
                at.push_str(&key.replace('~', "~0").replace('/', "~1"));
                let detail = match (key.as_str(), inner) {
                    ("$ref", Value::String(to)) if !to.starts_with('#') => Some("refers to another document"),
                    ("$ref", Value::String(to)) if to.len() > 1 && !to.starts_with("#/") => Some("refers to an anchor"),
                    ("$dynamicRef" | "$recursiveRef", Value::String(_)) => Some("is not supported; use `$ref`"),
                    ("$id", Value::String(_)) if !is_root => Some("is supported at the top alone"),
                    _ => None,
                };
                if let Some(detail) = detail {
                    faults.push(Fault::new(at.clone(), "schema_unsupported", detail));
                }
                forbid(inner, at, false, faults);
                at.truncate(length);
            }
        }
        Value::Array(items) => {
            for (n, inner) in items.iter().enumerate() {
                at.push_str(&format!("/{n}"));
                forbid(inner, at, false, faults);
                at.truncate(length);
            }
        }
        _ => {}
    }
}

/// Counts the parts of a schema, each reference as often as it is followed.
struct Weights<'a> {
    root: &'a Value,
    /// None while it is being counted: to meet it then is to go in circles.
    known: HashMap<String, Option<usize>>,
}

impl<'a> Weights<'a> {
    fn of_ref(&mut self, to: &str) -> Result<usize, Fault> {
        match self.known.get(to) {
            Some(Some(weight)) => return Ok(*weight),
            Some(None) => {
                let detail = format!("`{to}` leads back to itself; recursive schemas are not supported");
                return Err(Fault::new("", "schema_unsupported", detail));
            }
            None => {}
        }
        let target = self
            .root
            .pointer(&to[1..])
            .ok_or_else(|| Fault::new("", "schema_invalid", format!("`{to}` refers to nothing in the schema")))?;
        self.known.insert(to.to_owned(), None);
        let weight = self.of(target)?;
        self.known.insert(to.to_owned(), Some(weight));
        Ok(weight)
    }

    fn of(&mut self, value: &'a Value) -> Result<usize, Fault> {
        let mut weight = 1_usize;
        match value {
            Value::Object(map) => {
                for (key, inner) in map {
                    weight = weight.saturating_add(match (key.as_str(), inner) {
                        ("$ref", Value::String(to)) => self.of_ref(to)?,
                        ("$defs" | "definitions", _) => 0, // counts where it is referred to
                        _ => self.of(inner)?,
                    });
                }
            }
            Value::Array(items) => {
                for inner in items {
                    weight = weight.saturating_add(self.of(inner)?);
                }
            }
            _ => {}
        }
        Ok(weight)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn faults(schema: &Value) -> Vec<(String, String)> {
        let faults = EventSchema::compile(&schema.to_string()).err().unwrap_or_default();
        faults.into_iter().map(|f| (f.pointer, f.code.into_owned())).collect()
    }

    fn refused(schema: &Value) -> bool {
        !faults(schema).is_empty()
    }

    #[test]
    fn a_payload_is_compared_with_its_schema_and_every_fault_has_a_pointer() {
        let schema = json!({
            "type": "object", "required": ["id", "lines"], "additionalProperties": false,
            "properties": {
                "id": {"type": "string", "format": "uuid"},
                "lines": {"type": "array", "items": {"$ref": "#/$defs/line"}},
                "note": {"type": "string", "pattern": "^[a-z]+$"},
            },
            "$defs": {"line": {"type": "object", "properties": {"amount": {"type": "number"}}}},
        });
        let schema = EventSchema::compile(&schema.to_string()).unwrap();
        let fits = r#"{"id":"0190163d-8694-739b-aea5-966c26f8ad91","lines":[{"amount":1.5}]}"#;
        assert_eq!(schema.faults(fits, "/payload").unwrap(), []);
        let secret = r#"{"id":"hunter2","lines":[{},{"amount":"x"}],"note":"A","more":1}"#;
        let faults = schema.faults(secret, "/payload").unwrap();
        let mut pointers: Vec<_> = faults.iter().map(|f| f.pointer.as_str()).collect();
        pointers.sort_unstable();
        assert_eq!(pointers, ["/payload", "/payload/id", "/payload/lines/1/amount", "/payload/note"]);
        assert!(faults.iter().all(|f| !f.detail.contains("hunter2")), "{faults:?}");
    }

    #[test]
    fn what_is_no_schema_is_refused_where_it_is_wrong() {
        assert_eq!(faults(&json!({"type": "strnig"}))[0].0, "/type");
        assert_eq!(faults(&json!({"properties": {"a": {"minimum": "x"}}}))[0].0, "/properties/a/minimum");
        assert_eq!(faults(&json!({"$schema": "http://json-schema.org/draft-03/schema#"}))[0].0, "/$schema");
        assert!(refused(&json!({"pattern": "("})));
        assert!(refused(&json!([])) && refused(&json!(true)) && refused(&json!("x")));
        assert!(EventSchema::compile("{").is_err());
        assert!(EventSchema::compile(&format!("{{\"$comment\":\"{}\"}}", "x".repeat(70_000))).is_err());
    }

    #[test]
    fn a_schema_stays_within_itself() {
        for to in ["https://example.com/s.json", "file:///etc/passwd", "other.json", "#anchor", "#/$defs/absent"] {
            assert!(refused(&json!({"$ref": to})), "{to}");
        }
        assert!(refused(&json!({"$defs": {"a": {"$id": "https://example.com/", "$ref": "#/b"}}, "$ref": "#/$defs/a"})));
        assert!(refused(&json!({"$dynamicRef": "#"})));
        assert!(!refused(
            &json!({"$id": "https://example.com/order.json", "properties": {"$ref": {"type": "string"}}})
        ));
    }

    #[test]
    fn a_schema_that_goes_in_circles_is_refused() {
        assert!(refused(&json!({"$ref": "#"})));
        assert!(refused(&json!({"properties": {"child": {"$ref": "#"}}})));
        let pair =
            json!({"$ref": "#/$defs/a", "$defs": {"a": {"not": {"$ref": "#/$defs/b"}}, "b": {"$ref": "#/$defs/a"}}});
        assert!(refused(&pair));
    }

    #[test]
    fn a_schema_that_doubles_with_every_reference_is_refused() {
        let mut defs = serde_json::Map::from_iter([("d0".to_owned(), json!({"type": "string"}))]);
        for n in 1..40 {
            let half = json!({"$ref": format!("#/$defs/d{}", n - 1)});
            defs.insert(format!("d{n}"), json!({"allOf": [half, half]}));
        }
        assert!(refused(&json!({"$defs": defs, "$ref": "#/$defs/d39"})));
        assert!(!refused(&json!({"$defs": defs, "$ref": "#/$defs/d3"})));
    }

    #[test]
    fn a_pattern_that_backtracks_is_refused_or_matched_in_linear_time() {
        assert!(refused(&json!({"pattern": "(?=a)b"})), "look-ahead needs backtracking");
        let schema = EventSchema::compile(r#"{"pattern":"^(a+)+$"}"#).unwrap();
        let started = std::time::Instant::now();
        let payload = format!("\"{}!\"", "a".repeat(100_000));
        assert_eq!(schema.faults(&payload, "").unwrap().len(), 1);
        assert!(started.elapsed() < std::time::Duration::from_secs(2));
    }
}
