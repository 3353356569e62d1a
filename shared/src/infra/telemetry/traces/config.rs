//! The variables of OpenTelemetry's specification that say whether, where and what to export.

use std::collections::HashMap;

use clap::Args;
use opentelemetry_sdk::trace::Sampler;
use percent_encoding::percent_decode_str;
use url::Url;

use crate::infra::config::{Faults, without_password};
use crate::infra::crypto::Secret;

/// Each is read as the specification says; what is not supported is refused rather than ignored.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Traces")]
pub struct TraceArgs {
    /// Collector of traces, by OTLP over HTTP: http://collector:4318 [default: traces are off]
    #[arg(long, env = "OTEL_EXPORTER_OTLP_ENDPOINT", hide_env_values = true)]
    otel_exporter_otlp_endpoint: Option<String>,
    /// Headers for the collector: name=value, comma separated, values percent-encoded
    #[arg(long, env = "OTEL_EXPORTER_OTLP_HEADERS", hide_env_values = true)]
    otel_exporter_otlp_headers: Option<String>,
    /// http/protobuf, the only one there is
    #[arg(long, env = "OTEL_EXPORTER_OTLP_PROTOCOL")]
    otel_exporter_otlp_protocol: Option<String>,
    /// What the process is called in traces [default: its own name]
    #[arg(long, env = "OTEL_SERVICE_NAME")]
    otel_service_name: Option<String>,
    /// always_on, always_off, traceidratio, or one of these after parentbased_ [default: parentbased_always_on]
    #[arg(long, env = "OTEL_TRACES_SAMPLER")]
    otel_traces_sampler: Option<String>,
    /// For traceidratio: the share of traces that is kept, 0 to 1 [default: 1]
    #[arg(long, env = "OTEL_TRACES_SAMPLER_ARG")]
    otel_traces_sampler_arg: Option<String>,
}

/// Where traces go, and which.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Of traces, `/v1/traces` included.
    pub(super) endpoint: Url,
    pub(super) headers: Secret<HashMap<String, String>>,
    pub(super) service: String,
    pub(super) sampler: Sampler,
}

impl TraceArgs {
    /// None when there is no collector. `process` is the name of this process.
    pub fn read(&self, process: &str, faults: &mut Faults) -> Option<Settings> {
        let endpoint = faults.optional("OTEL_EXPORTER_OTLP_ENDPOINT", &self.otel_exporter_otlp_endpoint, endpoint)?;
        let headers = faults.optional("OTEL_EXPORTER_OTLP_HEADERS", &self.otel_exporter_otlp_headers, headers);
        faults.optional("OTEL_EXPORTER_OTLP_PROTOCOL", &self.otel_exporter_otlp_protocol, protocol);
        let name = |text: &str| Ok::<_, String>(text.to_owned());
        let service = faults.optional("OTEL_SERVICE_NAME", &self.otel_service_name, name);
        let share = faults.optional("OTEL_TRACES_SAMPLER_ARG", &self.otel_traces_sampler_arg, share).unwrap_or(1.0);
        let sampler = faults.optional("OTEL_TRACES_SAMPLER", &self.otel_traces_sampler, |name| sampler(name, share));
        Some(Settings {
            endpoint,
            headers: Secret::new(headers.unwrap_or_default()),
            service: service.unwrap_or_else(|| process.to_owned()),
            sampler: sampler.unwrap_or_else(|| parent_based(Sampler::AlwaysOn)),
        })
    }
}

fn endpoint(text: &str) -> Result<Url, String> {
    let refusal = || format!("`{}` is not a URL such as http://collector:4318", without_password(text));
    let mut url = Url::parse(text).map_err(|_| refusal())?;
    if !matches!(url.scheme(), "http" | "https") || !url.has_host() || url.query().is_some() {
        return Err(refusal());
    }
    let path = format!("{}/v1/traces", url.path().trim_end_matches('/'));
    url.set_path(&path);
    Ok(url)
}

/// The fault does not quote the text, which holds secrets.
fn headers(text: &str) -> Result<HashMap<String, String>, String> {
    let entry = |(n, entry): (usize, &str)| {
        let fault = |what| format!("entry {} {what}", n + 1);
        let (name, value) = entry.split_once('=').ok_or_else(|| fault("is not name=value"))?;
        let value = percent_decode_str(value.trim()).decode_utf8().map_err(|_| fault("is not UTF-8"))?;
        let name = reqwest::header::HeaderName::try_from(name.trim()).map_err(|_| fault("has no header's name"))?;
        reqwest::header::HeaderValue::try_from(&*value).map_err(|_| fault("has no header's value"))?;
        Ok((name.as_str().to_owned(), value.into_owned()))
    };
    text.split(',').enumerate().map(entry).collect()
}

fn protocol(text: &str) -> Result<(), String> {
    match text {
        "http/protobuf" => Ok(()),
        other => Err(format!("`{other}` is not supported; http/protobuf is, usually on port 4318")),
    }
}

fn share(text: &str) -> Result<f64, String> {
    let share = text.parse().ok().filter(|share| (0.0..=1.0).contains(share));
    share.ok_or_else(|| format!("`{text}` is not a number from 0 to 1"))
}

fn sampler(name: &str, share: f64) -> Result<Sampler, String> {
    let (root, by_parent) = match name.strip_prefix("parentbased_") {
        Some(root) => (root, true),
        None => (name, false),
    };
    let root = match root {
        "always_on" => Sampler::AlwaysOn,
        "always_off" => Sampler::AlwaysOff,
        "traceidratio" => Sampler::TraceIdRatioBased(share),
        _ => {
            return Err(format!(
                "`{name}` is none of always_on, always_off, traceidratio, nor parentbased_ and one of these"
            ));
        }
    };
    Ok(if by_parent { parent_based(root) } else { root })
}

fn parent_based(root: Sampler) -> Sampler {
    Sampler::ParentBased(Box::new(root))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(endpoint: &str) -> TraceArgs {
        TraceArgs {
            otel_exporter_otlp_endpoint: Some(endpoint.to_owned()),
            otel_exporter_otlp_headers: None,
            otel_exporter_otlp_protocol: None,
            otel_service_name: None,
            otel_traces_sampler: None,
            otel_traces_sampler_arg: None,
        }
    }

    #[test]
    fn traces_go_below_the_endpoint_and_are_off_without_one() {
        let read = |endpoint: &str| {
            let mut faults = Faults::default();
            let settings = args(endpoint).read("millwork-api", &mut faults);
            faults.finish().map(|()| settings.map(|s| (s.endpoint.to_string(), s.service)))
        };
        let of = |endpoint: &str| read(endpoint).unwrap().unwrap().0;
        assert_eq!(read(" ").unwrap(), None);
        assert_eq!(of("http://collector:4318"), "http://collector:4318/v1/traces");
        assert_eq!(of("https://example.com/otlp/"), "https://example.com/otlp/v1/traces");
        assert_eq!(read("http://x").unwrap().unwrap().1, "millwork-api");
        for bad in ["collector:4318", "grpc://x", "http://x?y=z", "x"] {
            assert!(read(bad).unwrap_err().to_string().contains("OTEL_EXPORTER_OTLP_ENDPOINT"), "{bad}");
        }
    }

    #[test]
    fn every_bad_variable_is_named_and_no_secret_told() {
        let mut faults = Faults::default();
        TraceArgs {
            otel_exporter_otlp_headers: Some("authorization=Bearer%20x,secret".into()),
            otel_exporter_otlp_protocol: Some("grpc".into()),
            otel_traces_sampler: Some("xray".into()),
            otel_traces_sampler_arg: Some("2".into()),
            ..args("http://x")
        }
        .read("millwork-api", &mut faults);
        let text = faults.finish().unwrap_err().to_string();
        for name in ["HEADERS: entry 2 is not", "PROTOCOL: `grpc`", "SAMPLER: `xray`", "SAMPLER_ARG: `2`"] {
            assert!(text.contains(name), "{name} in {text}");
        }
        assert!(!text.contains("secret"), "{text}");
    }

    #[test]
    fn headers_and_samplers_are_those_of_the_specification() {
        let read = headers("authorization=Bearer%20x%3D, X-Scope = a").unwrap();
        assert_eq!(
            read,
            HashMap::from([("authorization", "Bearer x="), ("x-scope", "a")].map(|(n, v)| (n.into(), v.into())))
        );
        for (name, is) in [
            ("always_on", "AlwaysOn"),
            ("parentbased_always_off", "ParentBased(AlwaysOff)"),
            ("parentbased_traceidratio", "ParentBased(TraceIdRatioBased(0.25))"),
        ] {
            assert_eq!(format!("{:?}", sampler(name, 0.25).unwrap()), is);
        }
    }
}
