//! argon2id on threads of its own: a hash takes tens of milliseconds and 19 MiB, so that few run at once.

use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use argon2::Argon2;
use argon2::password_hash::phc::PasswordHash;
use argon2::password_hash::{PasswordHasher, PasswordVerifier};
use millwork_shared::infra::crypto::Secret;
use tokio::sync::Semaphore;

use crate::http::{ApiError, Result};

/// Longest wait for a free thread.
const WAIT: Duration = Duration::from_secs(5);

static THREADS: LazyLock<Semaphore> =
    LazyLock::new(|| Semaphore::new(std::thread::available_parallelism().map_or(2, |n| n.get())));

/// A hash of a password that nobody has, for people who do not exist.
static NOBODY: LazyLock<Option<String>> = LazyLock::new(|| hash_now("nobody has this password").ok());

static VERIFICATIONS: AtomicU64 = AtomicU64::new(0);

/// How many passwords this process has checked against a hash, that of nobody included.
pub fn verifications() -> u64 {
    VERIFICATIONS.load(Ordering::Relaxed)
}

/// The PHC string to store.
pub async fn hash(password: Secret<String>) -> Result<String> {
    on_a_thread(move || hash_now(password.expose())).await?
}

/// Whether `password` is the one behind `stored`. Without a stored hash it takes as long, and is not.
pub async fn verify(password: Secret<String>, stored: Option<String>) -> Result<bool> {
    on_a_thread(move || {
        let exists = stored.is_some();
        let Some(phc) = stored.as_ref().or(NOBODY.as_ref()) else { return false };
        let Ok(parsed) = PasswordHash::new(phc) else {
            tracing::error!("a stored password hash is not a PHC string");
            return false;
        };
        VERIFICATIONS.fetch_add(1, Ordering::Relaxed);
        Argon2::default().verify_password(password.expose().as_bytes(), &parsed).is_ok() && exists
    })
    .await
}

fn hash_now(password: &str) -> Result<String> {
    let hash = Argon2::default().hash_password(password.as_bytes());
    hash.map(|hash| hash.to_string()).map_err(|e| ApiError::internal(anyhow::anyhow!("hashing a password: {e}")))
}

async fn on_a_thread<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T> {
    let permit = tokio::time::timeout(WAIT, THREADS.acquire()).await;
    let busy = || ApiError::unavailable("too many people are signing in at once; try again in a moment", 2);
    let permit = permit.map_err(|_| busy())?.map_err(ApiError::internal)?;
    let result = tokio::task::spawn_blocking(move || {
        let _permit = permit; // held until the hash is done, even if the request is given up
        work()
    });
    result.await.map_err(ApiError::internal)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_password_fits_its_own_hash_alone() {
        let secret = |text: &str| Secret::new(text.to_owned());
        let stored = hash(secret("correct horse")).await.unwrap();
        assert!(stored.starts_with("$argon2id$"), "{stored}");
        assert!(verify(secret("correct horse"), Some(stored.clone())).await.unwrap());
        assert!(!verify(secret("correct mouse"), Some(stored.clone())).await.unwrap());
        assert!(!verify(secret("nobody has this password"), None).await.unwrap());
        assert_ne!(hash(secret("correct horse")).await.unwrap(), stored, "each has a salt of its own");
    }
}
