//! One mail for one run of a job.

use std::time::Duration;

use chrono::{DateTime, Utc};
use millwork_shared::Result;
use millwork_shared::email::{Mailbox, Template};
use millwork_shared::infra::telemetry::traces::{self, SpanKind};
use millwork_shared::jobs::{JobError, Outcome};
use serde_json::value::to_raw_value;
use serde_json::{Map, Value, json};
use tokio::time::Instant;

use super::compose::{Words, compose};
use super::folder::Folder;
use super::reach::{Goal, Reach};
use super::smtp::{End, Report, Servers};
use super::templates::{Locale, Templates};
use crate::runtime::Run;

/// Longest time one mail may take, whatever the servers do.
const DEADLINE: Duration = Duration::from_secs(30);
/// How long a mail waits that has used up its attempts on servers that were down.
const LAST_RESORT_WAIT: Duration = Duration::from_secs(15 * 60);

/// Sends mail; cheap to share, costly to make.
pub struct Mailer {
    transport: Transport,
    from: Mailbox,
    templates: Templates,
    deadline: Duration,
}

pub enum Transport {
    Servers(Servers),
    Folder(Folder),
}

impl Mailer {
    pub fn new(transport: Transport, from: Mailbox, templates: Templates) -> Self {
        Self { transport, from, templates, deadline: DEADLINE }
    }

    /// Bounds one mail's time differently.
    pub fn with_deadline(self, deadline: Duration) -> Self {
        Self { deadline, ..self }
    }

    /// Where it sends mail to, to see whether anybody is there.
    pub fn reach(&self) -> Reach {
        Reach::new(match &self.transport {
            Transport::Servers(servers) => Goal::Servers(servers.addresses()),
            Transport::Folder(folder) => Goal::Folder(folder.path().to_owned()),
        })
    }

    /// The words of a template, in the language of the BCP 47 tag `locale` if we speak it.
    pub fn render(&self, template: Template, locale: Option<&str>, variables: &Map<String, Value>) -> Result<Words> {
        Ok(self.templates.render(template, Locale::of(locale), variables)?)
    }

    /// Sends `words` in the name of `run` and says what this means for the job.
    ///
    /// Every run of a job sends under the same Message-ID. A mail is never given up because no server was in order: with
    /// its attempts used up it waits for better times.
    pub async fn send(&self, run: &Run, to: &Mailbox, words: &Words, at: DateTime<Utc>) -> Result<Outcome> {
        let mail = compose(run.job, &self.from, to, words, at)?;
        let done = || Ok(Outcome::Done(Some(to_raw_value(&json!({ "message_id": mail.message_id }))?)));
        let servers = match &self.transport {
            Transport::Servers(servers) => servers,
            Transport::Folder(folder) => {
                return match folder.store(&mail).await {
                    Ok(()) => done(),
                    Err(e) => {
                        let error = JobError::new("mail_folder", format!("{}: {e}", folder.path().display()));
                        Ok(Outcome::Retry { error, after: None })
                    }
                };
            }
        };
        let deadline = run.network_deadline().min(Instant::now() + self.deadline);
        let trace = traces::begin(SpanKind::Client, "mail.send", run.cause.traceparent.as_deref());
        let report = servers.deliver(&mail, deadline).await;
        if let Some(span) = trace {
            note(span, &report);
        }
        run.attempt_detail(&json!({ "message_id": mail.message_id, "tried": report.tried }));
        match report.end {
            End::Taken => done(),
            End::Refused(error) => Ok(Outcome::Fail(error)),
            End::Later { no_chance: true, .. } if run.attempt >= run.max_attempts => {
                Ok(Outcome::Snooze(LAST_RESORT_WAIT))
            }
            End::Later { error, .. } => Ok(Outcome::Retry { error, after: None }),
        }
    }
}

/// Says in the trace what the servers said.
fn note(mut span: traces::Span, report: &Report) {
    if let Some(last) = report.tried.last() {
        let (host, port) = last.server.rsplit_once(':').unwrap_or((&last.server, ""));
        span.note("server.address", host.to_owned());
        span.note("server.port", port.parse::<i64>().unwrap_or_default());
        span.note("smtp.response.status_code", i64::from(last.code.unwrap_or_default()));
    }
    match &report.end {
        End::Taken => {}
        End::Refused(error) | End::Later { error, .. } => span.fail(&error.code),
    }
}
