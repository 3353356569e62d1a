//! The real stores beside the model of them, step by step.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use chrono::SecondsFormat;
use millwork_scheduler::admit::Admission;
use millwork_shared::infra::ids::{JobId, TenantId, WorkerId};
use millwork_shared::jobs::dispatch::{Dispatcher, Lane, Share, Ticket};
use millwork_shared::jobs::{Due, NewJob, Priority, Queue, State, Unique, queries};
use millwork_shared::testing::{self, TestDb};
use sqlx::{AssertSqlSafe, PgPool};

use super::deeds::{Deed, Run, Seen, base};
use super::promised::Promised;
use super::promises::{self, History};
use super::snapshot::{Ledger, Tickets};
use super::steps::{Act, Manner, Pick, Said, Step, When, Wish};

const QUEUES: [Queue; 2] = [Queue::Default, Queue::Email];
const WORKERS: usize = 3;
const TENANTS: usize = 2;
const ANY: Share = Share { of: Vec::new(), rest: usize::MAX >> 1 };
/// How long the first of two waits before it commits: long enough for the other to run into its locks, mostly.
const LINGER: Duration = Duration::from_millis(4);
/// Rounds within which everything ends that is waited for at the end of a case.
const LAST_ROUNDS: usize = 8;

/// What is the same for all cases: a database whose clock stands, and a Redis.
pub struct Ground {
    test: TestDb,
    owner: PgPool,
    redis: redis::aio::MultiplexedConnection,
}

impl Ground {
    pub async fn prepare() -> Self {
        let test = TestDb::create().await;
        let owner = test.owner().await;
        // Nothing here crashes: the disk is not waited for.
        let name: String = sqlx::query_scalar("select current_database()").fetch_one(&owner).await.unwrap();
        let relaxed = format!("alter database {name} set synchronous_commit = off");
        sqlx::raw_sql(AssertSqlSafe(relaxed)).execute(&owner).await.unwrap();
        let client = redis::Client::open(testing::redis_url()).unwrap();
        Self { test, owner, redis: client.get_multiplexed_async_connection().await.unwrap() }
    }

    /// Sets the ledger's clock, which stands still between.
    async fn set_clock(&self, now: i64) {
        let at = (base() + Duration::from_millis(now.unsigned_abs())).to_rfc3339_opts(SecondsFormat::Millis, true);
        let sql = format!(
            "create or replace function ledger_now() returns timestamptz language sql stable return timestamptz '{at}'"
        );
        sqlx::raw_sql(AssertSqlSafe(sql)).execute(&self.owner).await.unwrap();
    }

    async fn clear(&self) {
        let tables = [
            "jobs",
            "job_live",
            "job_outcomes",
            "job_attempts",
            "job_unique",
            "job_cancels",
            "queue_pauses",
            "workers",
        ];
        let sql: Vec<_> = tables.iter().map(|table| format!("delete from {table}")).collect();
        sqlx::raw_sql(AssertSqlSafe(sql.join("; "))).execute(&self.owner).await.unwrap();
    }
}

/// One case.
pub struct Stage<'a> {
    ground: &'a Ground,
    redis: redis::aio::MultiplexedConnection,
    prefix: &'static str,
    dispatcher: Dispatcher,
    admission: Admission,
    tenants: Vec<TenantId>,
    workers: Vec<WorkerId>,
    /// Tickets that each worker has taken and not yet claimed.
    taken: Vec<Vec<Ticket>>,
    /// Tickets that somebody is about to offer, each with its source.
    offers: Vec<(bool, Ticket)>,
    /// Every claim, oldest first.
    runs: Vec<Run>,
    promised: Promised,
    history: History,
}

impl<'a> Stage<'a> {
    pub async fn set(ground: &'a Ground) -> Self {
        ground.clear().await;
        ground.set_clock(0).await;
        let (mut tenants, prefix) = (Vec::new(), testing::key_prefix());
        for n in 0..TENANTS {
            tenants.push(ground.test.tenant(&format!("tenant {n}")).await);
        }
        let dispatcher = Dispatcher::with_prefix(testing::redis(), prefix);
        let mut stage = Self {
            ground,
            redis: ground.redis.clone(),
            prefix,
            admission: Admission::new(ground.test.db.system(), dispatcher.clone()),
            dispatcher,
            tenants,
            workers: Vec::new(),
            taken: vec![Vec::new(); WORKERS],
            offers: Vec::new(),
            runs: Vec::new(),
            promised: Promised::default(),
            history: History::default(),
        };
        for _ in 0..WORKERS {
            let id = WorkerId::generate();
            stage.workers.push(id);
            stage.do_deed(&Deed::Register { id }).await.unwrap();
        }
        stage
    }

    /// Does one step in both, and compares.
    pub async fn step(&mut self, step: &Step) -> Result<(), String> {
        let mut healed = false;
        match step {
            Step::Act(act) => match self.deed(act) {
                Some(deed) => self.do_deed(&deed).await?,
                None => return Ok(()),
            },
            Step::Race { first, second, linger } => {
                let (Some(first), Some(second)) = (self.deed(first), self.deed(second)) else { return Ok(()) };
                // A claim under way while its worker is given up is found by the second look, as decision 0004 says.
                if matches!((&first, &second), (Deed::Claim { .. }, Deed::Reap) | (Deed::Reap, Deed::Claim { .. })) {
                    self.do_deed(&first).await?;
                    self.do_deed(&second).await?;
                } else {
                    self.race(&first, &second, if *linger { LINGER } else { Duration::ZERO }).await?;
                }
            }
            Step::Advance(seconds) => {
                self.promised.now += seconds * 1_000;
                self.ground.set_clock(self.promised.now).await;
            }
            Step::Offer => {
                let (admitted, stored): (Vec<_>, Vec<_>) = self.offers.drain(..).partition(|(admitted, _)| *admitted);
                let tickets = |offers: Vec<(bool, Ticket)>| offers.into_iter().map(|(_, t)| t).collect::<Vec<_>>();
                self.dispatcher.offer_now(&tickets(stored)).await.unwrap();
                self.dispatcher.admit(&tickets(admitted)).await.unwrap();
            }
            Step::LoseOffers => self.offers.clear(),
            Step::Take { worker, queue, limit } => {
                let tickets = self.dispatcher.take(nth(&QUEUES, *queue), *limit, &ANY).await.unwrap();
                self.taken[usize::from(*worker) % WORKERS].extend(tickets);
            }
            Step::ClaimTaken { worker } => {
                let worker = usize::from(*worker) % WORKERS;
                let tickets = std::mem::take(&mut self.taken[worker]);
                self.do_deed(&Deed::Claim { owner: self.workers[worker], tickets }).await?;
            }
            Step::LoseTaken { worker } => self.taken[usize::from(*worker) % WORKERS].clear(),
            Step::TellPause { tenant, queue } => {
                let (tenant, queue) = (nth(&self.tenants, *tenant), nth(&QUEUES, *queue));
                if self.promised.paused.contains(&(tenant, queue)) {
                    self.dispatcher.pause(queue, tenant).await.unwrap();
                } else {
                    self.dispatcher.resume(queue, tenant).await.unwrap();
                }
            }
            Step::Wipe => self.wipe().await,
            Step::LookForDue => {
                let mut tx = self.ground.test.db.system().system_relaxed().await.unwrap();
                let (tickets, _) = queries::list_due(&mut tx, None, 5_000).await.unwrap();
                tx.commit().await.unwrap();
                self.offers.extend(tickets.into_iter().map(|ticket| (false, ticket)));
            }
            Step::ReadLane { job } => {
                let Some(job) = self.job(*job) else { return Ok(()) };
                let job = &self.promised.jobs[&job];
                let priority = Priority::new(job.priority).unwrap();
                let lane = Lane { queue: job.queue, tenant: job.tenant, priority };
                let mut tx = self.ground.test.db.system().system_by_index().await.unwrap();
                let due = queries::list_lane(&mut tx, lane, None, 100).await.unwrap();
                tx.commit().await.unwrap();
                let ticket = |id| Ticket { tenant: lane.tenant, id, queue: lane.queue, priority };
                self.offers.extend(due.iter().map(|job| (true, ticket(job.id))));
            }
            Step::Rescan => {
                self.admission.rescan_once().await.map_err(|e| e.to_string())?;
                healed = true;
            }
        }
        self.check(healed).await
    }

    /// Whatever happened, everything that was accepted ends once workers come and stay.
    pub async fn bring_to_an_end(&mut self) -> Result<(), String> {
        for queue in 0..QUEUES.len() as Pick {
            for tenant in 0..TENANTS as Pick {
                self.step(&Step::Act(Act::Resume { tenant, queue })).await?;
                self.step(&Step::TellPause { tenant, queue }).await?;
            }
        }
        for _ in 0..LAST_ROUNDS {
            self.step(&Step::Advance(61)).await?;
            self.step(&Step::Act(Act::Reap)).await?;
            let unended = |promised: &Promised| promised.jobs.values().any(|job| !job.state(promised.now).is_end());
            if !unended(&self.promised) {
                return Ok(());
            }
            self.step(&Step::Act(Act::Heartbeat { worker: 0 })).await?;
            self.step(&Step::Rescan).await?;
            for queue in 0..QUEUES.len() as Pick {
                self.step(&Step::Take { worker: 0, queue, limit: 500 }).await?;
            }
            let before = self.runs.len();
            self.step(&Step::ClaimTaken { worker: 0 }).await?;
            let claimed = self.runs[before..].to_vec();
            for run in claimed {
                self.do_deed(&Deed::Complete { run, said: Said::Done }).await?;
            }
        }
        let left = self.promised.jobs.iter().filter(|(_, job)| !job.state(self.promised.now).is_end());
        Err(format!("these never end: {:#?}", left.collect::<BTreeMap<_, _>>()))
    }

    async fn do_deed(&mut self, deed: &Deed) -> Result<(), String> {
        let promised = self.promised.apply(deed);
        let done = deed.done(&self.ground.test.db, Duration::ZERO).await;
        let (seen, tickets) = done.map_err(|error| format!("{deed:?} failed: {error:#}"))?;
        if seen != promised {
            return Err(format!("{deed:?} was to be answered by\n  {promised:?}, and was by\n  {seen:?}"));
        }
        self.note(deed, &seen, tickets)
    }

    /// Two at once: what both are told, and what is then stored, must be as if one had come after the other.
    async fn race(&mut self, first: &Deed, second: &Deed, linger: Duration) -> Result<(), String> {
        let db = &self.ground.test.db;
        let (one, other) = tokio::join!(first.done(db, linger), second.done(db, Duration::ZERO));
        let (one, one_offers) = one.map_err(|error| format!("{first:?} failed: {error:#}"))?;
        let (other, other_offers) = other.map_err(|error| format!("{second:?} failed: {error:#}"))?;
        let ledger = Ledger::read(&self.ground.owner).await;
        let mut accepted = self.history.accepted.clone();
        for (deed, seen) in [(first, &one), (second, &other)] {
            accepted.extend(stored(deed, seen));
        }
        self.history.accepted = accepted;
        told(promises::ledger(&ledger, &self.history))?;
        let stored = ledger.as_promised(self.promised.now);
        let forward = in_order(&self.promised, first, second);
        let backward = in_order(&self.promised, second, first);
        let seen = (one.clone(), other.clone());
        let is_forward = forward.1 == seen && forward.0 == stored;
        let is_backward = (backward.1.1.clone(), backward.1.0.clone()) == seen && backward.0 == stored;
        if !is_forward && !is_backward {
            return Err(format!(
                "at once, neither order explains it:\n  {first:?}\n    was answered by {one:?}\n  {second:?}\n    was \
                 answered by {other:?}\n  first to last: {:?}, {}\n  last to first: {:?}, {}",
                forward.1,
                difference(&forward.0, &stored),
                backward.1,
                difference(&backward.0, &stored),
            ));
        }
        self.promised = stored;
        let notes = [(first, one, one_offers), (second, other, other_offers)];
        let order: Vec<_> = if is_forward { notes.into() } else { notes.into_iter().rev().collect() };
        order.into_iter().try_for_each(|(deed, seen, offers)| self.note(deed, &seen, offers))
    }

    /// Remembers what happened, for the promises that a single state does not show.
    fn note(&mut self, deed: &Deed, seen: &Seen, offers: Vec<Ticket>) -> Result<(), String> {
        self.offers.extend(offers.into_iter().map(|ticket| (false, ticket)));
        self.history.accepted.extend(stored(deed, seen));
        match (deed, seen) {
            (_, Seen::Claimed(runs)) => {
                self.runs.extend(runs.iter().cloned());
                if let Some(run) = runs.iter().find(|run| self.history.cancelled.contains(&run.id)) {
                    return Err(format!("runs after it was cancelled: {run:?}"));
                }
            }
            (Deed::Cancel { id, .. }, Seen::Cancelled | Seen::CancelRequested) => {
                self.history.cancelled.insert(*id);
            }
            (Deed::RetryNow { id, .. }, Seen::Tickets(_)) => {
                self.history.cancelled.remove(id);
            }
            (Deed::Complete { run, said: Said::Done }, Seen::Accepted(true))
                if !self.history.succeeded.insert(run.id) =>
            {
                return Err(format!("succeeded twice: {run:?}"));
            }
            (Deed::Heartbeat { owner }, Seen::Renewed(false)) => self.replace(*owner),
            (Deed::Claim { owner, .. }, Seen::LeaseGone) => self.replace(*owner),
            _ => {}
        }
        Ok(())
    }

    /// A worker that learns that it was given up starts afresh; it is made known by its first heartbeat here.
    fn replace(&mut self, owner: WorkerId) {
        if let Some(worker) = self.workers.iter_mut().find(|worker| **worker == owner) {
            *worker = WorkerId::generate();
        }
    }

    async fn check(&mut self, healed: bool) -> Result<(), String> {
        for n in 0..WORKERS {
            let id = self.workers[n];
            if !self.promised.workers.contains_key(&id) {
                self.do_deed(&Deed::Register { id }).await?;
            }
        }
        let ledger = Ledger::read(&self.ground.owner).await;
        told(promises::ledger(&ledger, &self.history))?;
        let stored = ledger.as_promised(self.promised.now);
        if stored != self.promised {
            return Err(difference(&self.promised, &stored));
        }
        let tickets = Tickets::read(&mut self.redis, self.prefix, &QUEUES).await;
        told(promises::tickets(&tickets, &self.promised, healed))?;
        for &tenant in &self.tenants {
            self.check_shown(tenant).await?;
        }
        Ok(())
    }

    /// What the tenant is shown, by the queries behind `GET /jobs`.
    async fn check_shown(&self, tenant: TenantId) -> Result<(), String> {
        let ids: Vec<JobId> = self.promised.jobs.keys().copied().collect();
        let mut tx = self.ground.test.db.tenant(tenant).await.unwrap();
        let shown = queries::list_states(&mut tx, &ids).await.unwrap();
        tx.commit().await.unwrap();
        let shown: BTreeSet<(JobId, &str, i16)> =
            shown.iter().map(|row| (row.id, row.state().as_str(), row.attempt)).collect();
        let own = self.promised.jobs.iter().filter(|(_, job)| job.tenant == tenant);
        let state = |job: &super::promised::Job| -> State { job.state(self.promised.now) };
        let promised: BTreeSet<_> = own.map(|(id, job)| (*id, state(job).as_str(), job.attempt())).collect();
        if shown == promised {
            return Ok(());
        }
        Err(format!("shown are {:?} instead of {:?}", &shown - &promised, &promised - &shown))
    }

    async fn wipe(&mut self) {
        let keys: Vec<String> =
            redis::cmd("KEYS").arg(format!("{}:*", self.prefix)).query_async(&mut self.redis).await.unwrap();
        if !keys.is_empty() {
            let _: i64 = redis::cmd("DEL").arg(&keys).query_async(&mut self.redis).await.unwrap();
        }
    }

    /// The act with ids for its picks; none when there is nothing to pick from.
    fn deed(&self, act: &Act) -> Option<Deed> {
        let worker = |pick: Pick| nth(&self.workers, pick);
        Some(match act {
            Act::Submit { tenant, jobs, manner } => {
                let tenant = nth(&self.tenants, *tenant);
                Deed::Submit { jobs: jobs.iter().map(|wish| self.wanted(tenant, wish)).collect(), manner: *manner }
            }
            Act::Claim { worker: pick, jobs } => {
                let tickets = jobs.iter().filter_map(|job| self.ticket(self.job(*job)?)).collect();
                Deed::Claim { owner: worker(*pick), tickets }
            }
            Act::Complete { job, run, outcome } => Deed::Complete { run: self.run(*job, *run)?, said: *outcome },
            Act::Release { job, run } => Deed::Release { run: self.run(*job, *run)? },
            Act::Heartbeat { worker: pick } => Deed::Heartbeat { owner: worker(*pick) },
            Act::Stop { worker: pick } => Deed::Stop { owner: worker(*pick) },
            Act::Reap => Deed::Reap,
            Act::Cancel { job, by_stranger } => {
                let id = self.job(*job)?;
                let own = self.promised.jobs[&id].tenant;
                let stranger = self.tenants.iter().find(|tenant| **tenant != own);
                Deed::Cancel { tenant: stranger.copied().filter(|_| *by_stranger).unwrap_or(own), id }
            }
            Act::RetryNow { job } => {
                let id = self.job(*job)?;
                Deed::RetryNow { tenant: self.promised.jobs[&id].tenant, id }
            }
            Act::Pause { tenant, queue } => {
                Deed::Pause { tenant: nth(&self.tenants, *tenant), queue: nth(&QUEUES, *queue) }
            }
            Act::Resume { tenant, queue } => {
                Deed::Resume { tenant: nth(&self.tenants, *tenant), queue: nth(&QUEUES, *queue) }
            }
        })
    }

    fn job(&self, pick: Pick) -> Option<JobId> {
        let count = self.promised.jobs.len();
        self.promised.jobs.keys().nth(usize::from(pick).checked_rem(count)?).copied()
    }

    fn ticket(&self, id: JobId) -> Option<Ticket> {
        let job = &self.promised.jobs[&id];
        Some(Ticket { tenant: job.tenant, id, queue: job.queue, priority: Priority::new(job.priority)? })
    }

    /// The last run of a job, or one before it: a late result.
    fn run(&self, job: Pick, back: Pick) -> Option<Run> {
        let id = self.job(job)?;
        let runs: Vec<&Run> = self.runs.iter().rev().filter(|run| run.id == id).collect();
        runs.get(usize::from(back).checked_rem(runs.len())?).copied().cloned()
    }

    fn wanted(&self, tenant: TenantId, wish: &Wish) -> NewJob {
        let payload = serde_json::value::RawValue::NULL.to_owned();
        let job = NewJob::of(tenant, &millwork_shared::jobs::kinds::Echo(payload)).unwrap();
        let due = match wish.due {
            When::Now => Due::Now,
            When::In(seconds) => Due::In(Duration::from_secs(seconds)),
            When::At(seconds) => Due::At(base() + chrono::TimeDelta::milliseconds(self.promised.now + seconds * 1_000)),
        };
        let unique = |key| Unique { key: format!("key {key}"), hold: wish.hold_s.map(Duration::from_secs) };
        NewJob {
            queue: nth(&QUEUES, wish.queue),
            priority: Priority::new(wish.priority).unwrap(),
            due,
            unique: wish.key.map(unique),
            max_attempts: wish.max_attempts,
            ..job
        }
    }
}

fn nth<T: Copy>(of: &[T], pick: Pick) -> T {
    of[usize::from(pick) % of.len()]
}

/// The jobs that were accepted by a submission.
fn stored(deed: &Deed, seen: &Seen) -> Vec<JobId> {
    let (Deed::Submit { jobs, manner }, Seen::Stored { refused }) = (deed, seen) else { return Vec::new() };
    if *manner == Manner::Whole && !refused.is_empty() {
        return Vec::new();
    }
    let kept = jobs.iter().enumerate().filter(|(n, _)| refused.iter().all(|(m, _)| m != n));
    kept.map(|(_, job)| job.id).collect()
}

fn in_order(promised: &Promised, first: &Deed, second: &Deed) -> (Promised, (Seen, Seen)) {
    let mut after = promised.clone();
    let seen = (after.apply(first), after.apply(second));
    (after, seen)
}

fn told(wrong: Vec<String>) -> Result<(), String> {
    if wrong.is_empty() { Ok(()) } else { Err(wrong.join("\n")) }
}

/// Where two ledgers differ, in a few lines.
fn difference(promised: &Promised, stored: &Promised) -> String {
    let lines = |ledger: &Promised| -> BTreeSet<String> {
        let jobs = ledger.jobs.iter().map(|(id, job)| format!("job {id}: {job:?}"));
        let workers = ledger.workers.iter().map(|(id, worker)| format!("worker {id}: {worker:?}"));
        let keys = ledger.keys.iter().map(|(key, hold)| format!("key {key:?}: {hold:?}"));
        jobs.chain(workers).chain(keys).chain([format!("paused {:?}", ledger.paused)]).collect()
    };
    let (promised, stored) = (lines(promised), lines(stored));
    format!("promised {:#?}\nstored {:#?}", &promised - &stored, &stored - &promised)
}
