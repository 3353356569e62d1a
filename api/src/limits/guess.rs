//! One attempt to sign in.

use std::net::IpAddr;

use millwork_shared::audit;
use millwork_shared::auth::jobs::SendLockout;
use millwork_shared::infra::tasks;
use millwork_shared::jobs::{Cause, NewJob, queries as jobs};
use millwork_shared::tenants::queries;
use poem::http::StatusCode;
use serde_json::json;

use super::attempts::{Subject, TOLD_AT};
use super::too_many;
use crate::App;
use crate::http::{RequestInfo, Result};

/// An attempt at an account that may go on. What became of it is told by [`end`](Self::end).
pub struct Guess {
    account: Subject,
    email: String,
    address: Option<IpAddr>,
    cause: Cause,
}

impl Guess {
    /// # Errors
    /// 429 while the account rests after failures; whether there is such an account is not told.
    pub async fn begin(app: &App, email: &str, request: &RequestInfo) -> Result<Self> {
        let account = Subject::account(email);
        let wait = app.limits.wait_for_attempt(&account).await;
        if !wait.is_zero() {
            return Err(too_many("too many failed attempts to sign in to this account", wait));
        }
        Ok(Self { account, email: email.to_owned(), address: request.address(), cause: request.cause() })
    }

    /// Counts a refusal, forgets them all after a success. The answer takes as long whether or not the account exists.
    pub async fn end<T>(self, app: &App, result: Result<T>) -> Result<T> {
        match &result {
            Ok(_) => app.limits.attempt_succeeded(&self.account).await,
            // Who is asked for the second factor has proven the first; wrong codes are counted where they are checked.
            Err(error) if error.status() == StatusCode::UNAUTHORIZED && !error.code().starts_with("otp_") => {
                let failures = app.limits.attempt_failed(&self.account).await;
                if let Some(address) = self.address {
                    app.limits.address_failed(address).await;
                }
                let app = app.clone();
                tasks::detach(audit::inherit(async move {
                    if let Err(error) = self.tell(&app, failures).await {
                        tracing::warn!(%error, "a failed sign-in was not written down");
                    }
                }));
            }
            Err(_) => {}
        }
        result
    }

    /// Writes a failure down in the person's tenant, and has them told of the tenth.
    async fn tell(self, app: &App, failures: u32) -> millwork_shared::Result<()> {
        let mut tx = app.db.identity().await?;
        let known = queries::find_login(&mut tx, &self.email).await?;
        let Some(user) = known.map(|login| login.id) else { return tx.commit().await };
        let Some((tenant, _)) = queries::find_membership(&mut tx, user, None).await? else { return tx.commit().await };
        let mut tx = tx.into_tenant(tenant).await?;
        let after = json!({ "failures": failures });
        audit::queries::record(&mut tx, "session.refused", ("user", &user.to_string()), Some(&after)).await?;
        let mut mails = Vec::new();
        if failures == TOLD_AT {
            let lockout = SendLockout { user, failures, address: self.address.map(|address| address.to_string()) };
            mails.push(NewJob::of(tenant, &lockout)?.caused_by(&self.cause));
            jobs::enqueue(&mut tx, &mails).await?;
        }
        tx.commit().await?;
        app.dispatcher.offer(&mails);
        Ok(())
    }
}
