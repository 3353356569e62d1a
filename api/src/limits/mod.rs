//! How much a caller may ask for.
//!
//! Sliding windows of a minute in Redis, one of the tenant and one of the person or API key, asked by one call of a script; most
//! requests of a busy caller need none (`lease`). While Redis does not answer, each process counts by itself (`local`).

/// Failed sign-ins.
pub mod attempts;
/// One attempt to sign in.
mod guess;
/// Requests that one process may answer before it asks again.
mod lease;
/// What one process counts by itself.
mod local;
/// How much may be asked for.
pub mod settings;

use std::collections::HashMap;
use std::hash::{BuildHasher, Hash, RandomState};
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use millwork_shared::infra::clock::Clock;
use millwork_shared::infra::db::Db;
use millwork_shared::infra::ids::{ApiKeyId, TenantId, UserId};
use millwork_shared::infra::redis::{Call, Redis, Script};
use millwork_shared::quotas::Overrides;
use millwork_shared::tenants::{Plan, queries};
use poem::Request;
use poem::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use redis::FromRedisValue;

use self::attempts::{Failures, Subject as Guesser};
pub use self::guess::Guess;
use self::lease::{Lease, Verdict};
use self::local::Local;
use self::settings::LimitSettings;
use crate::http::{ApiError, Caller, Credential, Result};

/// Over which requests are counted.
const WINDOW_MS: u64 = 60_000;
/// Longest wait for Redis: a request must not be slow because its limit is not known.
const PATIENCE: Duration = Duration::from_millis(250);
/// How long Redis is left alone after it did not answer.
const PAUSE: Duration = Duration::from_secs(1);
/// How long a tenant's plan is remembered.
const PLAN_TTL: Duration = Duration::from_secs(60);
const SHARDS: usize = 16;
/// Callers that a shard remembers at most; those who rest are dropped first.
const SHARD_CAPACITY: usize = 4_096;

pub struct Limits {
    redis: Redis,
    scripts: Scripts,
    prefix: &'static str,
    db: Db,
    clock: Clock,
    settings: LimitSettings,
    leases: [Mutex<HashMap<Subject, Arc<Lease>>>; SHARDS],
    hasher: RandomState,
    plans: Mutex<HashMap<TenantId, (Allowance, Duration)>>,
    local: Local,
    failures: Failures,
    /// Until when Redis is left alone, in milliseconds since the start; 0 while it answers.
    down_until: AtomicU64,
    started: Instant,
}

struct Scripts {
    window: Script,
    attempts: Script,
}

/// A tenant's plan, and what it is allowed beside it.
type Allowance = (Plan, Overrides);

/// Who is counted. Every credential of a tenant also counts for the tenant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Subject {
    User(TenantId, UserId),
    ApiKey(TenantId, ApiKeyId),
    Address(IpAddr),
}

/// Up to two counters, of which all must have room.
struct Question<'a> {
    counters: &'a [(&'a str, u32)],
    wanted: u32,
    least: u32,
    /// Granted before and not used.
    back: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Answer {
    granted: u32,
    /// Until there is room.
    wait_ms: u64,
    /// Until the window ends.
    reset_ms: u64,
    left: [u64; 2],
}

/// How a caller stands, as its answers' headers say.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Standing {
    /// `user` or `api_key`.
    kind: &'static str,
    limits: [u32; 2],
    left: [u64; 2],
    reset_s: u64,
}

impl Standing {
    /// With what the process itself still holds.
    fn with(mut self, tokens: u32) -> Self {
        self.left.iter_mut().for_each(|left| *left += u64::from(tokens));
        self
    }

    /// Writes the headers of draft-ietf-httpapi-ratelimit-headers, and the older ones about the scarcer of the two.
    pub fn write(&self, headers: &mut HeaderMap) {
        let Self { kind, limits: [tenant, own], left: [of_tenant, of_own], reset_s } = self;
        let (limit, left) = if of_own <= of_tenant { (own, of_own) } else { (tenant, of_tenant) };
        let policy = format!("\"tenant\";q={tenant};w=60, \"{kind}\";q={own};w=60");
        let state = format!("\"tenant\";r={of_tenant};t={reset_s}, \"{kind}\";r={of_own};t={reset_s}");
        for (name, value) in [("ratelimit-policy", policy), ("ratelimit", state)] {
            if let Ok(value) = HeaderValue::try_from(value) {
                headers.insert(HeaderName::from_static(name), value);
            }
        }
        for (name, value) in [
            ("x-ratelimit-limit", u64::from(*limit)),
            ("x-ratelimit-remaining", *left),
            ("x-ratelimit-reset", *reset_s),
        ] {
            headers.insert(HeaderName::from_static(name), HeaderValue::from(value));
        }
    }
}

/// Where a request's standing is left for the layer that writes the headers.
#[derive(Debug, Clone, Default)]
pub struct Slot(Arc<OnceLock<Standing>>);

impl Slot {
    pub fn get(&self) -> Option<&Standing> {
        self.0.get()
    }
}

/// What a request costs, where that is not 1.
#[derive(Debug, Clone, Copy)]
pub struct Cost(pub u32);

impl Limits {
    pub fn new(redis: Redis, prefix: &'static str, db: Db, clock: Clock, settings: LimitSettings) -> Self {
        Self {
            redis,
            scripts: Scripts {
                window: Script::new(include_str!("window.lua")),
                attempts: Script::new(include_str!("attempts.lua")),
            },
            prefix,
            db,
            clock,
            settings,
            leases: Default::default(),
            hasher: RandomState::new(),
            plans: Mutex::default(),
            local: Local::default(),
            failures: Failures::default(),
            down_until: AtomicU64::new(0),
            started: Instant::now(),
        }
    }

    /// Counts a request of `caller`, and leaves its standing for the headers.
    ///
    /// # Errors
    /// 429 when the tenant, the person or the key has asked for too much.
    pub async fn admit(&self, request: &Request, caller: &Caller) -> Result<()> {
        let cost = request.data().map_or(1, |Cost(cost)| *cost);
        let subject = match caller.credential {
            Credential::Session(_) => Subject::User(caller.tenant, caller.user),
            Credential::ApiKey(key) => Subject::ApiKey(caller.tenant, key),
        };
        let verdict = self.verdict(subject, cost).await;
        let (Verdict::Admitted(standing) | Verdict::Refused(standing, _)) = verdict;
        if let Some(Slot(slot)) = request.data() {
            let _ = slot.set(standing);
        }
        match verdict {
            Verdict::Admitted(_) => Ok(()),
            Verdict::Refused(_, wait) => {
                Err(too_many("the limit of requests is reached; wait, or ask for another plan", wait))
            }
        }
    }

    /// Counts a request of somebody at `address` who has not said who they are.
    ///
    /// # Errors
    /// 429 when the address has asked for too much, or guessed too often.
    pub async fn admit_address(&self, address: IpAddr) -> Result<()> {
        let address = network(address);
        if let Verdict::Refused(_, wait) = self.verdict(Subject::Address(address), 1).await {
            return Err(too_many("too many requests from this address", wait));
        }
        let wait = self.wait_for_attempt(&Guesser::address(&address.to_string())).await;
        if wait.is_zero() { Ok(()) } else { Err(too_many("too many failed attempts from this address", wait)) }
    }

    /// Counts a failed sign-in from `address`.
    pub async fn address_failed(&self, address: IpAddr) {
        self.attempt_failed(&Guesser::address(&network(address).to_string())).await;
    }

    async fn verdict(&self, subject: Subject, cost: u32) -> Verdict {
        let lease = self.lease(subject);
        if let Some(verdict) = lease.take(cost, self.now()) {
            return verdict;
        }
        let _asking = lease.asking.lock().await;
        if let Some(verdict) = lease.take(cost, self.now()) {
            return verdict; // by the answer that was waited for
        }
        let (kind, limits) = self.limits(subject).await;
        let scarcest = limits[0].min(limits[1]);
        let cost = cost.min(scarcest); // else a dear request would never be answered
        let (wanted, back) = lease.question(cost, scarcest / 100, self.now());
        let [shared, own] = self.keys(subject);
        let both = [(shared.as_str(), limits[0]), (own.as_str(), limits[1])];
        let counters = if shared.is_empty() { &both[1..] } else { &both[..] };
        let answer = self.ask(&Question { counters, wanted, least: cost, back }).await;
        let standing = Standing { kind, limits, left: answer.left, reset_s: answer.reset_ms.div_ceil(1_000) };
        lease.settle(cost, &answer, standing, self.now())
    }

    async fn ask(&self, question: &Question<'_>) -> Answer {
        let keys: Vec<_> = question.counters.iter().map(|(key, _)| (*key).to_owned()).collect();
        let mut call = self.scripts.window.call(&keys);
        call.arg(question.wanted).arg(question.least).arg(question.back).arg(WINDOW_MS);
        call.arg(self.clock.offset().as_millis() as u64);
        for (_, limit) in question.counters {
            call.arg(*limit);
        }
        match self.call::<Vec<u64>>(&call).await.as_deref() {
            Some([granted, wait_ms, reset_ms, left @ ..]) => {
                let first = left.first().copied().unwrap_or_default();
                let left = [first, left.get(1).copied().unwrap_or(first)];
                Answer { granted: *granted as u32, wait_ms: *wait_ms, reset_ms: *reset_ms, left }
            }
            _ => self.local.ask(question, self.now().as_millis() as u64),
        }
    }

    /// Runs a script; None when Redis does not answer, or did not a moment ago.
    async fn call<T: FromRedisValue>(&self, call: &Call<'_>) -> Option<T> {
        let now_ms = self.started.elapsed().as_millis() as u64;
        let next_ms = now_ms + (PATIENCE + PAUSE).as_millis() as u64;
        let down_until = self.down_until.load(Ordering::Relaxed);
        let asks = || self.down_until.compare_exchange(down_until, next_ms, Ordering::Relaxed, Ordering::Relaxed);
        if down_until != 0 && (now_ms < down_until || asks().is_err()) {
            return None; // one of those who come after the pause looks whether it is back
        }
        let error = match tokio::time::timeout(PATIENCE, call.run(&self.redis)).await {
            Ok(Ok(answer)) => {
                if down_until != 0 {
                    self.down_until.store(0, Ordering::Relaxed);
                    tracing::info!("limits are counted in Redis again");
                }
                return Some(answer);
            }
            Ok(Err(error)) => error.to_string(),
            Err(_) => format!("no answer within {PATIENCE:?}"),
        };
        if self.down_until.swap(next_ms, Ordering::Relaxed) == 0 {
            tracing::warn!(error, "limits are counted by this process alone: Redis does not answer");
        }
        None
    }

    async fn limits(&self, subject: Subject) -> (&'static str, [u32; 2]) {
        let (kind, tenant) = match subject {
            Subject::User(tenant, _) => ("user", tenant),
            Subject::ApiKey(tenant, _) => ("api_key", tenant),
            Subject::Address(_) => return ("address", [self.settings.address; 2]),
        };
        let limits = self.settings.of(self.plan(tenant).await);
        (kind, [limits.tenant, if kind == "user" { limits.user } else { limits.api_key }])
    }

    /// The plan of a tenant, a minute old at most. Without the database the smallest one that is not known.
    pub async fn plan(&self, tenant: TenantId) -> Plan {
        self.allowance(tenant).await.0
    }

    /// Has a tenant's plan be read again by this process.
    pub fn forget_plan(&self, tenant: TenantId) {
        self.plans.lock().unwrap_or_else(PoisonError::into_inner).remove(&tenant);
    }

    /// The same with what the tenant is allowed beside it.
    pub async fn allowance(&self, tenant: TenantId) -> (Plan, Overrides) {
        let now = self.now();
        let known = self.plans.lock().unwrap_or_else(PoisonError::into_inner).get(&tenant).copied();
        if let Some((plan, until)) = known
            && now < until
        {
            return plan;
        }
        let look = async {
            let mut tx = self.db.identity().await?;
            let plan = queries::find_plan(&mut tx, tenant).await?;
            tx.commit().await.map(|()| plan)
        };
        let Ok(plan) = look.await else { return known.map_or(Allowance::default(), |(plan, _)| plan) };
        let plan = plan.unwrap_or_default();
        let mut plans = self.plans.lock().unwrap_or_else(PoisonError::into_inner);
        if plans.len() >= SHARDS * SHARD_CAPACITY {
            plans.retain(|_, (_, until)| now < *until);
        }
        plans.insert(tenant, (plan, now + PLAN_TTL));
        plan
    }

    /// Counters in Redis, of one hash tag; the first is empty where there is only one.
    fn keys(&self, subject: Subject) -> [String; 2] {
        let prefix = self.prefix;
        match subject {
            Subject::User(tenant, user) => {
                [format!("{prefix}:limit:{{{tenant}}}"), format!("{prefix}:limit:{{{tenant}}}:user:{user}")]
            }
            Subject::ApiKey(tenant, key) => {
                [format!("{prefix}:limit:{{{tenant}}}"), format!("{prefix}:limit:{{{tenant}}}:key:{key}")]
            }
            Subject::Address(address) => [String::new(), format!("{prefix}:limit:{{{address}}}")],
        }
    }

    fn lease(&self, subject: Subject) -> Arc<Lease> {
        let shard = &self.leases[self.hasher.hash_one(subject) as usize % SHARDS];
        let mut shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(lease) = shard.get(&subject) {
            return lease.clone();
        }
        if shard.len() >= SHARD_CAPACITY {
            let now = self.now();
            shard.retain(|_, lease| Arc::strong_count(lease) > 1 || !lease.is_idle(now));
        }
        let lease = Arc::new(Lease::new());
        if shard.len() < SHARD_CAPACITY * 4 {
            shard.insert(subject, lease.clone());
        }
        lease
    }

    /// Since the start, moved along with a test's clock.
    fn now(&self) -> Duration {
        self.started.elapsed() + self.clock.offset()
    }
}

/// Of an IPv6 address its network: who has one has 2^64.
pub fn network(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V6(v6) => IpAddr::V6((u128::from(v6) & !u128::from(u64::MAX)).into()),
        v4 => v4,
    }
}

/// 429.
pub fn too_many(detail: &'static str, wait: Duration) -> ApiError {
    let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
    ApiError::new(StatusCode::TOO_MANY_REQUESTS, "rate_limited", detail)
        .with_header(header::RETRY_AFTER, HeaderValue::from(seconds.max(1)))
}
