//! Access tokens: EdDSA JWTs, signed by a key that the database keeps sealed.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chrono::{DateTime, Utc};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use millwork_shared::auth::queries::sessions::Session;
use millwork_shared::auth::queries::signing_keys;
use millwork_shared::auth::signing_keys::generate;
use millwork_shared::infra::clock::Clock;
use millwork_shared::infra::crypto::KeyRing;
use millwork_shared::infra::db::Db;
use millwork_shared::infra::ids::{SessionId, TenantId, UserId};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::App;
use crate::http::{ApiError, Result};

/// How long an access token is good.
pub const VALID_FOR: Duration = Duration::from_secs(15 * 60);
const ISSUER: &str = "millwork";
/// A key made or retired by another process is noticed within this time.
const RELOAD_AFTER: Duration = Duration::from_secs(300);
/// An unknown key id makes the keys be read again, but not more often than this.
const RELOAD_AT_MOST_EVERY: Duration = Duration::from_secs(1);

/// The signing keys, read when first needed.
#[derive(Default)]
pub struct Signing {
    keys: RwLock<Option<Arc<Keys>>>,
}

struct Keys {
    current: (String, EncodingKey),
    public: Vec<PublicKey>,
    /// And by how much the clock had been moved then.
    read_at: (Instant, Duration),
}

struct PublicKey {
    id: String,
    key: DecodingKey,
    raw: Vec<u8>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Claims {
    iss: String,
    sub: Uuid,
    /// The tenant.
    tid: Uuid,
    /// The session, which ends the token with it.
    sid: Uuid,
    /// For people who look at the token. Nothing goes by it: what a member may do is asked of the database.
    role: String,
    jti: Uuid,
    iat: i64,
    exp: i64,
}

/// What a good access token says.
pub struct Verified {
    pub session: Session,
    pub expires_in: Duration,
}

/// Signs access tokens. Take it before a transaction: it may have to read the keys.
pub struct Signer(Arc<Keys>);

pub async fn signer(app: &App) -> Result<Signer> {
    Ok(Signer(keys(app, |keys| keys.age(&app.clock) < RELOAD_AFTER).await?))
}

impl Signer {
    /// An access token for `session`, good for [`VALID_FOR`] from `now`.
    pub fn issue(&self, session: Session, role: &str, now: DateTime<Utc>) -> Result<String> {
        let now = now.timestamp();
        let claims = Claims {
            iss: ISSUER.to_owned(),
            sub: session.user.0,
            tid: session.tenant.0,
            sid: session.id.0,
            role: role.to_owned(),
            jti: Uuid::new_v4(),
            iat: now,
            exp: now + VALID_FOR.as_secs() as i64,
        };
        let header = Header { kid: Some(self.0.current.0.clone()), ..Header::new(Algorithm::EdDSA) };
        jsonwebtoken::encode(&header, &claims, &self.0.current.1).map_err(ApiError::internal)
    }
}

/// Checks signature and time of a token; None when it is not ours. Whether its session goes on is another question.
///
/// # Errors
/// `token_expired` (401), so that a client knows to refresh.
pub async fn verify(app: &App, token: &str) -> Result<Option<Verified>> {
    let Ok(header) = jsonwebtoken::decode_header(token) else { return Ok(None) };
    let (Algorithm::EdDSA, Some(kid)) = (header.alg, header.kid) else { return Ok(None) };
    let fresh = |keys: &Keys| keys.find(&kid).is_some() || keys.age(&app.clock) < RELOAD_AT_MOST_EVERY;
    let keys = keys(app, fresh).await?;
    let Some(key) = keys.find(&kid) else { return Ok(None) };
    let mut validation = Validation::new(Algorithm::EdDSA);
    validation.set_issuer(&[ISSUER]);
    validation.validate_exp = false; // below, by a clock that tests can move
    let Ok(token) = jsonwebtoken::decode::<Claims>(token, &key.key, &validation) else { return Ok(None) };
    let claims = token.claims;
    let left = u64::try_from(claims.exp - app.clock.now().timestamp()).unwrap_or(0);
    if left == 0 {
        return Err(ApiError::unauthenticated("token_expired", "the access token has expired; refresh it"));
    }
    let session = Session { id: SessionId(claims.sid), tenant: TenantId(claims.tid), user: UserId(claims.sub) };
    Ok(Some(Verified { session, expires_in: Duration::from_secs(left) }))
}

/// The public keys, as a JWK set (RFC 7517, RFC 8037).
pub async fn jwks(app: &App) -> Result<Value> {
    let Signer(keys) = signer(app).await?;
    let keys: Vec<Value> = keys
        .public
        .iter()
        .map(|key| {
            let x = URL_SAFE_NO_PAD.encode(&key.raw);
            json!({ "kty": "OKP", "crv": "Ed25519", "use": "sig", "alg": "EdDSA", "kid": key.id, "x": x })
        })
        .collect();
    Ok(json!({ "keys": keys }))
}

impl Keys {
    fn age(&self, clock: &Clock) -> Duration {
        let (read_at, offset) = self.read_at;
        read_at.elapsed() + clock.offset().saturating_sub(offset)
    }

    fn find(&self, id: &str) -> Option<&PublicKey> {
        self.public.iter().find(|key| key.id == id)
    }
}

/// The keys as last read, if they are fresh enough, or read anew.
async fn keys(app: &App, fresh: impl FnOnce(&Keys) -> bool) -> Result<Arc<Keys>> {
    let known = app.signing.keys.read().unwrap_or_else(PoisonError::into_inner).clone();
    if let Some(keys) = known.filter(|keys| fresh(keys)) {
        return Ok(keys);
    }
    let keys = Arc::new(read(&app.db, &app.keys, &app.clock).await?);
    *app.signing.keys.write().unwrap_or_else(PoisonError::into_inner) = Some(keys.clone());
    Ok(keys)
}

/// Reads the keys; the first process that finds none makes one.
async fn read(db: &Db, ring: &KeyRing, clock: &Clock) -> Result<Keys> {
    let read_at = (Instant::now(), clock.offset());
    let mut tx = db.identity().await?;
    let mut rows = signing_keys::list(&mut tx).await?;
    if rows.is_empty() {
        signing_keys::lock(&mut tx).await?;
        rows = signing_keys::list(&mut tx).await?;
    }
    if rows.is_empty() {
        let key = generate(ring)?;
        signing_keys::insert(&mut tx, &key, Duration::ZERO).await?;
        rows.push(key);
    }
    tx.commit().await?;
    let current = rows.iter().find(|row| row.signs).or(rows.last());
    let current = current.ok_or_else(|| ApiError::internal(anyhow::anyhow!("no signing key")))?;
    let private = ring.open(&signing_keys::context(current.id), &current.sealed_private)?;
    Ok(Keys {
        current: (current.id.to_string(), EncodingKey::from_ed_der(&private)),
        public: rows
            .into_iter()
            .map(|row| PublicKey {
                id: row.id.to_string(),
                key: DecodingKey::from_ed_der(&row.public_key),
                raw: row.public_key,
            })
            .collect(),
        read_at,
    })
}
