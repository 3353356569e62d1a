//! OpenTelemetry traces: from a request through the queue to its job and the calls that the job makes.
//!
//! A span follows from what a `traceparent` names, within a process as between processes, so that one string is all that
//! is passed on. While traces are off nothing is begun, at the price of one look at a static.

mod collector;
mod config;
mod provider;

use std::borrow::Cow;

use opentelemetry::trace::{
    Span as _, SpanContext, SpanId, Status, TraceContextExt, TraceFlags, TraceId, TraceState, Tracer,
};
use opentelemetry::{Context, KeyValue, Value};
use opentelemetry_sdk::trace::Span as SdkSpan;

pub use config::{Settings, TraceArgs};
pub use opentelemetry::trace::SpanKind;
pub use provider::Exporter;
use provider::TRACER;
pub(super) use provider::start;

/// Whether this process exports traces.
#[inline]
pub fn are_on() -> bool {
    TRACER.get().is_some()
}

/// A part of a trace that is under way. It ends when it is dropped.
#[derive(Debug)]
pub struct Span(Box<SdkSpan>);

/// Begins a span that follows from `cause`, or a trace of its own. None while traces are off.
pub fn begin(kind: SpanKind, name: impl Into<Cow<'static, str>>, cause: Option<&str>) -> Option<Span> {
    let tracer = TRACER.get()?;
    let is_remote = kind != SpanKind::Client;
    let cause = cause.and_then(|cause| parse(cause, is_remote));
    let parent = cause.map_or_else(Context::new, |cause| Context::new().with_remote_span_context(cause));
    let span = tracer.build_with_context(tracer.span_builder(name).with_kind(kind), &parent);
    Some(Span(Box::new(span)))
}

impl Span {
    /// Its W3C name, for whatever follows from it.
    pub fn traceparent(&self) -> String {
        let named = self.0.span_context();
        let flags = named.trace_flags() & TraceFlags::SAMPLED;
        format!("00-{}-{}-{:02x}", named.trace_id(), named.span_id(), flags.to_u8())
    }

    pub fn rename(&mut self, name: String) {
        self.0.update_name(name);
    }

    /// Notes an attribute. Never personal data, payloads or the path of a URL.
    pub fn note(&mut self, key: &'static str, value: impl Into<Value>) {
        self.0.set_attribute(KeyValue::new(key, value));
    }

    /// Marks it as failed, by a code that programs can tell apart.
    pub fn fail(&mut self, code: &str) {
        self.note("error.type", code.to_owned());
        self.0.set_status(Status::error(""));
    }
}

/// The span that a traceparent names: version 00, or a later one that begins the same way.
fn parse(traceparent: &str, is_remote: bool) -> Option<SpanContext> {
    let mut parts = traceparent.splitn(5, '-').skip(1);
    let mut part = |length| parts.next().filter(|part| part.len() == length);
    let (trace, span, flags) = (part(32)?, part(16)?, part(2)?);
    let (trace, span) = (TraceId::from_hex(trace).ok()?, SpanId::from_hex(span).ok()?);
    let flags = TraceFlags::new(u8::from_str_radix(flags, 16).ok()?) & TraceFlags::SAMPLED;
    let context = SpanContext::new(trace, span, flags, is_remote, TraceState::NONE);
    context.is_valid().then_some(context)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_traceparent_names_a_span_and_whether_it_is_sampled() {
        let good = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        let parse = |text: &str| parse(text, true);
        let context = parse(good).unwrap();
        assert_eq!(context.trace_id().to_string(), "0af7651916cd43dd8448eb211c80319c");
        assert_eq!(context.span_id().to_string(), "b7ad6b7169203331");
        assert!(context.is_sampled() && context.is_remote());
        assert!(parse(&format!("01{}-future", &good[2..])).unwrap().is_sampled());
        assert!(!parse(&good.replace("-01", "-00")).unwrap().is_sampled());
        for bad in ["", "00-a-b-01", "00-00000000000000000000000000000000-b7ad6b7169203331-01", &good[..52]] {
            assert!(parse(bad).is_none(), "{bad}");
        }
    }
}
