//! The OpenAPI document: what poem-openapi generates, completed by what holds for every operation.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use super::{idempotency, if_match, page, permitted, personal, schema};

/// [`finish`] over text.
pub fn text(generated: &str) -> String {
    match serde_json::from_str(generated) {
        Ok(document) => format!("{:#}", finish(document)),
        Err(_) => generated.to_owned(),
    }
}

/// Completes a generated document. What it adds is what the plumbing does: problem responses, headers, paging.
pub fn finish(mut document: Value) -> Value {
    let asked = request_schemas(&document);
    if let Some(Value::Object(schemas)) = document.pointer_mut("/components/schemas") {
        for (name, schema) in schemas.iter_mut() {
            schema::complete(schema, asked.contains(name));
        }
        schemas.insert("Problem".to_owned(), problem_schema());
    }
    for (path, operations) in object(document.get_mut("paths")) {
        for (method, operation) in object(Some(operations)) {
            parameters(operation);
            problems(path, method, operation);
            problems_of_its_own(operation);
            headers(operation);
        }
    }
    if let Some(Value::Object(components)) = document.get_mut("components") {
        components.insert("headers".to_owned(), components_headers());
    }
    document
}

/// How those operations can fail that find out who is calling, which does not follow from their shape.
fn problems_of_its_own(operation: &mut Value) {
    let token = [("404", "There is no such token"), ("410", "It was used, or has expired")];
    let own = match operation["operationId"].as_str().unwrap_or_default() {
        "auth.register" => vec![("403", "Registration is closed")],
        "auth.login" => vec![
            ("401", "Address or password are wrong, or a code is asked for (`otp_required`)"),
            ("403", "The account does not belong to the tenant"),
        ],
        "auth.refresh" => vec![("401", "The token is unknown or was used, or its session has ended")],
        "auth.oauth_callback" => vec![
            ("401", "The provider's answer is not for this sign-in, or a code is asked for (`otp_required`)"),
            ("403", "The provider or this service does not let the person in"),
            ("409", "The account of this address is not proven to be the person's"),
            ("414", "The address is too long"),
        ],
        "auth.oauth_exchange" => vec![
            ("401", "The code was used, has expired, or is not the caller's; or a code is asked for (`otp_required`)"),
            ("403", "The account does not belong to the tenant"),
        ],
        "objects.get" | "objects.put" => vec![("403", "The tenant is suspended")],
        "admin.enrol" | "admin.activate" => vec![("401", "The token is unknown or was used, or the code is wrong")],
        "admin.login" => vec![("401", "Address, password or code are wrong")],
        "auth.reset_password" | "auth.verify_email" | "invitations.accept" => token.to_vec(),
        _ => return,
    };
    let Some(Value::Object(responses)) = operation.get_mut("responses") else { return };
    for (status, description) in own {
        responses.entry(status).or_insert_with(|| problem(description));
    }
}

/// Names on every response the headers that it has.
fn headers(operation: &mut Value) {
    let secured = operation.get("security").is_some();
    for (status, response) in object(operation.get_mut("responses")) {
        let limited = secured && status != "401"; // who is not known has no limits that could be told
        let limits = if limited { &RATE_LIMIT_HEADERS[..] } else { &[] };
        let waits = matches!(status.as_str(), "429" | "503");
        let names = limits.iter().chain(waits.then_some(&"Retry-After")).chain(&["X-Request-Id"]);
        let Some(response) = response.as_object_mut() else { continue };
        let headers = response.entry("headers").or_insert_with(|| json!({}));
        for name in names {
            headers[*name] = json!({ "$ref": format!("#/components/headers/{name}") });
        }
    }
}

const RATE_LIMIT_HEADERS: [&str; 5] =
    ["RateLimit", "RateLimit-Policy", "X-RateLimit-Limit", "X-RateLimit-Remaining", "X-RateLimit-Reset"];

fn components_headers() -> Value {
    let header = |description: &str, schema: Value, example: Value| json!({ "description": description, "schema": schema, "example": example });
    let text = |description: &str, example: &str| header(description, json!({ "type": "string" }), json!(example));
    let number = |description: &str, example: u64| {
        header(description, json!({ "type": "integer", "minimum": 0 }), json!(example))
    };
    json!({
        "RateLimit": text(
            "What is left: `r` requests for the next `t` seconds, of the tenant and of the caller. The form is that of \
             draft-ietf-httpapi-ratelimit-headers",
            "\"tenant\";r=5990;t=42, \"user\";r=599;t=42",
        ),
        "RateLimit-Policy": text(
            "The limits: `q` requests in a window of `w` seconds",
            "\"tenant\";q=6000;w=60, \"user\";q=600;w=60",
        ),
        "X-RateLimit-Limit": number("The limit of the scarcer of the two", 600),
        "X-RateLimit-Remaining": number("What is left of it", 599),
        "X-RateLimit-Reset": number("Seconds until the window ends", 42),
        "Retry-After": number("Seconds to wait before the same request may succeed", 3),
        "X-Request-Id": text("The request's own, or one made for it", "0190d7ee-5b1c-7c7e-9c57-1f0e6a8c1d55"),
    })
}

fn object(value: Option<&mut Value>) -> impl Iterator<Item = (&String, &mut Value)> {
    value.and_then(Value::as_object_mut).into_iter().flatten()
}

/// The names of the schemas that requests are checked against.
fn request_schemas(document: &Value) -> BTreeSet<String> {
    let mut open: Vec<&Value> = Vec::new();
    for operations in document["paths"].as_object().into_iter().flat_map(Map::values) {
        open.extend(operations.as_object().into_iter().flat_map(Map::values).map(|op| &op["requestBody"]));
    }
    let mut names = BTreeSet::new();
    while let Some(value) = open.pop() {
        match value {
            Value::Array(items) => open.extend(items),
            Value::Object(map) => open.extend(map.values()),
            Value::String(text) => {
                if let Some(name) = text.strip_prefix("#/components/schemas/")
                    && names.insert(name.to_owned())
                {
                    open.push(&document["components"]["schemas"][name]);
                }
            }
            _ => {}
        }
    }
    names
}

/// Puts the real parameters where an extractor left its marker.
fn parameters(operation: &mut Value) {
    let Some(Value::Array(parameters)) = operation.get_mut("parameters") else { return };
    let generated = std::mem::take(parameters);
    let mut needed = None;
    for parameter in generated {
        match parameter.pointer("/schema/format").and_then(Value::as_str) {
            Some(page::MARKER) => parameters.extend([
                json!({
                    "name": "limit", "in": "query", "required": false, "description": "Rows a page",
                    "schema": { "type": "integer", "minimum": 1, "maximum": 100, "default": 50 },
                }),
                json!({
                    "name": "cursor", "in": "query", "required": false,
                    "description": "`meta.next_cursor` of the page before",
                    "schema": { "type": "string" },
                }),
            ]),
            Some(idempotency::MARKER) => parameters.push(json!({
                "name": "Idempotency-Key", "in": "header", "required": false,
                "description": "The first answer is kept for 24 h and replayed with `Idempotent-Replayed: true`",
                "schema": { "type": "string", "minLength": 1, "maxLength": 255 },
            })),
            Some(personal::MARKER) => parameters.push(json!({
                "name": "Idempotency-Key", "in": "header", "required": false,
                "description": "Read, and not kept: no answer that opens or ends a session is given twice. A repeat is a \
                                request of its own",
                "schema": { "type": "string", "minLength": 1, "maxLength": 255 },
            })),
            Some(if_match::MARKER) => parameters.push(json!({
                "name": "If-Match", "in": "header", "required": false,
                "description": "The version that is to be changed, in quotes: `\"3\"`",
                "schema": { "type": "string" },
            })),
            Some(permitted::MARKER) => needed = Some(parameter),
            _ => parameters.push(parameter),
        }
    }
    if let (Some(marker), Some(operation)) = (needed, operation.as_object_mut()) {
        permission(&marker["schema"], operation);
    }
}

/// Says what an operation needs, for programs and for people.
fn permission(marker: &Value, operation: &mut Map<String, Value>) {
    let (needed, own) = (&marker["description"], &marker["title"]);
    let mut words = format!("Needs the permission `{}`", needed.as_str().unwrap_or_default());
    if let Some(own) = own.as_str() {
        words += &format!(", or `{own}` and to have made it");
        operation.insert("x-permission-of-maker".to_owned(), own.into());
    }
    operation.insert("x-permission".to_owned(), needed.clone());
    let described = operation.get("description").and_then(Value::as_str);
    let description = described.map_or_else(|| format!("{words}."), |text| format!("{text}\n\n{words}."));
    operation.insert("description".to_owned(), description.into());
}

/// Documents how an operation can fail, as far as that follows from its shape.
fn problems(path: &str, method: &str, operation: &mut Value) {
    let has_body = operation.get("requestBody").is_some();
    let secured = operation.get("security").is_some();
    let has_if_match = operation["parameters"].as_array().into_iter().flatten().any(|p| p["name"] == "If-Match");
    let failures = [
        (true, "400", "Malformed: a parameter, a header or the body could not be read"),
        (secured, "401", "Not authenticated"),
        (secured, "403", "Not allowed; the missing permission is named"),
        (path.contains('{'), "404", "Absent, or another tenant's"),
        (method != "get", "409", "The state forbids it, or it exists already"),
        (has_if_match, "412", "`If-Match` names another version"),
        (has_body, "408", "The body did not arrive in time"),
        (has_body, "413", "The body is too large"),
        (has_body, "415", "The body is not `application/json`"),
        (has_body, "422", "The body does not fit; `errors` lists every fault"),
        (true, "429", "Too many requests; see `Retry-After`"),
        (true, "500", "A fault of ours"),
        (true, "503", "A dependency is down; see `Retry-After`"),
    ];
    let Some(Value::Object(responses)) = operation.get_mut("responses") else { return };
    for (_, status, description) in failures.into_iter().filter(|(applies, _, _)| *applies) {
        responses.entry(status).or_insert_with(|| problem(description));
    }
}

fn problem(description: &str) -> Value {
    json!({
        "description": description,
        "content": { "application/problem+json": { "schema": { "$ref": "#/components/schemas/Problem" } } },
    })
}

fn problem_schema() -> Value {
    json!({
        "type": "object",
        "description": "RFC 9457",
        "required": ["type", "title", "status", "code", "detail", "request_id"],
        "properties": {
            "type": { "type": "string", "example": "urn:problem-type:millwork:body_invalid" },
            "title": { "type": "string", "example": "Unprocessable Entity" },
            "status": { "type": "integer", "example": 422 },
            "code": { "type": "string", "description": "Stable, for programs", "example": "body_invalid" },
            "detail": { "type": "string", "description": "For people: what was wrong and what to do" },
            "request_id": { "type": "string" },
            "errors": {
                "type": "array",
                "description": "Everything that is wrong with the body",
                "items": {
                    "type": "object",
                    "required": ["pointer", "code", "detail"],
                    "properties": {
                        "pointer": { "type": "string", "description": "RFC 6901", "example": "/jobs/0/kind" },
                        "code": { "type": "string", "example": "required" },
                        "detail": { "type": "string", "example": "is required" },
                    },
                },
            },
        },
    })
}
