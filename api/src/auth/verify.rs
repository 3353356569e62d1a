//! Checks a bearer token of either form.

use std::time::Duration;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use millwork_shared::auth::queries::{api_keys, sessions};
use millwork_shared::infra::crypto::token_hash;
use millwork_shared::ip_rules::queries as ip_rules;
use millwork_shared::tenants::queries as tenants;
use poem::http::StatusCode;

use super::{key_text, signing};
use crate::App;
use crate::http::{ApiError, Caller, Credential, Identity, Result};

/// No token of ours is longer.
const MAX_TOKEN_BYTES: usize = 2_048;

/// Who presents `token`.
///
/// # Errors
/// 401 when the token is not good; it does not say why, beyond its having expired.
pub async fn verify(app: &App, token: &str) -> Result<Caller> {
    if token.len() > MAX_TOKEN_BYTES {
        return Err(refused());
    }
    let key = token_hash(token);
    if let Some(caller) = app.tokens.get(&key) {
        return Ok(caller);
    }
    let generation = app.tokens.generation();
    let checked = if key_text::looks_like(token) {
        check_api_key(app, token, &key).await
    } else {
        check_access_token(app, token).await
    };
    match checked {
        Ok((identity, expires_in)) => {
            let caller = Caller::from(identity);
            app.tokens.put(generation, key, caller.clone(), expires_in);
            Ok(caller)
        }
        Err(error) => {
            if error.status().is_client_error() {
                app.tokens.remove(&key);
            }
            Err(error)
        }
    }
}

async fn check_api_key(app: &App, token: &str, hash: &[u8; 32]) -> Result<(Identity, Option<Duration>)> {
    let prefix = key_text::prefix(token).ok_or_else(refused)?;
    let mut tx = app.db.identity().await?;
    let key = api_keys::find_live(&mut tx, prefix).await?;
    let (is_suspended, ip_rules) = match &key {
        Some(key) => {
            (tenants::is_suspended(&mut tx, key.tenant_id).await?, ip_rules::find(&mut tx, key.tenant_id).await?)
        }
        None => Default::default(),
    };
    tx.commit().await?;
    let key = key.ok_or_else(refused)?;
    verify_slices_are_equal(&key.secret_hash, hash).map_err(|_| refused())?;
    if is_suspended {
        return Err(suspended());
    }
    let identity = Identity {
        tenant: key.tenant_id,
        user: key.created_by,
        credential: Credential::ApiKey(key.id),
        roles: Vec::new(),
        permissions: key.held(),
        ip_rules,
    };
    let expires_in = key.expires_in_ms.map(|ms| Duration::from_millis(u64::try_from(ms).unwrap_or(0)));
    Ok((identity, expires_in))
}

/// The roles are the member's of now, not the token's of a quarter of an hour ago.
async fn check_access_token(app: &App, token: &str) -> Result<(Identity, Option<Duration>)> {
    let verified = signing::verify(app, token).await?.ok_or_else(refused)?;
    let session = verified.session;
    let mut tx = app.db.identity().await?;
    let standing = sessions::find_standing(&mut tx, session).await?;
    let is_suspended = tenants::is_suspended(&mut tx, session.tenant).await?;
    let ip_rules = ip_rules::find(&mut tx, session.tenant).await?;
    tx.commit().await?;
    let standing = standing.ok_or_else(refused)?;
    if is_suspended {
        return Err(suspended());
    }
    let identity = Identity {
        tenant: session.tenant,
        user: session.user,
        credential: Credential::Session(session.id),
        permissions: standing.permissions(),
        roles: standing.names(),
        ip_rules,
    };
    Ok((identity, Some(verified.expires_in)))
}

/// The tenant is suspended: whoever is known to belong to it is told so.
pub fn suspended() -> ApiError {
    let detail = "the tenant is suspended; its owners may ask the operator of this service why";
    ApiError::new(StatusCode::FORBIDDEN, "tenant_suspended", detail)
}

fn refused() -> ApiError {
    ApiError::unauthenticated("token_invalid", "the token or API key is not valid, has expired, or was revoked")
}
