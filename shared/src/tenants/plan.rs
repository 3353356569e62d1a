//! What a tenant pays for.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

const DAY: Duration = Duration::from_secs(86_400);

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub enum Plan {
    #[default]
    Starter,
    Pro,
    Enterprise,
}

impl Plan {
    pub const ALL: [Self; 3] = [Self::Starter, Self::Pro, Self::Enterprise];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Starter => "starter",
            Self::Pro => "pro",
            Self::Enterprise => "enterprise",
        }
    }

    /// How long audit entries are kept, at least: they leave by whole months.
    pub const fn audit_retention(self) -> Duration {
        match self {
            Self::Starter => DAY.saturating_mul(90),
            Self::Pro => DAY.saturating_mul(400),
            Self::Enterprise => DAY.saturating_mul(7 * 366),
        }
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Plan {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL
            .into_iter()
            .find(|plan| plan.as_str() == text)
            .ok_or_else(|| format!("`{text}` is none of starter, pro, enterprise"))
    }
}
