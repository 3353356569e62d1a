//! The kind `http.request`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Value, json};

use crate::egress::{AllowedNets, HEADERS_MAX, Target, URL_MAX_BYTES, headers_faults};
use crate::infra::ids::WebhookId;
use crate::jobs::kinds::Fault;
use crate::jobs::{Job, Queue};

/// Calls a URL.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HttpRequest {
    pub url: String,
    pub method: Method,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, String>,
    /// A string is sent as it is, anything else as JSON.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body: Option<Box<RawValue>>,
    /// Signs the request by Standard Webhooks with the secret of this webhook; `webhook-id` is the job's id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sign: Option<WebhookId>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Method {
    Get,
    Head,
    Post,
    Put,
    Patch,
    Delete,
}

impl Method {
    pub const ALL: [Self; 6] = [Self::Get, Self::Head, Self::Post, Self::Put, Self::Patch, Self::Delete];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Head => "HEAD",
            Self::Post => "POST",
            Self::Put => "PUT",
            Self::Patch => "PATCH",
            Self::Delete => "DELETE",
        }
    }
}

impl Job for HttpRequest {
    const KIND: &'static str = "http.request";
    const QUEUE: Queue = Queue::Webhooks;
}

impl HttpRequest {
    pub fn schema() -> Value {
        json!({
            "type": "object",
            "required": ["url", "method"],
            "additionalProperties": false,
            "properties": {
                "url": { "type": "string", "minLength": 1, "maxLength": URL_MAX_BYTES },
                "method": { "enum": Method::ALL.map(Method::as_str) },
                "headers": {
                    "type": "object",
                    "maxProperties": HEADERS_MAX,
                    "additionalProperties": { "type": "string" },
                },
                "body": {},
                "sign": { "type": "string", "format": "uuid" },
            },
        })
    }

    /// What the schema cannot say: the URL must be callable, and the headers sendable.
    pub fn rules(payload: &Value, nets: &AllowedNets) -> Vec<Fault> {
        let mut faults = Vec::new();
        if let Some(Err(fault)) = payload["url"].as_str().map(|url| Target::parse(url, nets)) {
            faults.push(("/url".to_owned(), fault.detail));
        }
        let headers = payload["headers"].as_object().into_iter().flatten();
        let headers = headers.filter_map(|(name, value)| Some((name.as_str(), value.as_str()?)));
        faults.extend(headers_faults(headers).into_iter().map(|(name, fault)| match name {
            Some(name) => (format!("/headers/{}", name.replace('~', "~0").replace('/', "~1")), fault),
            None => ("/headers".to_owned(), fault),
        }));
        faults
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::jobs::kinds;

    fn pointers(payload: &Value) -> Vec<String> {
        let kind = kinds::find("http.request").unwrap();
        let payload = serde_json::value::to_raw_value(payload).unwrap();
        let mut pointers: Vec<_> =
            kind.faults(&payload, &AllowedNets::default()).into_iter().map(|(pointer, _)| pointer).collect();
        pointers.sort();
        pointers
    }

    #[test]
    fn a_payload_that_fits_is_accepted_and_read() {
        let payload = json!({
            "url": "https://example.com/x", "method": "POST", "headers": {"x-a": "1"}, "body": {"a": [1, 2.50]},
            "sign": "0190163d-8694-739b-aea5-966c26f8ad91",
        });
        assert_eq!(pointers(&payload), Vec::<String>::new());
        let read: HttpRequest = serde_json::from_str(&payload.to_string()).unwrap();
        assert_eq!((read.method, read.body.unwrap().get()), (Method::Post, r#"{"a":[1,2.5]}"#));
        assert_eq!(pointers(&json!({"url": "http://example.com", "method": "GET"})), Vec::<String>::new());
    }

    #[test]
    fn every_fault_has_its_pointer() {
        let payload = json!({
            "url": "http://169.254.169.254/latest/meta-data", "method": "TRACE", "bdoy": 1, "sign": "yes",
            "headers": {"Host": "x", "x/y": "1", "x-ok": "1", "x-n": 5, "webhook-id": "1"},
        });
        assert_eq!(
            pointers(&payload),
            [
                "/bdoy",
                "/headers/Host",
                "/headers/webhook-id",
                "/headers/x-n",
                "/headers/x~1y",
                "/method",
                "/sign",
                "/url"
            ]
        );
        assert_eq!(pointers(&json!({})), ["/method", "/url"]);
        assert_eq!(pointers(&json!("x")), [""]);
        assert_eq!(pointers(&json!({"url": 5, "method": null, "headers": []})), ["/headers", "/method", "/url"]);
    }

    #[test]
    fn what_passes_the_rules_can_be_read() {
        for payload in [
            json!({"url": "http://example.com", "method": "HEAD", "body": null}),
            json!({
                "url": "http://example.com", "method": "PUT", "body": "text", "headers": {}
            }),
        ] {
            assert!(pointers(&payload).is_empty());
            serde_json::from_str::<HttpRequest>(&payload.to_string()).unwrap();
        }
    }
}
