//! What no schema can say of an endpoint.

use std::collections::BTreeMap;

use super::OWN_HEADERS;
use crate::Fault;
use crate::egress::{AllowedNets, Target, headers_faults};
use crate::events::is_pattern;

const METADATA_MAX_BYTES: usize = 4 * 1024;

/// Collects the faults of an endpoint's fields.
#[derive(Debug, Default)]
pub struct Faults(Vec<Fault>);

impl Faults {
    pub fn url(&mut self, url: &str, nets: &AllowedNets) {
        if let Err(fault) = Target::parse(url, nets) {
            self.0.push(Fault::new("/url", fault.code, fault.detail));
        }
    }

    pub fn event_types(&mut self, patterns: &[String]) {
        for (n, pattern) in patterns.iter().enumerate().filter(|(_, pattern)| !is_pattern(pattern)) {
            let shown: String = pattern.chars().take(64).collect();
            let detail = format!("`{shown}` is neither a type such as order.created nor order.* nor *");
            self.0.push(Fault::new(format!("/event_types/{n}"), "event_type_invalid", detail));
        }
    }

    pub fn headers(&mut self, headers: &BTreeMap<String, String>) {
        let pairs = headers.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        for (name, detail) in headers_faults(pairs) {
            self.0.push(Fault::new(pointer(name), "header_invalid", detail));
        }
        for name in headers.keys().filter(|name| OWN_HEADERS.iter().any(|own| name.eq_ignore_ascii_case(own))) {
            let detail = format!("the header {} is set by Millwork", name.to_ascii_lowercase());
            self.0.push(Fault::new(pointer(Some(name)), "header_invalid", detail));
        }
    }

    pub fn metadata(&mut self, metadata: &str) {
        if !metadata.starts_with('{') {
            self.0.push(Fault::new("/metadata", "type", "must be an object"));
        }
        if metadata.len() > METADATA_MAX_BYTES {
            let detail = format!("must have at most {METADATA_MAX_BYTES} bytes");
            self.0.push(Fault::new("/metadata", "too_large", detail));
        }
    }

    /// # Errors
    /// Every fault, if there is any.
    pub fn finish(self) -> Result<(), Vec<Fault>> {
        if self.0.is_empty() { Ok(()) } else { Err(self.0) }
    }
}

fn pointer(header: Option<&str>) -> String {
    match header {
        Some(name) => format!("/headers/{}", name.replace('~', "~0").replace('/', "~1")),
        None => "/headers".to_owned(),
    }
}
