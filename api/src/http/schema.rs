//! The schemas that poem-openapi documents, made to be enforced.

use std::any::TypeId;
use std::collections::HashMap;
use std::sync::{Arc, LazyLock, RwLock};

use jsonschema::error::ValidationErrorKind;
use jsonschema::{Draft, ValidationError, Validator};
use millwork_shared::email::address::is_mail_address;
use poem_openapi::registry::Registry;
use poem_openapi::types::Type;
use serde_json::{Map, Value, json};

use super::Fault;
use super::error::{ApiError, Result};
use super::types;

/// Most faults told at once.
const MAX_FAULTS: usize = 50;

static VALIDATORS: LazyLock<RwLock<HashMap<TypeId, Arc<Validator>>>> = LazyLock::new(RwLock::default);

/// Everything about `value` that does not fit the documented schema of `T`.
pub fn faults<T: Type + 'static>(value: &Value) -> Result<Vec<Fault>> {
    let mut faults = Vec::new();
    for error in validator::<T>()?.iter_errors(value) {
        explain(&error, &mut faults);
        if faults.len() >= MAX_FAULTS {
            faults.truncate(MAX_FAULTS);
            break;
        }
    }
    Ok(faults)
}

fn validator<T: Type + 'static>() -> Result<Arc<Validator>> {
    let id = TypeId::of::<T>();
    let poisoned = || ApiError::internal(anyhow::anyhow!("a thread panicked while compiling a schema"));
    if let Some(known) = VALIDATORS.read().map_err(|_| poisoned())?.get(&id) {
        return Ok(known.clone());
    }
    let compiled = Arc::new(compile::<T>().map_err(ApiError::internal)?);
    VALIDATORS.write().map_err(|_| poisoned())?.insert(id, compiled.clone());
    Ok(compiled)
}

fn compile<T: Type>() -> anyhow::Result<Validator> {
    let mut registry = Registry::new();
    T::register(&mut registry);
    let mut document = json!({
        "components": { "schemas": serde_json::to_value(&registry.schemas)? },
        "allOf": [serde_json::to_value(T::schema_ref())?],
    });
    enforce(&mut document);
    jsonschema::options()
        .with_draft(Draft::Draft202012)
        .should_validate_formats(true)
        .should_ignore_unknown_formats(true)
        .with_format("line", types::is_line)
        .with_format("email", is_mail_address)
        .build(&document)
        .map_err(|e| anyhow::anyhow!("the schema of {} does not compile: {e}", T::name()))
}

/// Completes schemas by what poem-openapi knows and does not write: an object of known fields has no others, and an
/// optional field may be null. Applied to what is documented as well as to what is enforced.
pub(super) fn complete(schema: &mut Value, closed: bool) {
    let Value::Object(map) = schema else { return };
    for key in ["items", "additionalProperties"] {
        map.get_mut(key).into_iter().for_each(|s| complete(s, closed));
    }
    for key in ["allOf", "anyOf", "oneOf"] {
        map.get_mut(key).and_then(Value::as_array_mut).into_iter().flatten().for_each(|s| complete(s, closed));
    }
    let required: Vec<String> = match map.get("required") {
        Some(Value::Array(names)) => names.iter().filter_map(|n| n.as_str().map(str::to_owned)).collect(),
        _ => Vec::new(),
    };
    let Some(Value::Object(properties)) = map.get_mut("properties") else { return };
    for (name, property) in properties.iter_mut() {
        complete(property, closed);
        if !required.contains(name) {
            make_nullable(property);
        }
    }
    if closed && !map.contains_key("additionalProperties") {
        map.insert("additionalProperties".to_owned(), Value::Bool(false));
    }
}

fn make_nullable(schema: &mut Value) {
    match schema {
        Value::Object(map) if map.contains_key("$ref") => {
            *schema = json!({ "allOf": [schema.take()], "nullable": true });
        }
        Value::Object(map) if !map.is_empty() => {
            map.insert("nullable".to_owned(), Value::Bool(true));
        }
        _ => {} // anything goes, null too
    }
}

/// Turns OpenAPI 3.0 schemas into JSON Schema 2020-12 that says no less.
fn enforce(document: &mut Value) {
    if let Some(Value::Object(schemas)) = document.pointer_mut("/components/schemas") {
        schemas.values_mut().for_each(|s| complete(s, true));
    }
    if let Some(root) = document.pointer_mut("/allOf/0") {
        complete(root, true);
    }
    modernise(document);
}

fn modernise(value: &mut Value) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(modernise),
        Value::Object(map) => {
            for key in ["example", "default", "title", "description"] {
                map.remove(key);
            }
            for (key, inner) in map.iter_mut() {
                match inner {
                    // Keyed by names that clients see: a field may be called `description`.
                    Value::Object(named) if matches!(key.as_str(), "properties" | "schemas") => {
                        named.values_mut().for_each(modernise);
                    }
                    inner => modernise(inner),
                }
            }
            bound_integers(map);
            for (exclusive, bound) in [("exclusiveMinimum", "minimum"), ("exclusiveMaximum", "maximum")] {
                if let Some(Value::Bool(on)) = map.get(exclusive) {
                    let on = *on;
                    map.remove(exclusive);
                    if on && let Some(limit) = map.remove(bound) {
                        map.insert(exclusive.to_owned(), limit);
                    }
                }
            }
            if map.remove("nullable") == Some(Value::Bool(true)) {
                admit_null(map);
            }
        }
        _ => {}
    }
}

fn admit_null(map: &mut Map<String, Value>) {
    match map.get_mut("type") {
        Some(ty @ Value::String(_)) => {
            *ty = json!([ty.take(), "null"]);
            if let Some(Value::Array(allowed)) = map.get_mut("enum") {
                allowed.push(Value::Null);
            }
        }
        _ => {
            let inner = std::mem::take(map);
            map.insert("anyOf".to_owned(), json!([inner, { "type": "null" }]));
        }
    }
}

/// An integer's format is its range.
fn bound_integers(map: &mut Map<String, Value>) {
    let (low, high) = match map.get("format").and_then(Value::as_str) {
        Some("int8") => (json!(i8::MIN), json!(i8::MAX)),
        Some("int16") => (json!(i16::MIN), json!(i16::MAX)),
        Some("int32") => (json!(i32::MIN), json!(i32::MAX)),
        Some("int64") => (json!(i64::MIN), json!(i64::MAX)),
        Some("uint8") => (json!(0), json!(u8::MAX)),
        Some("uint16") => (json!(0), json!(u16::MAX)),
        Some("uint32") => (json!(0), json!(u32::MAX)),
        Some("uint64") => (json!(0), json!(u64::MAX)),
        _ => return,
    };
    if map.get("type").and_then(Value::as_str) == Some("integer") {
        map.entry("minimum").or_insert(low);
        map.entry("maximum").or_insert(high);
    }
}

/// Says what is wrong without repeating the value, which may be a password or a megabyte.
fn explain(error: &ValidationError<'_>, faults: &mut Vec<Fault>) {
    use ValidationErrorKind as Kind;
    let at = error.instance_path().as_str().to_owned();
    let (code, detail) = match error.kind() {
        Kind::Required { property } => {
            let name = property.as_str().unwrap_or_default();
            faults.push(Fault::new(child(&at, name), "required", "is required"));
            return;
        }
        Kind::AdditionalProperties { unexpected } => {
            let unknown =
                |name: &String| Fault::new(child(&at, name), "unknown_field", "is not a field of this object");
            faults.extend(unexpected.iter().take(MAX_FAULTS).map(unknown));
            return;
        }
        Kind::AnyOf { context } | Kind::OneOfNotValid { context } => {
            // The first branch is the schema itself, the second merely admits null.
            context.first().into_iter().flatten().for_each(|inner| explain(inner, faults));
            return;
        }
        Kind::Type { kind } => ("type", format!("must be {}", type_names(kind))),
        Kind::MinLength { limit } => ("too_short", format!("must have at least {limit} characters")),
        Kind::MaxLength { limit } => ("too_long", format!("must have at most {limit} characters")),
        Kind::MinItems { limit } => ("too_few", format!("must have at least {limit} items")),
        Kind::MaxItems { limit } => ("too_many", format!("must have at most {limit} items")),
        Kind::MinProperties { limit } => ("too_few", format!("must have at least {limit} members")),
        Kind::MaxProperties { limit } => ("too_many", format!("must have at most {limit} members")),
        Kind::Minimum { limit } => ("too_small", format!("must be at least {limit}")),
        Kind::Maximum { limit } => ("too_large", format!("must be at most {limit}")),
        Kind::ExclusiveMinimum { limit } => ("too_small", format!("must be greater than {limit}")),
        Kind::ExclusiveMaximum { limit } => ("too_large", format!("must be less than {limit}")),
        Kind::Enum { options } => ("not_allowed", format!("must be one of {options}")),
        Kind::Format { format } => ("format", format_fault(format)),
        Kind::Pattern { pattern } => ("pattern", format!("must match {pattern}")),
        Kind::UniqueItems => ("not_unique", "must not hold an item twice".to_owned()),
        other => ("invalid", format!("does not fit the schema ({})", other.keyword())),
    };
    faults.push(Fault::new(at, code, detail));
}

fn format_fault(format: &str) -> String {
    match format {
        "line" => "must be one line of text that is not blank".to_owned(),
        "email" => "is not a mail address".to_owned(),
        "date-time" => "is not a time such as 2026-01-31T12:00:00Z".to_owned(),
        other => format!("is not a valid {other}"),
    }
}

fn type_names(kind: &jsonschema::error::TypeKind) -> String {
    use jsonschema::error::TypeKind;
    match kind {
        TypeKind::Single(one) => with_article(&one.to_string()),
        TypeKind::Multiple(many) => {
            let names: Vec<_> = many.iter().map(|t| with_article(&t.to_string())).collect();
            names.join(" or ")
        }
    }
}

fn with_article(name: &str) -> String {
    match name {
        "null" => name.to_owned(),
        _ if name.starts_with(['a', 'e', 'i', 'o', 'u']) => format!("an {name}"),
        _ => format!("a {name}"),
    }
}

/// RFC 6901.
fn child(at: &str, name: &str) -> String {
    let name: String = name.chars().take(100).collect();
    format!("{at}/{}", name.replace('~', "~0").replace('/', "~1"))
}

#[cfg(test)]
mod tests {
    use poem_openapi::{Enum, Object};

    use super::*;

    #[derive(Object)]
    struct Order {
        #[oai(validator(min_length = 3, max_length = 5))]
        name: String,
        size: Option<u8>,
        #[oai(validator(minimum(value = "1.5", exclusive)))]
        weight: Option<f64>,
        id: Option<uuid::Uuid>,
        #[oai(validator(max_items = 2))]
        lines: Vec<Line>,
        gift: Option<Line>,
        colour: Option<Colour>,
    }

    #[derive(Object)]
    struct Line {
        text: String,
    }

    #[derive(Enum)]
    #[oai(rename_all = "snake_case")]
    enum Colour {
        Red,
    }

    fn found(value: Value) -> Vec<String> {
        let mut found: Vec<_> =
            faults::<Order>(&value).unwrap().iter().map(|f| format!("{} {}", f.pointer, f.code)).collect();
        found.sort();
        found
    }

    #[test]
    fn every_fault_is_found_at_once_with_its_pointer() {
        let value = json!({
            "name": "secret value", "size": 256, "weight": 1.5, "id": "x", "lines": [{"text": 1}, {}], "more": 1,
            "gift": {"text": "a", "te/xt": 2}, "colour": "blue",
        });
        let expected = [
            "/colour not_allowed",
            "/gift/te~1xt unknown_field",
            "/id format",
            "/lines/0/text type",
            "/lines/1/text required",
            "/more unknown_field",
            "/name too_long",
            "/size too_large",
            "/weight too_small",
        ];
        assert_eq!(found(value), expected);
    }

    #[test]
    fn an_optional_field_may_be_null_and_a_required_one_may_not() {
        let nulls =
            json!({"name": "abc", "size": null, "weight": null, "id": null, "lines": [], "gift": null, "colour": null});
        assert_eq!(found(nulls), [""; 0]);
        assert_eq!(found(json!({"name": null, "lines": []})), ["/name type"]);
        assert_eq!(found(json!([])), [" type"]);
    }

    #[test]
    fn a_fault_does_not_repeat_the_value() {
        let faults = faults::<Order>(&json!({"name": "hunter2hunter2", "lines": []})).unwrap();
        assert!(!faults[0].detail.contains("hunter2"), "{faults:?}");
    }
}
