//! For answers that go on after their caller was checked: streams.

use std::sync::Arc;
use std::time::{Duration, Instant};

use millwork_shared::auth::queries::{api_keys, sessions};
use millwork_shared::infra::db::Db;
use millwork_shared::tenants::{Permission, queries as tenants};

use super::cache::{TTL, TokenCache};
use crate::App;
use crate::http::{Caller, Credential};

/// Nobody else ends a look that the database does not answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// A permission that a caller held, and may lose.
pub struct Held {
    db: Db,
    tokens: Arc<TokenCache>,
    caller: Caller,
    permission: Permission,
    /// When it was last looked at, and what had been revoked by then.
    seen: Option<(Instant, u64)>,
}

impl Held {
    pub fn new(app: &App, caller: &Caller, permission: Permission) -> Self {
        Self { db: app.db.clone(), tokens: app.tokens.clone(), caller: caller.clone(), permission, seen: None }
    }

    /// Whether the caller still holds it. The database is asked when something was revoked since the last time, and after
    /// seconds, for news may get lost. A token that has expired meanwhile does not matter while its session goes on.
    pub async fn still(&mut self) -> millwork_shared::Result<bool> {
        let generation = self.tokens.generation();
        let fresh = |(at, known): (Instant, u64)| known == generation && at.elapsed() < TTL;
        if self.seen.is_some_and(fresh) {
            return Ok(true);
        }
        let now = Instant::now();
        let still = tokio::time::timeout(PATIENCE, self.look()).await;
        let still = still.map_err(|_| millwork_shared::Error::Unavailable {
            dependency: "database",
            cause: format!("no answer within {PATIENCE:?}"),
        })??;
        self.seen = Some((now, generation));
        Ok(still)
    }

    async fn look(&self) -> millwork_shared::Result<bool> {
        let mut tx = self.db.identity().await?;
        let held = match self.caller.credential {
            Credential::Session(id) => {
                let session = sessions::Session { id, tenant: self.caller.tenant, user: self.caller.user };
                sessions::find_standing(&mut tx, session).await?.map(|standing| standing.permissions())
            }
            Credential::ApiKey(id) => api_keys::find_live_by_id(&mut tx, id).await?.map(|key| key.held()),
        };
        let is_suspended = tenants::is_suspended(&mut tx, self.caller.tenant).await?;
        tx.commit().await?;
        Ok(!is_suspended && held.is_some_and(|held| held.contains(self.permission)))
    }
}
