//! News of what was revoked.
//!
//! The truth is in the database, and every process asks it anew about a token after seconds. The news, by Redis, make the
//! processes forget at once what they know of it. News that get lost cost those seconds, nothing else.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::infra::ids::{ApiKeyId, SessionId, TenantId, UserId};
use crate::infra::redis::{Listener, Redis};

const CHANNEL: &str = "millwork.revoked";
/// A publication is small, and what it speaks of is committed already.
const PUBLISH_TIMEOUT: Duration = Duration::from_secs(1);
/// Of one message.
const MOST_AT_ONCE: usize = 500;
/// Without news for so long, the listener asks whether Redis is still there.
const SILENCE: Duration = Duration::from_secs(10);
const RETRY: Duration = Duration::from_secs(1);

/// What no longer proves anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Revoked {
    Session(SessionId),
    ApiKey(ApiKeyId),
    /// All that speaks for a person in one tenant, their API keys included.
    Member(TenantId, UserId),
    /// All that speaks for a person.
    User(UserId),
    /// Nothing, or all, of a tenant: what anyone may do in it, or where they may come from, is another matter now, by its
    /// roles, its rules or a suspension.
    Tenant(TenantId),
}

/// What a listener hears.
#[derive(Debug, PartialEq, Eq)]
pub enum News {
    Revoked(Vec<Revoked>),
    /// Something may have been missed.
    Gap,
}

/// Tells all processes. Call it after the commit.
pub async fn announce(redis: &Redis, revoked: &[Revoked]) {
    for some in revoked.chunks(MOST_AT_ONCE) {
        let Ok(message) = serde_json::to_string(some) else { continue };
        if let Err(error) = redis.publish(CHANNEL, &message, PUBLISH_TIMEOUT).await {
            tracing::warn!(%error, "a revocation could not be announced; other processes notice it within seconds");
        }
    }
}

/// Hears the news for ever.
pub async fn listen(redis: Redis, tell: impl Fn(News) + Send) {
    for turn in 0.. {
        match redis.subscribe(CHANNEL, turn).await {
            Ok(listener) => {
                tell(News::Gap);
                hear(listener, &tell).await;
            }
            Err(error) => tracing::debug!(%error, "no news of revocations"),
        }
        tokio::time::sleep(RETRY).await;
    }
}

/// Returns when the connection is lost.
async fn hear(mut listener: Listener, tell: &impl Fn(News)) {
    while let Some(message) = listener.next(SILENCE).await {
        tell(serde_json::from_str(&message).map_or(News::Gap, News::Revoked));
    }
}
