//! `rate_limit_per_s`: how fast an endpoint wants its deliveries, whichever workers send them.

use std::time::Duration;

use millwork_shared::Result;
use millwork_shared::infra::ids::WebhookId;
use millwork_shared::infra::redis::{Redis, Script};
use millwork_shared::jobs::{Queue, retry};

/// The pace of every endpoint that has a limit, kept in Redis: a small hash each, gone a minute after its last use. On a
/// cluster they are on the node of the queue of webhooks: where that is gone, no delivery comes to ask.
#[derive(Clone)]
pub struct Pace {
    redis: Redis,
    script: std::sync::Arc<Script>,
}

impl Pace {
    pub fn new(redis: Redis) -> Self {
        Self { redis, script: std::sync::Arc::new(Script::new(include_str!("pace.lua"))) }
    }

    /// How long a delivery must wait; None to send it now. `new` unless it waited for its turn before.
    ///
    /// Nothing waits here: the job is put off, at no cost of an attempt. While Redis does not answer, everything is put
    /// off for a moment; no new work reaches a worker then anyway.
    pub async fn wait(&self, webhook: WebhookId, per_s: i32, new: bool) -> Option<Duration> {
        match self.ask(webhook, per_s, new).await {
            Ok(0) => None,
            // What comes back too early is spread over the second it waits for.
            Ok(ms) if !new => Some(Duration::from_millis(ms) + Duration::from_secs(1).mul_f64(retry::random())),
            Ok(ms) => Some(Duration::from_millis(ms)),
            Err(error) => {
                tracing::debug!(%error, webhook.id = %webhook, "the pace of a webhook is not known");
                Some(Duration::from_secs(1).mul_f64(1.0 + retry::random()))
            }
        }
    }

    async fn ask(&self, webhook: WebhookId, per_s: i32, new: bool) -> Result<u64> {
        let key = format!("mw:{{{}}}:pace:{webhook}", Queue::Webhooks);
        self.script.call(&[key]).arg(per_s.max(1)).arg(i32::from(new)).run(&self.redis).await
    }
}

impl std::fmt::Debug for Pace {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Pace")
    }
}
