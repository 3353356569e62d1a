//! The SDK, set up once.

use std::sync::OnceLock;
use std::time::Duration;

use anyhow::Context as _;
use opentelemetry::KeyValue;
use opentelemetry::trace::TracerProvider as _;
use opentelemetry_otlp::{Protocol, SpanExporter, WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{SdkTracer, SdkTracerProvider};

use super::Settings;
use super::collector::{Collector, DEADLINE};

/// What begins spans; set where traces are on.
pub(super) static TRACER: OnceLock<SdkTracer> = OnceLock::new();

/// Sends finished spans in batches, from a thread of its own with a bounded queue.
#[derive(Debug)]
pub struct Exporter(SdkTracerProvider);

impl Exporter {
    /// Sends what is left and ends. Blocks; whether all was sent.
    pub(in crate::infra::telemetry) fn shut_down(self, limit: Duration) -> bool {
        self.0.shutdown_with_timeout(limit).is_ok()
    }
}

/// Turns traces on.
pub(in crate::infra::telemetry) fn start(settings: Settings) -> anyhow::Result<Exporter> {
    let exporter = SpanExporter::builder()
        .with_http()
        .with_http_client(Collector::new()?)
        .with_protocol(Protocol::HttpBinary)
        .with_endpoint(settings.endpoint)
        .with_headers(settings.headers.expose().clone())
        .with_timeout(DEADLINE)
        .build()
        .context("the exporter of traces cannot be made")?;
    let resource = Resource::builder()
        .with_service_name(settings.service)
        .with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")))
        .build();
    let provider = SdkTracerProvider::builder()
        .with_batch_exporter(exporter)
        .with_sampler(settings.sampler)
        .with_resource(resource)
        .build();
    let _ = TRACER.set(provider.tracer("millwork")); // the first call wins
    Ok(Exporter(provider))
}
