//! Ids to and from Redis.
//!
//! A queue keeps three things there: `ready`, a sorted set of tickets (all of score 0, so that it is ordered by their
//! bytes: tenant, priority, job); `ring`, the tenants that have tickets, in the order of their turn; and `full`, the
//! lanes of which the ledger holds more than the window. Everything is a set, so that offering an id twice, or putting
//! everything back after a FLUSHALL, is harmless. Keys of one queue share a hash tag: on a cluster each queue is on one node,
//! and no command or script has to do with two queues.

use std::time::Duration;

use uuid::Uuid;

use super::{NewJob, Priority, Queue};
use crate::Result;
use crate::infra::ids::{JobId, TenantId};
use crate::infra::redis::{Look, Redis, Script};

/// Tickets of one lane that Redis holds at most; the rest waits in the ledger.
pub const WINDOW: usize = 2_000;
/// Below this many a lane that has more in the ledger asks the scheduler for them.
const LOW_WATER: usize = WINDOW / 2;
/// Ids sent in one call.
const CHUNK: usize = 1_000;

/// A job's place in the queue: what Redis carries. 33 bytes: tenant, 9 − priority, job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Ticket {
    pub tenant: TenantId,
    pub id: JobId,
    pub queue: Queue,
    pub priority: Priority,
}

impl Ticket {
    /// From the ledger's columns; none for a queue or priority that this build does not know.
    pub fn from_columns(tenant: TenantId, id: JobId, queue: Queue, priority: i16) -> Option<Self> {
        Some(Self { tenant, id, queue, priority: Priority::new(u8::try_from(priority).ok()?)? })
    }

    fn to_bytes(self) -> [u8; 33] {
        let mut bytes = [0; 33];
        bytes[..17].copy_from_slice(&self.lane().to_bytes());
        bytes[17..].copy_from_slice(self.id.0.as_bytes());
        bytes
    }

    fn from_bytes(queue: Queue, bytes: &[u8]) -> Option<Self> {
        let (lane, id) = bytes.split_at_checked(17)?;
        let Lane { tenant, priority, .. } = Lane::from_bytes(queue, lane)?;
        Some(Self { tenant, id: JobId(Uuid::from_slice(id).ok()?), queue, priority })
    }

    pub fn lane(self) -> Lane {
        Lane { queue: self.queue, tenant: self.tenant, priority: self.priority }
    }
}

impl From<&NewJob> for Ticket {
    fn from(job: &NewJob) -> Self {
        Self { tenant: job.tenant, id: job.id, queue: job.queue, priority: job.priority }
    }
}

impl sqlx::FromRow<'_, sqlx::postgres::PgRow> for Ticket {
    fn from_row(row: &sqlx::postgres::PgRow) -> sqlx::Result<Self> {
        use sqlx::Row;
        let queue: &str = row.try_get("queue")?;
        let queue = queue.parse().map_err(|e: String| sqlx::Error::Decode(e.into()))?;
        let priority = row.try_get("priority")?;
        Self::from_columns(row.try_get("tenant_id")?, row.try_get("id")?, queue, priority)
            .ok_or_else(|| sqlx::Error::Decode(format!("priority {priority} is not in 0..9").into()))
    }
}

/// One tenant's jobs of one priority in one queue: the unit of admission.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Lane {
    pub queue: Queue,
    pub tenant: TenantId,
    pub priority: Priority,
}

impl Lane {
    pub fn from_columns(queue: &str, tenant: TenantId, priority: i16) -> Option<Self> {
        let priority = Priority::new(u8::try_from(priority).ok()?)?;
        Some(Self { queue: queue.parse().ok()?, tenant, priority })
    }

    fn to_bytes(self) -> [u8; 17] {
        let mut bytes = [0; 17];
        bytes[..16].copy_from_slice(self.tenant.0.as_bytes());
        bytes[16] = Priority::MAX.get() - self.priority.get();
        bytes
    }

    fn from_bytes(queue: Queue, bytes: &[u8]) -> Option<Self> {
        let (tenant, rest) = bytes.split_at_checked(16)?;
        let priority = Priority::new(Priority::MAX.get().checked_sub(*rest.first()?)?)?;
        Some(Self { queue, tenant: TenantId(Uuid::from_slice(tenant).ok()?), priority })
    }
}

/// Where offered tickets come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Source {
    /// Just stored: refused where older ones of their lane still wait in the ledger.
    Intake,
    /// The scheduler, in the ledger's order.
    Ledger,
}

/// Carries tickets from who stores jobs to who runs them. Cheap to clone.
#[derive(Clone)]
pub struct Dispatcher {
    redis: Redis,
    /// First part of every key, before the hash tag; tests keep apart by it.
    prefix: &'static str,
    scripts: std::sync::Arc<Scripts>,
}

struct Scripts {
    offer: Script,
    take: Script,
    room: Script,
    pause: Script,
    resume: Script,
}

/// How many tickets each tenant may still get from one call.
#[derive(Debug, Clone)]
pub struct Share {
    /// Tenants with a limit of their own.
    pub of: Vec<(TenantId, usize)>,
    /// Everyone else.
    pub rest: usize,
}

impl Dispatcher {
    pub fn new(redis: Redis) -> Self {
        Self::with_prefix(redis, "mw")
    }

    /// What its keys start with.
    pub fn prefix(&self) -> &'static str {
        self.prefix
    }

    /// A dispatcher whose keys start with `prefix`.
    pub fn with_prefix(redis: Redis, prefix: &'static str) -> Self {
        let scripts = Scripts {
            offer: Script::new(include_str!("dispatch/offer.lua")),
            take: Script::new(include_str!("dispatch/take.lua")),
            room: Script::new(include_str!("dispatch/room.lua")),
            pause: Script::new(include_str!("dispatch/pause.lua")),
            resume: Script::new(include_str!("dispatch/resume.lua")),
        };
        Self { redis, prefix, scripts: std::sync::Arc::new(scripts) }
    }

    /// Offers tickets of jobs that were just committed, without waiting for the outcome: the scheduler finds in the
    /// ledger what does not arrive.
    pub fn offer_soon(&self, tickets: Vec<Ticket>) {
        if tickets.is_empty() {
            return;
        }
        let this = self.clone();
        crate::infra::tasks::detach(async move {
            if let Err(error) = this.offer_from(Source::Intake, &tickets).await {
                tracing::debug!(%error, jobs = tickets.len(), "tickets not offered; the scheduler will find them");
            }
        });
    }

    /// Offers the jobs that are due now; see [`offer_soon`](Self::offer_soon).
    pub fn offer(&self, jobs: &[NewJob]) {
        self.offer_soon(jobs.iter().filter(|job| job.due == super::Due::Now).map(Ticket::from).collect());
    }

    /// Offers tickets of jobs that were just stored, and waits. Answers how many Redis did not have and took.
    pub async fn offer_now(&self, tickets: &[Ticket]) -> Result<usize> {
        self.offer_from(Source::Intake, tickets).await
    }

    /// Offers what the scheduler read from the ledger. Answers as [`offer_now`](Self::offer_now) does.
    pub async fn admit(&self, tickets: &[Ticket]) -> Result<usize> {
        self.offer_from(Source::Ledger, tickets).await
    }

    /// Each queue by itself and all at once: on a cluster they are on several nodes, and one that does not answer must not
    /// keep tickets from the others. Fails when any of them did.
    async fn offer_from(&self, source: Source, tickets: &[Ticket]) -> Result<usize> {
        let offers = Queue::ALL.map(|queue| self.offer_in(queue, source, tickets));
        futures::future::join_all(offers).await.into_iter().sum()
    }

    async fn offer_in(&self, queue: Queue, source: Source, tickets: &[Ticket]) -> Result<usize> {
        let mut added = 0;
        let members: Vec<_> = tickets.iter().filter(|t| t.queue == queue).map(|t| t.to_bytes()).collect();
        for chunk in members.chunks(CHUNK) {
            let keys = self.keys(queue, ["ready", "ring", "wake", "full", "admit", "admit:wake", "paused"]);
            let mut call = self.scripts.offer.call(&keys);
            call.arg(WINDOW).arg(i32::from(source == Source::Ledger));
            for member in chunk {
                call.arg(&member[..]);
            }
            added += call.run::<usize>(&self.redis).await?;
        }
        Ok(added)
    }

    /// Takes up to `limit` tickets, by turns of the tenants: of each at most `share.rest`, or what `share.of` says.
    pub async fn take(&self, queue: Queue, limit: usize, share: &Share) -> Result<Vec<Ticket>> {
        let keys = self.keys(queue, ["ready", "ring", "wake", "full", "admit", "admit:wake"]);
        let mut call = self.scripts.take.call(&keys);
        call.arg(limit).arg(LOW_WATER).arg(share.rest);
        for (tenant, left) in &share.of {
            call.arg(&tenant.0.as_bytes()[..]).arg(left);
        }
        let members: Vec<Vec<u8>> = call.run(&self.redis).await?;
        Ok(members.iter().filter_map(|m| Ticket::from_bytes(queue, m)).collect())
    }

    /// Waits until `queue` may have tickets, or `longest`. `connection` is the caller's own: the call blocks it.
    pub async fn wait(&self, connection: &Redis, queue: Queue, longest: Duration) -> Result<()> {
        self.block_on(connection, &self.key(queue, "wake"), longest).await
    }

    /// Waits until a lane of `queue` asks for more from the ledger, or `longest`.
    pub async fn wait_for_demand(&self, connection: &Redis, queue: Queue, longest: Duration) -> Result<()> {
        self.block_on(connection, &self.key(queue, "admit:wake"), longest).await
    }

    async fn block_on(&self, connection: &Redis, key: &str, longest: Duration) -> Result<()> {
        let mut pop = redis::cmd("BLPOP");
        connection.query::<Option<(String, String)>>(pop.arg(key).arg(longest.as_secs_f64())).await.map(drop)
    }

    /// The lanes of `queue` that ask for more, at most 1,000; each is told once.
    pub async fn demands(&self, queue: Queue) -> Result<Vec<Lane>> {
        let mut pop = redis::cmd("SPOP");
        let lanes: Vec<Vec<u8>> = self.redis.query(pop.arg(self.key(queue, "admit")).arg(1_000)).await?;
        Ok(lanes.iter().filter_map(|lane| Lane::from_bytes(queue, lane)).collect())
    }

    /// How many more tickets each lane may hold. The lanes must be of one queue.
    pub async fn room(&self, queue: Queue, lanes: &[Lane]) -> Result<Vec<usize>> {
        let keys = self.keys(queue, ["ready"]);
        let mut call = self.scripts.room.call(&keys);
        call.arg(WINDOW);
        for lane in lanes {
            call.arg(&lane.to_bytes()[..]);
        }
        let room: Vec<i64> = call.run(&self.redis).await?;
        Ok(room.into_iter().map(|n| usize::try_from(n).unwrap_or(0)).collect())
    }

    /// Says that the ledger holds more of `lane` than the window: intake goes behind it.
    pub async fn mark_full(&self, lane: Lane) -> Result<()> {
        self.set("SADD", lane.queue, "full", &lane.to_bytes()).await
    }

    /// Takes the mark of [`mark_full`](Self::mark_full) away.
    pub async fn unmark_full(&self, lane: Lane) -> Result<()> {
        self.set("SREM", lane.queue, "full", &lane.to_bytes()).await
    }

    /// Whether the lane was resumed since this was asked last: it lacks tickets that it had before.
    pub async fn begins_afresh(&self, lane: Lane) -> Result<bool> {
        let mut command = redis::cmd("SREM");
        command.arg(self.key(lane.queue, "afresh")).arg(&lane.to_bytes()[..]);
        Ok(self.redis.query::<i64>(&command).await? == 1)
    }

    /// Drops what a tenant has in a queue and takes nothing more: the ledger keeps it.
    pub async fn pause(&self, queue: Queue, tenant: TenantId) -> Result<()> {
        let keys = self.keys(queue, ["ready", "ring", "paused"]);
        self.scripts.pause.call(&keys).arg(&tenant.0.as_bytes()[..]).run(&self.redis).await
    }

    /// Takes tickets of a tenant again, and asks the scheduler for them.
    pub async fn resume(&self, queue: Queue, tenant: TenantId) -> Result<()> {
        let keys = self.keys(queue, ["admit", "admit:wake", "paused", "afresh"]);
        let mut call = self.scripts.resume.call(&keys);
        call.arg(&tenant.0.as_bytes()[..]);
        for priority in (0..=9).filter_map(Priority::new) {
            call.arg(&Lane { queue, tenant, priority }.to_bytes()[..]);
        }
        call.run(&self.redis).await
    }

    /// Makes the paused tenants of `queue` exactly those of the ledger.
    pub async fn sync_pauses(&self, queue: Queue, paused: &[TenantId]) -> Result<()> {
        let known: Vec<Vec<u8>> = self.redis.query(redis::cmd("SMEMBERS").arg(self.key(queue, "paused"))).await?;
        let known: Vec<TenantId> = known.iter().filter_map(|t| Uuid::from_slice(t).ok()).map(TenantId).collect();
        for tenant in known.iter().filter(|t| !paused.contains(t)) {
            self.resume(queue, *tenant).await?;
        }
        for tenant in paused.iter().filter(|t| !known.contains(t)) {
            self.pause(queue, *tenant).await?;
        }
        Ok(())
    }

    /// How Redis is, for health checks.
    pub async fn look(&self) -> Look {
        self.redis.look().await
    }

    async fn set(&self, command: &str, queue: Queue, key: &str, member: &[u8]) -> Result<()> {
        self.redis.query(redis::cmd(command).arg(self.key(queue, key)).arg(member)).await
    }

    fn keys<const N: usize>(&self, queue: Queue, parts: [&str; N]) -> [String; N] {
        parts.map(|part| self.key(queue, part))
    }

    fn key(&self, queue: Queue, part: &str) -> String {
        format!("{}:{{{}}}:{part}", self.prefix, queue.as_str())
    }
}
