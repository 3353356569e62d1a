//! argon2id on threads of its own: a hash takes tens of milliseconds and 19 MiB, so that few run at once.

use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use argon2::password_hash::phc::PasswordHash;
use argon2::password_hash::{PasswordHasher, PasswordVerifier};
use argon2::{Algorithm, Argon2, Params, Version};
use millwork_shared::infra::crypto::Secret;
use tokio::sync::Semaphore;

use crate::http::{ApiError, Result};

/// Of new hashes: OWASP's recommendation for argon2id. A hash of other parameters is made anew at the next sign-in.
const PARAMS: (u32, u32, u32) = (19 * 1_024, 2, 1);
/// Longest wait for a free thread.
const WAIT: Duration = Duration::from_secs(5);
/// More requests than this do not wait at all.
const MOST_WAITING: usize = 256;

static THREADS: LazyLock<Semaphore> =
    LazyLock::new(|| Semaphore::new(std::thread::available_parallelism().map_or(2, |n| n.get())));
static WAITING: AtomicUsize = AtomicUsize::new(0);

/// A hash of a password that nobody has, for people who do not exist.
static NOBODY: LazyLock<Option<String>> = LazyLock::new(|| hash_now("nobody has this password").ok());

static VERIFICATIONS: AtomicU64 = AtomicU64::new(0);

/// How many passwords this process has checked against a hash, that of nobody included.
pub fn verifications() -> u64 {
    VERIFICATIONS.load(Ordering::Relaxed)
}

/// Whether a password is the one behind a hash.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Check {
    Wrong,
    Right,
    /// It is, and this is its hash by the parameters of today.
    Rehashed(String),
}

impl Check {
    pub fn is_right(&self) -> bool {
        *self != Self::Wrong
    }
}

/// The PHC string to store.
pub async fn hash(password: Secret<String>) -> Result<String> {
    on_a_thread(move || hash_now(password.expose())).await?
}

/// Whether `password` is the one behind `stored`. Without a stored hash it takes as long, and is not.
pub async fn verify(password: Secret<String>, stored: Option<String>) -> Result<Check> {
    on_a_thread(move || {
        let exists = stored.is_some();
        let Some(phc) = stored.as_ref().or(NOBODY.as_ref()) else { return Check::Wrong };
        let Ok(parsed) = PasswordHash::new(phc) else {
            tracing::error!("a stored password hash is not a PHC string");
            return Check::Wrong;
        };
        VERIFICATIONS.fetch_add(1, Ordering::Relaxed);
        let fits = Argon2::default().verify_password(password.expose().as_bytes(), &parsed).is_ok();
        if !(fits && exists) {
            return Check::Wrong;
        }
        let outdated = params().is_ok_and(|today| !is_of(&parsed, &today));
        let fresh = if outdated { hash_now(password.expose()).ok() } else { None };
        fresh.map_or(Check::Right, Check::Rehashed)
    })
    .await
}

fn params() -> Result<Params> {
    let (memory_kib, passes, lanes) = PARAMS;
    Params::new(memory_kib, passes, lanes, None).map_err(|e| ApiError::internal(anyhow::anyhow!("argon2: {e}")))
}

fn is_of(hash: &PasswordHash, today: &Params) -> bool {
    hash.algorithm == Algorithm::Argon2id.ident()
        && hash.version == Some(Version::V0x13.into())
        && Params::try_from(hash).is_ok_and(|of_hash| {
            (of_hash.m_cost(), of_hash.t_cost(), of_hash.p_cost()) == (today.m_cost(), today.t_cost(), today.p_cost())
        })
}

fn hash_now(password: &str) -> Result<String> {
    let hash = Argon2::new(Algorithm::Argon2id, Version::V0x13, params()?).hash_password(password.as_bytes());
    hash.map(|hash| hash.to_string()).map_err(|e| ApiError::internal(anyhow::anyhow!("hashing a password: {e}")))
}

async fn on_a_thread<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T> {
    let busy = || ApiError::unavailable("too many people are signing in at once; try again in a moment", 2);
    let waiting = Waiting::begin().ok_or_else(busy)?;
    let permit = tokio::time::timeout(WAIT, THREADS.acquire()).await;
    drop(waiting);
    let permit = permit.map_err(|_| busy())?.map_err(ApiError::internal)?;
    let result = tokio::task::spawn_blocking(move || {
        let _permit = permit; // held until the hash is done, even if the request is given up
        work()
    });
    result.await.map_err(ApiError::internal)
}

/// A place among those who wait for a thread.
struct Waiting;

impl Waiting {
    fn begin() -> Option<Self> {
        let place = Self;
        (WAITING.fetch_add(1, Ordering::Relaxed) < MOST_WAITING).then_some(place)
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        WAITING.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret(text: &str) -> Secret<String> {
        Secret::new(text.to_owned())
    }

    #[tokio::test]
    async fn a_password_fits_its_own_hash_alone() {
        let stored = hash(secret("correct horse")).await.unwrap();
        assert!(stored.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{stored}");
        assert_eq!(verify(secret("correct horse"), Some(stored.clone())).await.unwrap(), Check::Right);
        assert_eq!(verify(secret("correct mouse"), Some(stored.clone())).await.unwrap(), Check::Wrong);
        assert_eq!(verify(secret("nobody has this password"), None).await.unwrap(), Check::Wrong);
        assert_ne!(hash(secret("correct horse")).await.unwrap(), stored, "each has a salt of its own");
    }

    #[tokio::test]
    async fn a_hash_of_other_parameters_fits_and_is_made_anew() {
        let weak = Argon2::new(Algorithm::Argon2id, Version::V0x13, Params::new(8 * 1_024, 1, 1, None).unwrap());
        let stored = weak.hash_password(b"correct horse").unwrap().to_string();
        assert_eq!(verify(secret("correct mouse"), Some(stored.clone())).await.unwrap(), Check::Wrong);
        let Check::Rehashed(fresh) = verify(secret("correct horse"), Some(stored)).await.unwrap() else {
            panic!("not rehashed")
        };
        assert!(fresh.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{fresh}");
        assert_eq!(verify(secret("correct horse"), Some(fresh)).await.unwrap(), Check::Right);
    }
}
