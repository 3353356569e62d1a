//! Failed sign-ins: whoever guesses waits, longer each time.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use millwork_shared::infra::crypto::token_hash;

use super::Limits;

/// Whose failures are counted, and how patiently.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    /// From this failure on there is a wait.
    free: u32,
    first: Duration,
    longest: Duration,
}

/// Of one account, whoever guesses: 100 guesses take more than a day.
const ACCOUNT: Patience = Patience { free: 5, first: Duration::from_secs(1), longest: Duration::from_secs(15 * 60) };
/// Of one address, whichever accounts it tries. Many people may share one.
const ADDRESS: Patience = Patience { free: 50, first: Duration::from_secs(1), longest: Duration::from_secs(15 * 60) };
/// After so long without a failure all is forgotten.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(3_600);
/// At this failure the account's owner is told.
pub const TOLD_AT: u32 = 10;
/// Subjects that are kept in memory while Redis is down.
const MOST: usize = 20_000;

#[derive(Debug, Clone, Copy)]
enum Deed {
    Look,
    Fail,
    Forget,
}

/// Who is counted.
#[derive(Debug, Clone)]
pub struct Subject {
    key: String,
    patience: Patience,
}

impl Subject {
    /// Redis never sees a mail address.
    pub fn account(email: &str) -> Self {
        let hash = token_hash(&email.trim().to_lowercase());
        let key = hash[..16].iter().map(|byte| format!("{byte:02x}")).collect();
        Self { key, patience: ACCOUNT }
    }

    pub fn address(address: &str) -> Self {
        Self { key: address.to_owned(), patience: ADDRESS }
    }
}

/// Failures in memory: how many, until when there is a wait, when the last one was.
#[derive(Debug, Default)]
pub struct Failures(Mutex<HashMap<String, (u32, Duration, Duration)>>);

impl Failures {
    fn apply(&self, subject: &Subject, deed: Deed, now: Duration) -> (Duration, u32) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if all.len() > MOST {
            all.clear();
        }
        let (mut count, mut open_at, mut last) = all.get(&subject.key).copied().unwrap_or((0, Duration::ZERO, now));
        if now.saturating_sub(last) > FORGOTTEN_AFTER {
            (count, open_at) = (0, Duration::ZERO);
        }
        match deed {
            Deed::Look => {}
            Deed::Forget => {
                all.remove(&subject.key);
                return (Duration::ZERO, 0);
            }
            Deed::Fail => {
                let Patience { free, first, longest } = subject.patience;
                (count, last) = (count + 1, now);
                if let Some(over) = count.checked_sub(free) {
                    open_at = now + first.saturating_mul(1 << over.min(20)).min(longest);
                }
                all.insert(subject.key.clone(), (count, open_at, last));
            }
        }
        (open_at.saturating_sub(now), count)
    }
}

impl Limits {
    /// How long the next attempt must wait; zero for none.
    pub async fn wait_for_attempt(&self, subject: &Subject) -> Duration {
        self.attempt(subject, Deed::Look).await.0
    }

    /// Counts a failure. Answers how many there have been.
    pub async fn attempt_failed(&self, subject: &Subject) -> u32 {
        self.attempt(subject, Deed::Fail).await.1
    }

    /// Forgets a subject's failures.
    pub async fn attempt_succeeded(&self, subject: &Subject) {
        self.attempt(subject, Deed::Forget).await;
    }

    async fn attempt(&self, subject: &Subject, deed: Deed) -> (Duration, u32) {
        let Patience { free, first, longest } = subject.patience;
        let name = match deed {
            Deed::Look => "look",
            Deed::Fail => "fail",
            Deed::Forget => "forget",
        };
        let mut call = self.scripts.attempts.call(&[format!("{}:attempts:{{{}}}", self.prefix, subject.key)]);
        call.arg(name).arg(free).arg(first.as_millis() as u64).arg(longest.as_millis() as u64);
        call.arg(FORGOTTEN_AFTER.as_millis() as u64).arg(self.clock.offset().as_millis() as u64);
        match self.call::<(u64, u32)>(&call).await {
            Some((wait_ms, count)) => (Duration::from_millis(wait_ms), count),
            None => self.failures.apply(subject, deed, self.now()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_and_are_forgotten() {
        let (failures, subject) = (Failures::default(), Subject::account(" A@b.example"));
        let mut now = Duration::from_secs(10);
        let waits: Vec<u64> = (0..20)
            .map(|_| {
                let (wait, _) = failures.apply(&subject, Deed::Fail, now);
                assert_eq!(failures.apply(&Subject::account("a@B.example"), Deed::Look, now).0, wait);
                now += wait;
                wait.as_secs()
            })
            .collect();
        assert_eq!(waits[..9], [0, 0, 0, 0, 1, 2, 4, 8, 16]);
        assert_eq!(waits[18..], [900, 900]);
        assert_eq!(failures.apply(&subject, Deed::Fail, now + FORGOTTEN_AFTER * 2), (Duration::ZERO, 1));
        assert_eq!(failures.apply(&subject, Deed::Forget, now).1, 0);
    }
}
