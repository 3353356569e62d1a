//! The ledger and Redis as they are, in the words of [`Promised`].

use std::collections::{BTreeMap, BTreeSet};

use millwork_shared::infra::ids::{JobId, TenantId, WorkerId};
use millwork_shared::jobs::{Queue, State};
use serde::Deserialize;
use sqlx::{PgPool, Row};
use uuid::Uuid;

use super::deeds::base;
use super::promised::{Hold, Job, Life, Promised, Worker};

/// All rows, each as one JSON array.
const LEDGER: &str = r#"
    with base as (select $1::timestamptz as at)
    select coalesce((select json_agg(x) from (
               select tenant_id, id, queue, priority, unique_key, max_attempts from jobs) x), '[]')::text as jobs,
           coalesce((select json_agg(x) from (
               select tenant_id, id, queue, priority, (extract(epoch from run_at - b.at) * 1000)::int8 as run_at, later,
                      running, attempt, lost, max_attempts, lease_owner from job_live, base b) x), '[]')::text as live,
           coalesce((select json_agg(x) from (
               select tenant_id, id, state, attempt from job_outcomes) x), '[]')::text as outcomes,
           coalesce((select json_agg(x) from (
               select tenant_id, id, attempt, ended from job_attempts) x), '[]')::text as attempts,
           coalesce((select json_agg(x) from (
               select tenant_id, unique_key, job_id, (extract(epoch from holds_until - b.at) * 1000)::int8 as until
                 from job_unique, base b) x), '[]')::text as keys,
           coalesce((select json_agg(x) from (select tenant_id, job_id from job_cancels) x), '[]')::text as wishes,
           coalesce((select json_agg(x) from (select tenant_id, queue from queue_pauses) x), '[]')::text as pauses,
           coalesce((select json_agg(x) from (
               select id, (extract(epoch from lease_until - b.at) * 1000)::int8 as lease_until,
                      (extract(epoch from lost_at - b.at) * 1000)::int8 as lost_at,
                      (extract(epoch from stopped_at - b.at) * 1000)::int8 as stopped_at, reaped_at is not null as reaped
                 from workers, base b) x), '[]')::text as workers"#;

#[derive(Debug, Default)]
pub struct Ledger {
    pub jobs: Vec<JobRow>,
    pub live: Vec<LiveRow>,
    pub outcomes: Vec<OutcomeRow>,
    pub attempts: Vec<AttemptRow>,
    pub keys: Vec<KeyRow>,
    pub wishes: Vec<WishRow>,
    pub pauses: Vec<PauseRow>,
    pub workers: Vec<WorkerRow>,
}

#[derive(Debug, Deserialize)]
pub struct JobRow {
    pub tenant_id: TenantId,
    pub id: JobId,
    pub queue: String,
    pub priority: u8,
    pub unique_key: Option<String>,
    pub max_attempts: i16,
}

#[derive(Debug, Deserialize)]
pub struct LiveRow {
    pub tenant_id: TenantId,
    pub id: JobId,
    pub queue: String,
    pub priority: u8,
    pub run_at: i64,
    pub later: bool,
    pub running: bool,
    pub attempt: i16,
    pub lost: i16,
    pub max_attempts: i16,
    pub lease_owner: Option<WorkerId>,
}

#[derive(Debug, Deserialize)]
pub struct OutcomeRow {
    pub tenant_id: TenantId,
    pub id: JobId,
    pub state: State,
    pub attempt: i16,
}

#[derive(Debug, Deserialize)]
pub struct AttemptRow {
    pub tenant_id: TenantId,
    pub id: JobId,
    pub attempt: i16,
    pub ended: String,
}

#[derive(Debug, Deserialize)]
pub struct KeyRow {
    pub tenant_id: TenantId,
    pub unique_key: String,
    pub job_id: JobId,
    pub until: Option<i64>,
}

#[derive(Debug, Deserialize)]
pub struct WishRow {
    pub tenant_id: TenantId,
    pub job_id: JobId,
}

#[derive(Debug, Deserialize)]
pub struct PauseRow {
    pub tenant_id: TenantId,
    pub queue: String,
}

#[derive(Debug, Deserialize)]
pub struct WorkerRow {
    pub id: WorkerId,
    pub lease_until: i64,
    pub lost_at: Option<i64>,
    pub stopped_at: Option<i64>,
    pub reaped: bool,
}

impl Ledger {
    pub async fn read(owner: &PgPool) -> Self {
        let row = sqlx::query(LEDGER).bind(base()).fetch_one(owner).await.unwrap();
        fn part<'de, T: Deserialize<'de>>(row: &'de sqlx::postgres::PgRow, name: &str) -> Vec<T> {
            serde_json::from_str(row.get(name)).unwrap()
        }
        Self {
            jobs: part(&row, "jobs"),
            live: part(&row, "live"),
            outcomes: part(&row, "outcomes"),
            attempts: part(&row, "attempts"),
            keys: part(&row, "keys"),
            wishes: part(&row, "wishes"),
            pauses: part(&row, "pauses"),
            workers: part(&row, "workers"),
        }
    }

    /// The same as the model would have it. Call it only after the promises that need no model.
    pub fn as_promised(&self, now: i64) -> Promised {
        let life = |tenant: TenantId, id: JobId| -> Life {
            if let Some(row) = self.live.iter().find(|row| row.id == id) {
                let LiveRow { run_at, later, attempt, lost, max_attempts: max, lease_owner: owner, .. } = *row;
                return Life::Live { run_at, later, attempt, lost, max, owner };
            }
            let row = self.outcomes.iter().find(|row| (row.tenant_id, row.id) == (tenant, id)).unwrap();
            Life::Ended { state: row.state, attempt: row.attempt }
        };
        let ended = ["retry", "lost", "failed", "cancelled"];
        let jobs = self.jobs.iter().map(|row| {
            let attempts = self.attempts.iter().filter(|a| (a.tenant_id, a.id) == (row.tenant_id, row.id)).map(|a| {
                let ended = ended.into_iter().find(|e| *e == a.ended).unwrap_or("something else");
                (a.attempt, ended)
            });
            let job = Job {
                tenant: row.tenant_id,
                queue: row.queue.parse().unwrap(),
                priority: row.priority,
                key: row.unique_key.clone(),
                max_attempts: row.max_attempts,
                life: life(row.tenant_id, row.id),
                attempts: attempts.collect(),
                wish: self.wishes.iter().any(|wish| (wish.tenant_id, wish.job_id) == (row.tenant_id, row.id)),
            };
            (row.id, job)
        });
        let workers = self.workers.iter().map(|row| {
            let WorkerRow { lease_until, lost_at, stopped_at, reaped, .. } = *row;
            (row.id, Worker { lease_until, lost_at, stopped_at, reaped })
        });
        let keys = self.keys.iter();
        let keys = keys.map(|k| ((k.tenant_id, k.unique_key.clone()), Hold { job: k.job_id, until: k.until }));
        Promised {
            now,
            jobs: jobs.collect(),
            workers: workers.collect(),
            paused: self.pauses.iter().map(|row| (row.tenant_id, row.queue.parse().unwrap())).collect(),
            keys: keys.collect(),
        }
    }
}

/// What Redis has of one queue.
#[derive(Debug, Default)]
pub struct Tickets {
    pub ready: BTreeSet<(TenantId, u8, JobId)>,
    pub ring: BTreeSet<TenantId>,
}

impl Tickets {
    pub async fn read(
        redis: &mut redis::aio::MultiplexedConnection,
        prefix: &str,
        queues: &[Queue],
    ) -> BTreeMap<Queue, Self> {
        let mut pipe = redis::pipe();
        for queue in queues {
            for part in ["ready", "ring"] {
                pipe.cmd("ZRANGE").arg(format!("{prefix}:{{{queue}}}:{part}")).arg(0).arg(-1);
            }
        }
        let sets: Vec<Vec<Vec<u8>>> = pipe.query_async(redis).await.unwrap();
        let read = queues.iter().zip(sets.chunks(2)).map(|(queue, sets)| {
            let ready = sets[0].iter().map(|ticket| {
                assert_eq!(ticket.len(), 33, "a ticket has 33 bytes");
                let id = |bytes: &[u8]| Uuid::from_slice(bytes).unwrap();
                (TenantId(id(&ticket[..16])), 9 - ticket[16], JobId(id(&ticket[17..])))
            });
            let ring = sets[1].iter().map(|tenant| TenantId(Uuid::from_slice(tenant).unwrap()));
            (*queue, Self { ready: ready.collect(), ring: ring.collect() })
        });
        read.collect()
    }
}
