//! Reports of faults to Sentry: our own log lines of level `error`, as far as they may leave the house.
//!
//! A report has the constant sentence of the line, where it was logged, and those of its fields and of its spans' that are
//! listed here: ids, codes, names of ours. What else a line says stays in the log, under the same `request.id` or
//! `job.id`. Of an error's words the report has those that are no quotation; of a panic it has the place alone.

mod config;
mod words;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use sentry::Client;
use sentry::protocol::{Event, Level};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id};
use tracing::{Metadata, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;
use tracing_subscriber::registry::LookupSpan;

use self::words::without_quotations;
pub use config::{SentryArgs, Settings};

/// Fields that a report may have, as tags.
const TAGS: [&str; 18] = [
    "request.id",
    "job.id",
    "job.kind",
    "job.attempt",
    "job.status",
    "tenant.id",
    "schedule.id",
    "alert.id",
    "worker.id",
    "queue",
    "http.method",
    "problem.code",
    "error.category",
    "error.code",
    "task.name",
    "name",
    "dependency",
    "panic.location",
];
/// Fields that tell a cause in words.
const CAUSES: [&str; 2] = ["error", "cause"];

/// Reports a process makes in a minute; what is beyond is in the log alone.
const A_MINUTE: u32 = 60;

/// Sends reports in the background, from a thread of its own with a bounded queue.
#[derive(Clone)]
pub struct Reporter(Arc<Client>);

impl std::fmt::Debug for Reporter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Reporter")
    }
}

impl Reporter {
    /// Sends what is left. Blocks, perhaps for longer than `limit`; whether all was sent.
    pub(super) fn flush(&self, limit: Duration) -> bool {
        self.0.flush(Some(limit))
    }
}

/// Makes the layer that reports faults.
pub(super) fn start(settings: Settings, process: &'static str) -> anyhow::Result<(Reports, Reporter)> {
    let client = Arc::new(config::client(settings)?);
    let layer = Reports { client: client.clone(), process, budget: Mutex::new((Instant::now(), 0)) };
    Ok((layer, Reporter(client)))
}

fn is_ours(metadata: &Metadata<'_>) -> bool {
    metadata.target().starts_with("millwork_")
}

/// The layer. It sees what the log's filter lets through.
pub(super) struct Reports {
    client: Arc<Client>,
    process: &'static str,
    /// When the minute that runs began, and its reports.
    budget: Mutex<(Instant, u32)>,
}

impl Reports {
    fn has_budget(&self) -> bool {
        let mut budget = self.budget.lock().unwrap_or_else(PoisonError::into_inner);
        if budget.0.elapsed() >= Duration::from_secs(60) {
            *budget = (Instant::now(), 0);
        }
        budget.1 += 1;
        budget.1 <= A_MINUTE
    }
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Reports {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        if !is_ours(attributes.metadata()) {
            return;
        }
        let mut said = Said::default();
        attributes.record(&mut said);
        if let (false, Some(span)) = (said.tags.is_empty(), context.span(id)) {
            span.extensions_mut().insert(Tags(said.tags));
        }
    }

    fn on_event(&self, event: &tracing::Event<'_>, context: Context<'_, S>) {
        let metadata = event.metadata();
        if *metadata.level() != tracing::Level::ERROR || !is_ours(metadata) || !self.has_budget() {
            return;
        }
        let mut said = Said::default();
        event.record(&mut said);
        let mut tags = BTreeMap::from([("process".to_owned(), self.process.to_owned())]);
        for span in context.event_scope(event).into_iter().flat_map(|scope| scope.from_root()) {
            if let Some(Tags(of_span)) = span.extensions().get() {
                tags.extend(of_span.iter().map(|(name, value)| ((*name).to_owned(), value.clone())));
            }
        }
        tags.extend(said.tags.into_iter().map(|(name, value)| (name.to_owned(), value)));
        let target = metadata.target();
        let kind = ["panic.location", "problem.code", "job.kind"].map(|tag| tags.get(tag).cloned().unwrap_or_default());
        let fingerprint = [target.to_owned(), said.message.clone()].into_iter().chain(kind).map(Into::into);
        self.client.capture_event(
            Event {
                level: Level::Error,
                logger: Some(target.to_owned()),
                message: Some(said.message),
                fingerprint: fingerprint.collect::<Vec<_>>().into(),
                extra: said.causes.into_iter().map(|(name, words)| (name.to_owned(), words.into())).collect(),
                tags,
                ..Event::default()
            },
            None,
        );
    }
}

/// Of a span.
struct Tags(Vec<(&'static str, String)>);

/// What a line or a span says, as far as it may be told.
#[derive(Default)]
struct Said {
    message: String,
    tags: Vec<(&'static str, String)>,
    causes: Vec<(&'static str, String)>,
}

impl Said {
    fn note(&mut self, field: &Field, value: impl FnOnce() -> String) {
        let name = field.name();
        if name == "message" {
            self.message = value();
        } else if TAGS.contains(&name) {
            self.tags.push((name, value()));
        } else if CAUSES.contains(&name) {
            self.causes.push((name, without_quotations(&value())));
        }
    }
}

impl Visit for Said {
    fn record_i64(&mut self, field: &Field, value: i64) {
        self.note(field, || value.to_string());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.note(field, || value.to_string());
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.note(field, || value.to_owned());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        self.note(field, || format!("{value:?}"));
    }
}
