//! Recently checked tokens, so that a busy client costs a lookup every few seconds instead of every request.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use millwork_shared::infra::clock::Clock;

use crate::http::Caller;

/// How long a process may go on honouring a token that was revoked, if the news of it (see [`super::revocation`]) get lost.
pub const TTL: Duration = Duration::from_secs(5);
/// Past this age one request asks anew while the others still use what is known.
const REFRESH_AFTER: Duration = Duration::from_secs(3);
const SHARDS: usize = 16;
const SHARD_CAPACITY: usize = 1_024;

/// SHA-256 of the token: the cache holds nothing that could be presented.
pub type Key = [u8; 32];

/// Bounded, sharded, by SHA-256 of the token.
pub struct TokenCache {
    shards: [Mutex<Shard>; SHARDS],
    /// Counts revocations, so that a check that began before one is not remembered after it.
    generation: AtomicU64,
    started: Instant,
    clock: Clock,
}

type Shard = HashMap<Key, Entry, BuildHasherDefault<Prehashed>>;

struct Entry {
    caller: Caller,
    /// Since the cache was made, moved along with a test's clock.
    refresh_at: Duration,
    expires_at: Duration,
}

impl TokenCache {
    pub fn new(clock: Clock) -> Self {
        Self { shards: Default::default(), generation: AtomicU64::new(0), started: Instant::now(), clock }
    }

    /// The caller if known and fresh. About to expire, it is withheld from one request, which then renews it.
    pub fn get(&self, key: &Key) -> Option<Caller> {
        let now = self.now();
        let mut shard = self.shard(key);
        let entry = shard.get_mut(key)?;
        if now >= entry.expires_at {
            shard.remove(key);
            return None;
        }
        if now >= entry.refresh_at {
            entry.refresh_at = entry.expires_at;
            return None;
        }
        Some(entry.caller.clone())
    }

    /// Take it before a check, and hand it to [`put`](Self::put).
    pub fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// Remembers `caller` for [`TTL`] or, if that is less, until its token expires; not if something was revoked since
    /// `generation`.
    pub fn put(&self, generation: u64, key: Key, caller: Caller, expires_in: Option<Duration>) {
        let now = self.now();
        let ttl = expires_in.unwrap_or(TTL).min(TTL);
        let mut shard = self.shard(&key);
        if generation != self.generation() {
            return;
        }
        if shard.len() >= SHARD_CAPACITY && !shard.contains_key(&key) {
            make_room(&mut shard, now);
        }
        shard.insert(key, Entry { caller, refresh_at: now + ttl.min(REFRESH_AFTER), expires_at: now + ttl });
    }

    /// Forgets whom `revoked` names, at once in this process.
    pub fn forget(&self, revoked: impl Fn(&Caller) -> bool) {
        self.generation.fetch_add(1, Ordering::AcqRel);
        for shard in &self.shards {
            shard.lock().unwrap_or_else(PoisonError::into_inner).retain(|_, entry| !revoked(&entry.caller));
        }
    }

    /// Forgets one token.
    pub fn remove(&self, key: &Key) {
        self.shard(key).remove(key);
    }

    fn now(&self) -> Duration {
        self.started.elapsed() + self.clock.offset()
    }

    fn shard(&self, key: &Key) -> std::sync::MutexGuard<'_, Shard> {
        self.shards[key[31] as usize % SHARDS].lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Drops what has expired, or the half that expires first.
fn make_room(shard: &mut Shard, now: Duration) {
    shard.retain(|_, entry| entry.expires_at > now);
    if shard.len() >= SHARD_CAPACITY {
        let mut ends: Vec<Duration> = shard.values().map(|entry| entry.expires_at).collect();
        let (_, &mut median, _) = ends.select_nth_unstable(SHARD_CAPACITY / 2);
        shard.retain(|_, entry| entry.expires_at > median);
    }
}

/// The key is a hash already.
#[derive(Default)]
struct Prehashed(u64);

impl Hasher for Prehashed {
    fn write(&mut self, bytes: &[u8]) {
        if let Some(head) = bytes.first_chunk::<8>() {
            self.0 ^= u64::from_le_bytes(*head);
        }
    }

    fn write_usize(&mut self, _length: usize) {}

    fn finish(&self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use millwork_shared::infra::crypto::token_hash;
    use millwork_shared::infra::ids::{ApiKeyId, TenantId, UserId};

    use super::*;
    use crate::http::{Credential, Identity};

    fn caller() -> Caller {
        Caller::from(Identity {
            tenant: TenantId::generate(),
            user: UserId::generate(),
            credential: Credential::ApiKey(ApiKeyId::generate()),
            roles: Vec::new(),
            permissions: Default::default(),
            ip_rules: Default::default(),
        })
    }

    #[test]
    fn an_entry_is_renewed_by_one_request_and_ends_after_five_seconds() {
        let clock = Clock::default();
        let cache = TokenCache::new(clock.clone());
        let key = token_hash("a");
        cache.put(0, key, caller(), None);
        assert!(cache.get(&key).is_some());
        clock.advance(Duration::from_secs(4));
        assert!(cache.get(&key).is_none(), "the first one past three seconds asks anew");
        assert!(cache.get(&key).is_some(), "the others need not wait for it");
        clock.advance(Duration::from_secs(1));
        assert!(cache.get(&key).is_none());
    }

    #[test]
    fn an_entry_does_not_outlive_its_token() {
        let clock = Clock::default();
        let cache = TokenCache::new(clock.clone());
        cache.put(0, token_hash("a"), caller(), Some(Duration::from_secs(1)));
        clock.advance(Duration::from_secs(1));
        assert!(cache.get(&token_hash("a")).is_none());
    }

    #[test]
    fn the_cache_is_bounded_and_forgets_whom_it_is_told_to() {
        let cache = TokenCache::new(Clock::default());
        for n in 0..SHARDS * SHARD_CAPACITY * 2 {
            cache.put(0, token_hash(&n.to_string()), caller(), None);
        }
        let held = || cache.shards.iter().map(|s| s.lock().unwrap().len()).sum::<usize>();
        assert!(held() <= SHARDS * SHARD_CAPACITY && held() > SHARDS * SHARD_CAPACITY / 4, "{}", held());
        cache.forget(|_| true);
        assert_eq!(held(), 0);
        cache.put(0, token_hash("a"), caller(), None);
        assert_eq!(held(), 0, "a check that began before the revocation is not remembered after it");
    }
}
