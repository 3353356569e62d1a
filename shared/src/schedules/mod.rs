//! Jobs that come again by the clock of a place.
//!
//! The API says when a schedule comes next, and the scheduler makes it so: the rule is here, so that both say the same.

use std::str::FromStr;
use std::time::Duration;

/// Every statement on schedules.
pub mod queries;
mod rhythm;

pub use rhythm::{Rhythm, RhythmFault};

/// Schedules of a tenant at most.
pub const SCHEDULES_PER_TENANT: i64 = 1_000;

/// A run that comes no later than this is on time: a new leader takes seconds.
pub const ON_TIME: Duration = Duration::from_secs(60);

/// What becomes of runs whose time passed while no scheduler was there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Misfire {
    /// They are left out; the next one comes at its time.
    Skip,
    /// One run makes up for all of them, at once.
    Once,
}

impl Misfire {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Skip => "skip",
            Self::Once => "once",
        }
    }
}

impl FromStr for Misfire {
    type Err = String;

    fn from_str(s: &str) -> Result<Self, String> {
        [Self::Skip, Self::Once]
            .into_iter()
            .find(|misfire| misfire.as_str() == s)
            .ok_or_else(|| format!("`{s}` is not a rule for missed runs"))
    }
}
