//! Tokens that stop at once, here and in the other processes.

use std::sync::Arc;

use millwork_shared::auth::revocation::{self, News, Revoked};
use millwork_shared::infra::redis::Redis;
use millwork_shared::infra::tasks;
use tokio::task::JoinSet;

use super::cache::TokenCache;
use crate::App;
use crate::http::{Caller, Credential};

/// Forgets what this process knows of `revoked`, and has the others do so. Call it after the commit.
pub async fn announce(app: &App, revoked: &[Revoked]) {
    app.tokens.forget(|caller| concerns(revoked, caller));
    revocation::announce(&app.redis, revoked).await;
}

/// Hears what other processes revoke, until the set is dropped.
pub fn listen(redis: &Redis, tokens: &Arc<TokenCache>) -> JoinSet<()> {
    let (mut task, tokens) = (JoinSet::new(), tokens.clone());
    tasks::join(
        &mut task,
        revocation::listen(redis.clone(), move |news| match news {
            News::Revoked(revoked) => tokens.forget(|caller| concerns(&revoked, caller)),
            News::Gap => tokens.forget(|_| true),
        }),
    );
    task
}

fn concerns(revoked: &[Revoked], caller: &Caller) -> bool {
    revoked.iter().any(|revoked| match *revoked {
        Revoked::Session(id) => caller.credential == Credential::Session(id),
        Revoked::ApiKey(id) => caller.credential == Credential::ApiKey(id),
        Revoked::Member(tenant, user) => caller.tenant == tenant && caller.user == user,
        Revoked::User(user) => caller.user == user,
        Revoked::Tenant(tenant) => caller.tenant == tenant,
    })
}
