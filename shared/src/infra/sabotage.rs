//! Faults built in on purpose, so that the tool that looks for lost jobs can be seen to find them.
//!
//! Known to debug builds alone: in what is shipped every question here is answered at compile time, and by no.

/// A promise that a process breaks when `MILLWORK_SABOTAGE` says so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sabotage {
    /// The scheduler never compares Redis with the ledger.
    NoRepair,
    /// The API answers 202 before the job is committed.
    AckBeforeCommit,
}

/// Whether this process breaks the promise.
pub fn is_on(sabotage: Sabotage) -> bool {
    cfg!(debug_assertions) && std::env::var("MILLWORK_SABOTAGE").is_ok_and(|name| name == sabotage.as_str())
}

impl Sabotage {
    const fn as_str(self) -> &'static str {
        match self {
            Self::NoRepair => "no-repair",
            Self::AckBeforeCommit => "ack-before-commit",
        }
    }
}
