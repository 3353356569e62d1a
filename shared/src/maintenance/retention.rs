//! How long finished jobs, events and deliveries are kept.

use std::str::FromStr;
use std::time::Duration;

use crate::tenants::Plan;

/// `RETENTION_DAYS`: by plan, in the order of [`Plan::ALL`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retention([Duration; 3]);

impl Retention {
    /// The same for all plans.
    pub const fn of_all(kept: Duration) -> Self {
        Self([kept; 3])
    }

    pub fn of(self, plan: Plan) -> Duration {
        self.0[plan as usize]
    }

    /// What partitions go by.
    pub fn longest(self) -> Duration {
        self.0.into_iter().max().unwrap_or_default()
    }
}

impl Default for Retention {
    fn default() -> Self {
        Self::of_all(days(30))
    }
}

/// `30` for all, or `starter=7,pro=30,enterprise=90`; plans that are not named keep 30 days.
impl FromStr for Retention {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number = |text: &str| match text.trim().parse() {
            Ok(n) if (1..=3_650).contains(&n) => Ok(days(n)),
            _ => Err(format!("`{text}` is not a number of days from 1 to 3650")),
        };
        if !text.contains('=') {
            return number(text).map(Self::of_all);
        }
        let mut retention = Self::default();
        for part in text.split(',') {
            let (plan, kept) = part.split_once('=').ok_or_else(|| format!("`{part}` is not of the form plan=days"))?;
            let plan: Plan = plan.trim().parse()?;
            retention.0[plan as usize] = number(kept)?;
        }
        Ok(retention)
    }
}

const fn days(n: u64) -> Duration {
    Duration::from_secs(n * 86_400)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_number_is_for_all_and_plans_have_their_own() {
        assert_eq!("7".parse(), Ok(Retention::of_all(days(7))));
        let retention: Retention = "starter=7, enterprise=400".parse().unwrap();
        assert_eq!(Plan::ALL.map(|plan| retention.of(plan)), [days(7), days(30), days(400)]);
        assert_eq!(retention.longest(), days(400));
        for bad in ["", "0", "3651", "x", "starter=0", "gold=7", "starter=7,8"] {
            assert!(bad.parse::<Retention>().is_err(), "{bad}");
        }
    }
}
