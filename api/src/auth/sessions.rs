//! Opening a session, and going on with it.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chrono::{DateTime, Utc};
use millwork_shared::auth::queries::sessions::{self, Session, Spent};
use millwork_shared::infra::crypto::{random_bytes, token_hash};
use millwork_shared::infra::db::IdentityTx;
use millwork_shared::infra::ids::{SessionId, TenantId, UserId};
use millwork_shared::tenants::{Role, queries as tenants};

use super::signing::{self, Signer};
use super::types::Tokens;
use crate::App;
use crate::http::{ApiError, Caller, Credential, Result};

/// How long a session may rest before it must be opened anew.
const REFRESH_VALID_FOR: Duration = Duration::from_secs(30 * 24 * 3600);

/// Opens a session in the caller's transaction.
pub async fn open(
    (signer, now): (&Signer, DateTime<Utc>),
    tx: &mut IdentityTx,
    (tenant, user, role): (TenantId, UserId, Role),
) -> Result<Tokens> {
    next((signer, now), tx, Session { id: SessionId::generate(), tenant, user }, role).await
}

/// Takes a refresh token for the next pair. One that was used before ends the whole session: someone has a copy.
pub async fn refresh(app: &App, token: &str) -> Result<Tokens> {
    let refused = || ApiError::unauthenticated("refresh_token_invalid", "sign in again: the session has ended");
    let signer = signing::signer(app).await?;
    let mut tx = app.db.identity().await?;
    match sessions::spend(&mut tx, token_hash(token)).await? {
        Spent::Unknown => Err(refused()),
        Spent::Before(session) => {
            tx.commit().await?;
            forget(app, session.id);
            tracing::warn!(session.id = %session.id, user.id = %session.user, "a spent refresh token came again");
            let detail = "sign in again: this refresh token was used before, so the session was ended";
            Err(ApiError::unauthenticated("refresh_token_reused", detail))
        }
        Spent::Now(session) => {
            let role = tenants::find_role(&mut tx, session.tenant, session.user).await?;
            let role = role.and_then(|role| role.parse().ok()).ok_or_else(refused)?;
            let tokens = next((&signer, app.clock.now()), &mut tx, session, role).await?;
            tx.commit().await?;
            Ok(tokens)
        }
    }
}

/// Ends the caller's session, its access tokens included.
pub async fn close(app: &App, caller: &Caller) -> Result<()> {
    let Credential::Session(session) = caller.credential else {
        return Err(ApiError::conflict(
            "not_a_session",
            "an API key has no session; revoke it by DELETE /api-keys/{id}",
        ));
    };
    let mut tx = app.db.identity().await?;
    sessions::revoke(&mut tx, session).await?;
    tx.commit().await?;
    forget(app, session);
    Ok(())
}

async fn next(
    (signer, now): (&Signer, DateTime<Utc>),
    tx: &mut IdentityTx,
    session: Session,
    role: Role,
) -> Result<Tokens> {
    let access_token = signer.issue(session, role, now)?;
    let refresh_token = format!("mwr_{}", URL_SAFE_NO_PAD.encode(random_bytes::<32>()));
    sessions::insert(tx, session, token_hash(&refresh_token), REFRESH_VALID_FOR).await?;
    Ok(Tokens {
        access_token,
        refresh_token,
        token_type: "Bearer".to_owned(),
        expires_in: signing::VALID_FOR.as_secs() as u32,
    })
}

fn forget(app: &App, session: SessionId) {
    app.tokens.forget(|caller| caller.credential == Credential::Session(session));
}
