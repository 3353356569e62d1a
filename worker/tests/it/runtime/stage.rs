//! A worker in this process, and jobs that do as they are told.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use millwork_shared::Result;
use millwork_shared::infra::ids::{JobId, TenantId, WorkerId};
use millwork_shared::infra::{redis, tasks};
use millwork_shared::jobs::dispatch::{Dispatcher, Ticket};
use millwork_shared::jobs::queries::{self, Attempt, JobRow};
use millwork_shared::jobs::{Job, JobError, NewJob, Outcome, Priority, Queue, State};
use millwork_shared::testing::{key_prefix, redis_url};
use millwork_worker::runtime::{Registry, Run, Runtime, Settings};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::support::World;

/// Longest time a test waits for what must happen.
pub const PATIENCE: Duration = Duration::from_secs(10);
/// Between looks at the ledger.
const LOOK: Duration = Duration::from_millis(5);

/// What one run of a [`Play`] does.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Step {
    /// Succeeds with this JSON.
    Done(String),
    /// Succeeds with a string of so many bytes.
    DoneWith(usize),
    Retry {
        after_s: Option<u64>,
    },
    Fail,
    /// A failure below the handler.
    StoreDown,
    Panic,
    /// Panics before there is a future to poll.
    PanicAtOnce,
    Snooze(Duration),
    /// Never ends by itself, cancelled or not.
    Hang,
    /// Ends as cancelled when it is told.
    UntilCancelled,
    /// Is told of its cancellation, and says something else then.
    UntilCancelledThen(Box<Step>),
    /// Says how far it is, writes so many lines, and succeeds.
    Say(u32, usize),
    /// Says something, and is to be tried again a second later.
    SayThenRetry,
    /// As [`Say`](Self::Say), and succeeds when the stage opens its gate.
    SayAtTheGate(u32, usize),
    /// Succeeds when the stage opens its gate, and ends as cancelled when it is told before.
    AtTheGate,
}

/// Does one step a run; the last one again and again.
#[derive(Debug, Serialize, Deserialize)]
pub struct Play {
    pub name: String,
    pub steps: Vec<Step>,
}

impl Job for Play {
    const KIND: &'static str = "test.play";
    const QUEUE: Queue = Queue::Default;
}

/// What the handlers of one test saw and share.
#[derive(Default)]
struct Shown {
    /// Name and attempt of every run, in the order of their start.
    runs: Mutex<Vec<(String, i16)>>,
    /// Handlers that have left, by returning or by being dropped.
    left: AtomicUsize,
    at_once: AtomicUsize,
    most_at_once: AtomicUsize,
}

/// A ledger, a dispatcher and handlers, over which workers can be started.
pub struct Stage {
    pub world: World,
    pub dispatcher: Dispatcher,
    client: redis::Client,
    shown: Arc<Shown>,
    pub gate: Arc<Semaphore>,
}

/// A worker in this process; dropped, it stops without being waited for.
pub struct Worker {
    stop: CancellationToken,
    task: tokio::task::JoinHandle<Option<Result<()>>>,
}

impl Worker {
    /// Stops it as SIGTERM does and answers how long that took.
    pub async fn stop(mut self) -> Duration {
        let began = Instant::now();
        self.stop.cancel();
        tokio::time::timeout(PATIENCE, &mut self.task).await.unwrap().unwrap().unwrap().unwrap();
        began.elapsed()
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Stage {
    pub async fn set() -> Self {
        let world = World::create().await;
        let client = redis::Client::open(&redis_url()).unwrap();
        let dispatcher = Dispatcher::with_prefix(redis::connect_lazy(&client).unwrap(), key_prefix());
        Self { world, dispatcher, client, shown: Arc::default(), gate: Arc::new(Semaphore::new(0)) }
    }

    pub fn worker(&self, concurrency: usize) -> Worker {
        self.worker_with(Settings { queues: BTreeMap::from([(Queue::Default, concurrency)]), ..settings() })
    }

    pub fn worker_with(&self, settings: Settings) -> Worker {
        let (shown, gate) = (self.shown.clone(), self.gate.clone());
        let registry = Registry::over(self.world.ctx.clone())
            .with(move |play, run, _| act(play, run, shown.clone(), gate.clone()));
        let runtime = Runtime {
            settings,
            registry,
            system: self.world.db.db.system(),
            dispatcher: self.dispatcher.clone(),
            redis_client: self.client.clone(),
        };
        let stop = CancellationToken::new();
        Worker { task: tasks::spawn("runtime", runtime.run(stop.clone())), stop }
    }

    /// A job that does these steps.
    pub fn play(&self, name: &str, steps: impl Into<Vec<Step>>) -> NewJob {
        NewJob::of(self.world.tenant, &Play { name: name.to_owned(), steps: steps.into() }).unwrap()
    }

    pub fn play_at(&self, name: &str, priority: u8, steps: impl Into<Vec<Step>>) -> NewJob {
        NewJob { priority: Priority::new(priority).unwrap(), ..self.play(name, steps) }
    }

    /// Stores jobs and offers them, as a request does.
    pub async fn submit(&self, jobs: &[NewJob]) {
        self.submit_as(self.world.tenant, jobs).await;
    }

    /// As [`submit`](Self::submit), of another tenant.
    pub async fn submit_as(&self, tenant: TenantId, jobs: &[NewJob]) {
        let mut tx = self.world.db.db.tenant(tenant).await.unwrap();
        queries::enqueue(&mut tx, jobs).await.unwrap();
        tx.commit().await.unwrap();
        self.offer(jobs).await;
    }

    /// Offers tickets, as the scheduler does when jobs have become due.
    pub async fn offer(&self, jobs: &[NewJob]) {
        self.dispatcher.offer_now(&jobs.iter().map(Ticket::from).collect::<Vec<_>>()).await.unwrap();
    }

    /// Moves the clock past a wait, offers the job, and waits until it runs once more.
    pub async fn again_after(&self, job: &NewJob, wait: Duration) {
        let runs = self.runs().len();
        self.world.db.advance(wait).await;
        self.offer(std::slice::from_ref(job)).await;
        self.begun(runs + 1).await;
    }

    /// Gives all workers up, as the scheduler does when their leases have run out. Answers them.
    pub async fn take_leases_away(&self) -> Vec<WorkerId> {
        let system = self.world.db.db.system();
        for _ in 0..100 {
            self.world.db.sql("update workers set lease_until = ledger_now() - interval '1 s'").await;
            let mut tx = system.system().await.unwrap();
            let lost = queries::mark_lost(&mut tx).await.unwrap();
            queries::reap(&mut tx, &lost).await.unwrap();
            tx.commit().await.unwrap();
            if !lost.is_empty() {
                return lost;
            }
        }
        panic!("a heartbeat is always quicker");
    }

    pub async fn cancel(&self, job: JobId) -> queries::CancelResult {
        let mut tx = self.world.db.db.tenant(self.world.tenant).await.unwrap();
        let result = queries::cancel(&mut tx, job).await.unwrap();
        tx.commit().await.unwrap();
        result
    }

    pub async fn job(&self, id: JobId) -> JobRow {
        self.job_of(self.world.tenant, id).await
    }

    async fn job_of(&self, tenant: TenantId, id: JobId) -> JobRow {
        let mut tx = self.world.db.db.tenant(tenant).await.unwrap();
        queries::get(&mut tx, id).await.unwrap()
    }

    /// The job, once it is in this state.
    #[track_caller]
    pub fn until(&self, id: JobId, state: State) -> impl Future<Output = JobRow> {
        self.until_as(self.world.tenant, id, state)
    }

    /// As [`until`](Self::until), of another tenant.
    #[track_caller]
    pub fn until_as(&self, tenant: TenantId, id: JobId, state: State) -> impl Future<Output = JobRow> {
        let caller = std::panic::Location::caller();
        async move {
            let began = Instant::now();
            loop {
                let job = self.job_of(tenant, id).await;
                if job.state() == state {
                    return job;
                }
                assert!(began.elapsed() < PATIENCE, "{caller}: {job:?} is not {state:?}");
                tokio::time::sleep(LOOK).await;
            }
        }
    }

    /// How the attempts ended, newest first.
    pub async fn attempts(&self, id: JobId) -> Vec<Attempt> {
        let mut tx = self.world.db.db.tenant(self.world.tenant).await.unwrap();
        queries::list_attempts(&mut tx, id).await.unwrap()
    }

    pub async fn endings(&self, id: JobId) -> Vec<String> {
        self.attempts(id).await.into_iter().map(|attempt| attempt.ended).collect()
    }

    /// Name and attempt of every run so far.
    pub fn runs(&self) -> Vec<(String, i16)> {
        self.shown.runs.lock().unwrap().clone()
    }

    pub fn names(&self) -> Vec<String> {
        self.runs().into_iter().map(|(name, _)| name).collect()
    }

    pub fn most_at_once(&self) -> usize {
        self.shown.most_at_once.load(Ordering::SeqCst)
    }

    /// Waits until so many runs have begun.
    pub async fn begun(&self, runs: usize) {
        wait_for("runs to begin", || self.shown.runs.lock().unwrap().len() >= runs).await;
    }

    /// Waits until so many handlers have left.
    pub async fn left(&self, handlers: usize) {
        wait_for("handlers to leave", || self.shown.left.load(Ordering::SeqCst) >= handlers).await;
    }
}

/// Quick to notice what a test does to it; does not wait long for handlers that hang.
pub fn settings() -> Settings {
    Settings {
        queues: BTreeMap::from([(Queue::Default, 4)]),
        grace: Duration::from_millis(50),
        heartbeat: Duration::from_millis(50),
        ..Settings::default()
    }
}

async fn wait_for(what: &str, mut seen: impl FnMut() -> bool) {
    let began = Instant::now();
    while !seen() {
        assert!(began.elapsed() < PATIENCE, "waited in vain for {what}");
        tokio::time::sleep(LOOK).await;
    }
}

/// The code and message of what a job shows as its last error.
pub fn error(job: &JobRow) -> JobError {
    serde_json::from_str(job.error.as_deref().expect("an error")).unwrap()
}

fn act(play: Play, run: Arc<Run>, shown: Arc<Shown>, gate: Arc<Semaphore>) -> impl Future<Output = Result<Outcome>> {
    let step = {
        let mut runs = shown.runs.lock().unwrap();
        let before = runs.iter().filter(|(name, _)| *name == play.name).count();
        runs.push((play.name, run.attempt));
        play.steps[before.min(play.steps.len() - 1)].clone()
    };
    assert_ne!(step, Step::PanicAtOnce, "before there is a future");
    async move {
        shown.most_at_once.fetch_max(shown.at_once.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
        let _leaving = Leaving(shown);
        do_step(step, &run, &gate).await
    }
}

/// Counts a handler out, however it ends.
struct Leaving(Arc<Shown>);

impl Drop for Leaving {
    fn drop(&mut self) {
        self.0.at_once.fetch_sub(1, Ordering::SeqCst);
        self.0.left.fetch_add(1, Ordering::SeqCst);
    }
}

async fn do_step(step: Step, run: &Run, gate: &Semaphore) -> Result<Outcome> {
    let raw = |json: String| Outcome::Done(Some(RawValue::from_string(json).unwrap()));
    Ok(match step {
        Step::Done(json) => {
            for _ in 0..3 {
                tokio::task::yield_now().await; // quick, but long enough to be seen beside others
            }
            raw(json)
        }
        Step::DoneWith(bytes) => raw(format!("\"{}\"", "x".repeat(bytes - 2))),
        Step::Retry { after_s } => {
            Outcome::Retry { error: JobError::new("later", "not yet"), after: after_s.map(Duration::from_secs) }
        }
        Step::Fail => Outcome::Fail(JobError::new("never", "no use")),
        Step::StoreDown => {
            return Err(millwork_shared::Error::Unavailable { dependency: "storage", cause: "away".into() });
        }
        Step::Panic | Step::PanicAtOnce => panic!("as told"),
        Step::Snooze(wait) => Outcome::Snooze(wait),
        Step::Hang => std::future::pending().await,
        Step::UntilCancelled => {
            run.cancelled.cancelled().await;
            Outcome::Cancelled
        }
        Step::UntilCancelledThen(then) => {
            run.cancelled.cancelled().await;
            return Box::pin(do_step(*then, run, gate)).await;
        }
        Step::Say(progress, lines) | Step::SayAtTheGate(progress, lines) => {
            run.progress(&progress);
            (0..lines).for_each(|n| run.log(format!("line {n}")));
            let then = if matches!(step, Step::Say(..)) { Step::Done("1".into()) } else { Step::AtTheGate };
            return Box::pin(do_step(then, run, gate)).await;
        }
        Step::SayThenRetry => {
            run.progress(&1);
            run.log("no luck");
            return Box::pin(do_step(Step::Retry { after_s: Some(1) }, run, gate)).await;
        }
        Step::AtTheGate => {
            tokio::select! {
                permit = gate.acquire() => permit.unwrap().forget(),
                () = run.cancelled.cancelled() => return Ok(Outcome::Cancelled),
            }
            Outcome::Done(None)
        }
    })
}
