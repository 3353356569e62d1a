//! The kind `webhook.deliver`.

use std::sync::Arc;
use std::time::Duration;

use http::Method;
use millwork_shared::Result;
use millwork_shared::jobs::{Job, JobError, Outcome, retry};
use millwork_shared::webhooks::jobs::DeliverWebhook;
use millwork_shared::webhooks::queries::{self, OutgoingKey};
use tokio::time::Instant;

use super::message;
use super::verdict::{Verdict, detail};
use crate::context::Context;
use crate::egress::Call;
use crate::runtime::Run;

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

    if let Some(per_s) = outgoing.rate_limit_per_s {
        let new = run.attempt == 1 && run.put_off_for(ctx.clock.now()) < SOON;
        if let Some(wait) = ctx.deliveries.pace.wait(job.webhook, per_s, new).await {
            return Ok(Outcome::Snooze(wait));
        }
    }

    let body = message::body(&event_type, created_at, &payload);
    let id = job.event.to_string();
    let headers = message::headers(&ctx.keys, job.webhook, &outgoing.sender, &id, ctx.clock.now(), &body, &run.cause)?;
    let deadline = run.network_deadline().min(Instant::now() + ctx.deliveries.settings.timeout);
    let exchange = ctx.egress.call(Call { method: Method::POST, url, headers, body, deadline }).await;
    run.attempt_detail(&detail(&exchange));

    let verdict = Verdict::of(&exchange.outcome, ctx.clock.now());
    if let Verdict::Gone(error) = &verdict {
        let mut tx = ctx.db.tenant(run.tenant).await?;
        queries::disable(&mut tx, job.webhook, &error.message).await?;
        tx.commit().await?;
    }
    // A delivery that is retried by hand is given as many attempts again, and begins the schedule anew.
    let before = (run.max_attempts - DeliverWebhook::MAX_ATTEMPTS).max(0);
    Ok(verdict.outcome(&ctx.deliveries.settings.schedule, run.attempt - before, retry::random()))
}

fn fail(code: &str, message: &str) -> Result<Outcome> {
    Ok(Outcome::Fail(JobError::new(code, message)))
}
