//! Jobs that wait for others.

use std::str::FromStr;

use super::JobError;
use super::queries::Ending;
use crate::infra::ids::JobId;

/// Predecessors of one job at most.
pub const MOST_PREDECESSORS: usize = 100;

/// What becomes of a job when one that it waits for fails or is cancelled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnFailure {
    /// It is cancelled at once, and so are those who wait for it in turn, by their own policy.
    #[default]
    Cancel,
    /// It runs all the same, once all have ended.
    Run,
}

impl OnFailure {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Cancel => "cancel",
            Self::Run => "run",
        }
    }
}

impl FromStr for OnFailure {
    type Err = String;

    fn from_str(s: &str) -> Result<Self, String> {
        [Self::Cancel, Self::Run]
            .into_iter()
            .find(|policy| policy.as_str() == s)
            .ok_or_else(|| format!("`{s}` is not a policy"))
    }
}

/// A job's wish to run after others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wait {
    pub job: JobId,
    /// Of the same tenant; each once.
    pub after: Vec<JobId>,
    pub on_failure: OnFailure,
}

/// Why a job was cancelled whose predecessor ended badly.
pub fn predecessor_failed(predecessor: JobId, ending: Ending) -> JobError {
    let how = match ending {
        Ending::Cancelled => "was cancelled",
        Ending::Failed | Ending::Succeeded => "failed",
    };
    let message = format!("job {predecessor}, after which this one was to run, {how}");
    JobError::new(JobError::PREDECESSOR_FAILED, message)
}
