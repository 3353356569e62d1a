//! Opening a session, going on with it, and ending it.

use aws_lc_rs::hmac;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chrono::{DateTime, Utc};
use millwork_shared::auth::Client;
use millwork_shared::auth::jobs::{Notice, SendNotice};
use millwork_shared::auth::queries::sessions::{self, Session, Spent};
use millwork_shared::auth::revocation::Revoked;
use millwork_shared::infra::crypto::{random_bytes, token_hash};
use millwork_shared::infra::db::IdentityTx;
use millwork_shared::infra::ids::{SessionId, TenantId, UserId};
use millwork_shared::jobs::Cause;
use millwork_shared::tenants::queries as tenants;

use super::signing::{self, Signer};
use super::types::Tokens;
use super::{mails, revocation};
use crate::App;
use crate::http::{ApiError, Caller, Credential, Result};

/// Opens a session in the caller's transaction.
pub async fn open(
    (signer, now): (&Signer, DateTime<Utc>),
    tx: &mut IdentityTx,
    (tenant, user, role): (TenantId, UserId, &str),
    client: &Client,
) -> Result<Tokens> {
    let session = Session { id: SessionId::generate(), tenant, user };
    let refresh_token = format!("mwr_{}", URL_SAFE_NO_PAD.encode(random_bytes::<32>()));
    sessions::open(tx, session, client, token_hash(&refresh_token)).await?;
    tokens((signer, now), session, role, refresh_token)
}

/// Takes a refresh token for the next pair. One that was used before ends the whole session: someone has a copy. But for
/// seconds the client that used it gets the same next one again: its answer may have been lost.
pub async fn refresh(app: &App, token: &str, client: &Client, cause: &Cause) -> Result<Tokens> {
    let refused = || ApiError::unauthenticated("refresh_token_invalid", "sign in again: the session has ended");
    let signer = signing::signer(app).await?;
    let salt = random_bytes::<16>();
    let mut tx = app.db.identity().await?;
    let (session, next) = match sessions::spend(&mut tx, token_hash(token), client, &salt).await? {
        Spent::Unknown => return Err(refused()),
        Spent::Before(session) => {
            let mail = SendNotice { user: session.user, notice: Notice::SessionEnded };
            mails::commit_with(app, tx, &mail, cause).await?;
            revocation::announce(app, &[Revoked::Session(session.id)]).await;
            tracing::warn!(session.id = %session.id, user.id = %session.user, "a spent refresh token came again");
            let detail = "sign in again: this refresh token was used before, so the session was ended";
            return Err(ApiError::unauthenticated("refresh_token_reused", detail));
        }
        Spent::Again(session, salt) => (session, derive(token, &salt)),
        Spent::Now(session) => {
            let next = derive(token, &salt);
            sessions::insert_token(&mut tx, session, token_hash(&next)).await?;
            (session, next)
        }
    };
    let standing = tenants::find_standing(&mut tx, session.tenant, session.user).await?.ok_or_else(refused)?;
    tx.commit().await?;
    tokens((&signer, app.clock.now()), session, standing.first(), next)
}

/// The session that the caller is signed in by.
///
/// # Errors
/// 409 for an API key: it has no session, and does not speak for the person who made it.
pub fn of(caller: &Caller) -> Result<SessionId> {
    match caller.credential {
        Credential::Session(session) => Ok(session),
        Credential::ApiKey(_) => Err(ApiError::conflict(
            "not_a_session",
            "an API key has no session; sign in as a person. The key itself is revoked by DELETE /api-keys/{id}",
        )),
    }
}

/// Ends one open session of the caller's, its access tokens included.
///
/// # Errors
/// 404 when it is not theirs, or has ended.
pub async fn close(app: &App, caller: &Caller, session: SessionId) -> Result<()> {
    let mut tx = app.db.identity().await?;
    sessions::get(&mut tx, caller.user, session).await?;
    sessions::end(&mut tx, session).await?;
    tx.commit().await?;
    revocation::announce(app, &[Revoked::Session(session)]).await;
    Ok(())
}

/// Ends the caller's sessions in every tenant, all or all but one.
pub async fn close_all(app: &App, caller: &Caller, except: Option<SessionId>) -> Result<()> {
    let mut tx = app.db.identity().await?;
    let ended = sessions::end_all(&mut tx, caller.user, except).await?;
    tx.commit().await?;
    announce(app, ended).await;
    Ok(())
}

/// Has the access tokens of sessions that were ended stop everywhere. Call it after the commit.
pub async fn announce(app: &App, ended: Vec<SessionId>) {
    let ended: Vec<Revoked> = ended.into_iter().map(Revoked::Session).collect();
    revocation::announce(app, &ended).await;
}

/// The token that follows `token`. Whoever has both `token` and the salt, which the database forgets when the next one is
/// used, finds it again.
fn derive(token: &str, salt: &[u8]) -> String {
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, token.as_bytes()), salt);
    format!("mwr_{}", URL_SAFE_NO_PAD.encode(tag))
}

fn tokens(
    (signer, now): (&Signer, DateTime<Utc>),
    session: Session,
    role: &str,
    refresh_token: String,
) -> Result<Tokens> {
    Ok(Tokens {
        access_token: signer.issue(session, role, now)?,
        refresh_token,
        token_type: "Bearer".to_owned(),
        expires_in: signing::VALID_FOR.as_secs() as u32,
    })
}
