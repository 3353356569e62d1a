//! What a tenant may use in a month, and what it has used.

use std::fmt;

/// Payloads of the jobs that this feature asks for.
pub mod jobs;
/// Every statement on `usage`.
pub mod queries;

/// What is counted by the month.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Metric {
    /// Jobs that clients submitted.
    Jobs,
    /// Events that clients published.
    Events,
}

impl Metric {
    pub const ALL: [Self; 2] = [Self::Jobs, Self::Events];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Jobs => "jobs",
            Self::Events => "events",
        }
    }
}

/// What a tenant may use beside its plan; None where the plan says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, sqlx::FromRow)]
pub struct Overrides {
    pub jobs: Option<i64>,
    pub events: Option<i64>,
    pub members: Option<i64>,
    /// Bytes of files.
    pub storage: Option<i64>,
}

impl fmt::Display for Metric {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
