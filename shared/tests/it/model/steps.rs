//! What may happen, in words that survive shrinking: jobs and workers are picked by a number, not by an id.

use proptest::prelude::*;
use proptest::sample::select;

/// One of however many there are at that moment.
pub type Pick = u8;

/// One thing that happens.
#[derive(Debug, Clone)]
pub enum Step {
    Act(Act),
    /// Two at once; with `linger` the first waits before it commits, so that the second runs into its locks.
    Race {
        first: Act,
        second: Act,
        linger: bool,
    },
    /// The ledger's clock goes on by so many seconds.
    Advance(i64),
    /// Tickets that are on their way to Redis arrive; without it they are on their way.
    Offer,
    /// Whoever had tickets to offer dies.
    LoseOffers,
    /// A worker takes tickets out of Redis.
    Take {
        worker: Pick,
        queue: Pick,
        limit: usize,
    },
    /// A worker claims the tickets it took.
    ClaimTaken {
        worker: Pick,
    },
    /// A worker dies between take and claim.
    LoseTaken {
        worker: Pick,
    },
    /// Redis is told whether a tenant's queue is paused.
    TellPause {
        tenant: Pick,
        queue: Pick,
    },
    /// FLUSHALL.
    Wipe,
    /// The scheduler looks for jobs whose time has come.
    LookForDue,
    /// The scheduler reads a lane and has its tickets in hand.
    ReadLane {
        job: Pick,
    },
    /// The scheduler compares Redis with the ledger.
    Rescan,
}

/// One transaction.
#[derive(Debug, Clone)]
pub enum Act {
    Submit { tenant: Pick, jobs: Vec<Wish>, manner: Manner },
    Claim { worker: Pick, jobs: Vec<Pick> },
    Complete { job: Pick, run: Pick, outcome: Said },
    Release { job: Pick, run: Pick },
    Heartbeat { worker: Pick },
    Stop { worker: Pick },
    Reap,
    Cancel { job: Pick, by_stranger: bool },
    RetryNow { job: Pick },
    Pause { tenant: Pick, queue: Pick },
    Resume { tenant: Pick, queue: Pick },
}

/// A job that somebody wants.
#[derive(Debug, Clone)]
pub struct Wish {
    pub queue: Pick,
    pub priority: u8,
    pub due: When,
    pub key: Option<Pick>,
    pub hold_s: Option<u64>,
    pub max_attempts: i16,
}

#[derive(Debug, Clone, Copy)]
pub enum When {
    Now,
    In(u64),
    /// Seconds from now, perhaps in the past.
    At(i64),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Manner {
    /// All or none, as a batch.
    Whole,
    /// Those whose keys are free, as gathered submissions.
    Free,
    /// The transaction ends without a commit.
    Dropped,
}

/// What a handler says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Said {
    Done,
    Fail,
    Retry(u64),
    Cancelled,
    Snooze(u64),
}

pub fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        30 => act().prop_map(Step::Act),
        12 => race(),
        8 => select(vec![1, 7, 16, 31, 61]).prop_map(Step::Advance),
        6 => Just(Step::Offer),
        1 => Just(Step::LoseOffers),
        8 => (pick(), pick(), select(vec![1usize, 2, 100]))
            .prop_map(|(worker, queue, limit)| Step::Take { worker, queue, limit }),
        8 => pick().prop_map(|worker| Step::ClaimTaken { worker }),
        1 => pick().prop_map(|worker| Step::LoseTaken { worker }),
        2 => (pick(), pick()).prop_map(|(tenant, queue)| Step::TellPause { tenant, queue }),
        2 => Just(Step::Wipe),
        3 => Just(Step::LookForDue),
        2 => pick().prop_map(|job| Step::ReadLane { job }),
        3 => Just(Step::Rescan),
    ]
}

fn pick() -> impl Strategy<Value = Pick> {
    0..16u8
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        8 => submit(),
        3 => (pick(), prop::collection::vec(pick(), 1..4)).prop_map(|(worker, jobs)| Act::Claim { worker, jobs }),
        8 => (pick(), nth(), said()).prop_map(|(job, run, outcome)| Act::Complete { job, run, outcome }),
        2 => (pick(), nth()).prop_map(|(job, run)| Act::Release { job, run }),
        3 => pick().prop_map(|worker| Act::Heartbeat { worker }),
        1 => pick().prop_map(|worker| Act::Stop { worker }),
        4 => Just(Act::Reap),
        4 => (pick(), prop::bool::weighted(0.1)).prop_map(|(job, by_stranger)| Act::Cancel { job, by_stranger }),
        3 => pick().prop_map(|job| Act::RetryNow { job }),
        1 => (pick(), pick()).prop_map(|(tenant, queue)| Act::Pause { tenant, queue }),
        2 => (pick(), pick()).prop_map(|(tenant, queue)| Act::Resume { tenant, queue }),
    ]
}

/// Two of the things that may happen to one job, and what happens to others.
fn race() -> impl Strategy<Value = Step> {
    let both = pick().prop_flat_map(|job| (to_job(job), to_job(job)));
    (both, any::<bool>()).prop_map(|((first, second), linger)| Step::Race { first, second, linger })
}

fn to_job(job: Pick) -> impl Strategy<Value = Act> {
    prop_oneof![
        2 => pick().prop_map(move |worker| Act::Claim { worker, jobs: vec![job] }),
        4 => (nth(), said()).prop_map(move |(run, outcome)| Act::Complete { job, run, outcome }),
        1 => nth().prop_map(move |run| Act::Release { job, run }),
        3 => Just(Act::Cancel { job, by_stranger: false }),
        2 => Just(Act::RetryNow { job }),
        1 => submit(),
        2 => Just(Act::Reap),
        1 => pick().prop_map(|worker| Act::Heartbeat { worker }),
    ]
}

/// The last run of a job, mostly.
fn nth() -> impl Strategy<Value = Pick> {
    prop_oneof![4 => Just(0u8), 1 => 1..3u8]
}

fn submit() -> impl Strategy<Value = Act> {
    let manner = prop_oneof![4 => Just(Manner::Whole), 4 => Just(Manner::Free), 1 => Just(Manner::Dropped)];
    let jobs = prop_oneof![
        3 => prop::collection::vec(wish(), 1),
        1 => prop::collection::vec(wish(), 2..4),
    ];
    (pick(), jobs, manner).prop_map(|(tenant, jobs, manner)| Act::Submit { tenant, jobs, manner })
}

fn wish() -> impl Strategy<Value = Wish> {
    let due = prop_oneof![
        6 => Just(When::Now),
        2 => select(vec![1u64, 20, 60]).prop_map(When::In),
        1 => select(vec![-100i64, 0, 16]).prop_map(When::At),
    ];
    let key = prop_oneof![2 => Just(None), 1 => (0..2u8).prop_map(Some)];
    let hold = prop_oneof![2 => Just(None), 1 => Just(Some(30u64))];
    (0..2u8, select(vec![1u8, 4, 9]), due, key, hold, 1..4i16).prop_map(
        |(queue, priority, due, key, hold_s, max_attempts)| Wish { queue, priority, due, key, hold_s, max_attempts },
    )
}

fn said() -> impl Strategy<Value = Said> {
    prop_oneof![
        3 => Just(Said::Done),
        2 => Just(Said::Fail),
        4 => select(vec![0u64, 1, 20]).prop_map(Said::Retry),
        1 => Just(Said::Cancelled),
        2 => select(vec![0u64, 5, 60]).prop_map(Said::Snooze),
    ]
}
