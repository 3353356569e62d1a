//! The kind `webhook.deliver`.

use std::sync::Arc;
use std::time::Duration;

use http::Method;
use millwork_shared::Result;
use millwork_shared::jobs::{Job, JobError, Outcome, retry};
use millwork_shared::webhooks::jobs::DeliverWebhook;
use millwork_shared::webhooks::queries::{self, OutgoingKey};
use millwork_shared::webhooks::{AttemptDetail, TEST_EVENT_TYPE};
use tokio::time::Instant;

use super::verdict::{Verdict, detail};
use super::{Deliveries, message};
use crate::context::Context;
use crate::egress::{Call, FailureClass};
use crate::runtime::Run;

const CIRCUIT_OPEN: &str = "circuit_open";
/// A delivery that became due later than this after its creation was put off before.
const SOON: Duration = Duration::from_millis(900);

/// Sends the event once.
///
/// Safe to run twice: every attempt carries the event's id as `webhook-id`, by which a receiver knows what it has had.
/// Nothing but the outcome is written, except that a 410 disables the endpoint.
pub async fn deliver(job: DeliverWebhook, run: Arc<Run>, ctx: Arc<Context>) -> Result<Outcome> {
    let key = OutgoingKey { tenant: run.tenant, event: job.event, webhook: job.webhook };
    let outgoing = ctx.deliveries.loader.load(key).await?;
    let Some(url) = outgoing.url else {
        return fail("webhook_deleted", "the endpoint was deleted");
    };
    if outgoing.disabled {
        return fail("webhook_disabled", "the endpoint is disabled");
    }
    let (Some(event_type), Some(payload), Some(created_at)) =
        (outgoing.event_type, outgoing.payload, outgoing.created_at)
    else {
        return fail("event_gone", "the event's retention is over");
    };

    // A delivery that is retried by hand is given as many attempts again, and begins the schedule anew.
    let before = (run.max_attempts - DeliverWebhook::MAX_ATTEMPTS).max(0);
    let (attempt, now) = ((run.attempt - before).max(1), ctx.clock.now());
    let Deliveries { settings, pace, circuits, .. } = &ctx.deliveries;
    let is_last = settings.schedule.wait(attempt, 0.0).is_none();
    let is_asked_for = event_type == TEST_EVENT_TYPE || (before > 0 && attempt == 1);
    // The last attempt is made whatever happened before, and so is one that somebody waits for.
    if !is_last && !is_asked_for {
        if !circuits.lets_through(job.webhook, now) {
            return Ok(silent(&run).outcome(&settings.schedule, attempt, retry::random()));
        }
        if let Some(per_s) = outgoing.rate_limit_per_s {
            let new = run.attempt == 1 && run.put_off_for(now) < SOON;
            if let Some(wait) = pace.wait(job.webhook, per_s, new).await {
                return Ok(Outcome::Snooze(wait));
            }
        }
    }

    let body = message::body(&event_type, created_at, &payload);
    let id = job.event.to_string();
    let headers = message::headers(&ctx.keys, job.webhook, &outgoing.sender, &id, ctx.clock.now(), &body)?;
    let deadline = run.network_deadline().min(Instant::now() + settings.timeout);
    let traceparent = run.cause.traceparent.clone();
    let exchange = ctx.egress.call(Call { method: Method::POST, url, headers, body, traceparent, deadline }).await;
    run.attempt_detail(&detail(&exchange));
    let timed_out = exchange.outcome.as_ref().is_err_and(|failure| failure.class == FailureClass::Timeout);
    circuits.note(job.webhook, timed_out, ctx.clock.now());
    let verdict = Verdict::of(&exchange.outcome, ctx.clock.now());
    if let Verdict::Gone(error) = &verdict {
        let mut tx = ctx.db.tenant(run.tenant).await?;
        queries::disable(&mut tx, job.webhook, &error.message).await?;
        tx.commit().await?;
    }
    Ok(verdict.outcome(&settings.schedule, attempt, retry::random()))
}

/// The verdict on an attempt that was not made, because the receiver did not answer the ones before.
fn silent(run: &Run) -> Verdict {
    let error = JobError::new(CIRCUIT_OPEN, "the receiver let us wait in vain lately and is left alone for a moment");
    run.attempt_detail(&AttemptDetail { error_class: Some(CIRCUIT_OPEN.to_owned()), ..AttemptDetail::default() });
    Verdict::Refused { error, ask: None, strained: false }
}

fn fail(code: &str, message: &str) -> Result<Outcome> {
    Ok(Outcome::Fail(JobError::new(code, message)))
}
