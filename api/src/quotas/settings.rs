//! How much a tenant may use.

use std::str::FromStr;

use millwork_shared::quotas::{Metric, Overrides};
use millwork_shared::tenants::Plan;

/// Of one plan: jobs and events a month, members, bytes of files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PlanQuotas {
    pub jobs: i64,
    pub events: i64,
    pub members: i64,
    pub storage: i64,
}

impl PlanQuotas {
    /// As staff have changed them for one tenant.
    pub fn with(self, overrides: Overrides) -> Self {
        Self {
            jobs: overrides.jobs.unwrap_or(self.jobs),
            events: overrides.events.unwrap_or(self.events),
            members: overrides.members.unwrap_or(self.members),
            storage: overrides.storage.unwrap_or(self.storage),
        }
    }

    pub const fn of(&self, metric: Metric) -> i64 {
        match metric {
            Metric::Jobs => self.jobs,
            Metric::Events => self.events,
        }
    }
}

/// `QUOTAS`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QuotaSettings {
    /// In the order of [`Plan::ALL`].
    pub plans: [PlanQuotas; 3],
}

/// As good as none.
const MOST: i64 = 1_000_000_000_000;
/// A pebibyte.
const MOST_BYTES: i64 = 1 << 50;

impl Default for QuotaSettings {
    /// So high that no installation that has not thought about its quotas is bothered by them.
    fn default() -> Self {
        Self { plans: [PlanQuotas { jobs: MOST, events: MOST, members: 1_000_000, storage: MOST_BYTES }; 3] }
    }
}

impl QuotaSettings {
    pub fn of(&self, plan: Plan) -> PlanQuotas {
        self.plans[plan as usize]
    }
}

/// `starter=100000/100000/5/1073741824,pro=…`: jobs a month, events a month, members, bytes of files, which may be left out.
/// Plans that are not named keep their defaults.
impl FromStr for QuotaSettings {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut settings = Self::default();
        for part in text.split(',').map(str::trim) {
            let fault = || {
                format!(
                    "`{part}` is not of the form plan=jobs/events/members/bytes, such as starter=100000/100000/5/1073741824"
                )
            };
            let (plan, quotas) = part.split_once('=').ok_or_else(fault)?;
            let plan: Plan = plan.trim().parse()?;
            let quotas: Vec<i64> =
                quotas.split('/').map(|n| n.trim().parse()).collect::<Result<_, _>>().map_err(|_| fault())?;
            let (&[jobs, events, members], bytes) = quotas.split_first_chunk().ok_or_else(fault)?;
            let storage = match bytes {
                [] => MOST_BYTES,
                [bytes] => *bytes,
                _ => return Err(fault()),
            };
            if [jobs, events, members].iter().any(|n| !(0..=MOST).contains(n)) || !(0..=MOST_BYTES).contains(&storage) {
                return Err(format!("`{part}`: a quota is 0 to {MOST}, of bytes 0 to {MOST_BYTES}"));
            }
            settings.plans[plan as usize] = PlanQuotas { jobs, events, members, storage };
        }
        Ok(settings)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotas_are_read_by_plan() {
        let settings: QuotaSettings = "starter=1000/2000/3/4, pro=0/0/0".parse().unwrap();
        assert_eq!(settings.of(Plan::Starter), PlanQuotas { jobs: 1_000, events: 2_000, members: 3, storage: 4 });
        assert_eq!(settings.of(Plan::Pro).storage, MOST_BYTES);
        assert_eq!(settings.of(Plan::Enterprise), QuotaSettings::default().of(Plan::Enterprise));
        for bad in
            ["", "starter", "starter=1", "starter=1/2/x", "gold=1/2/3", "pro=-1/1/1", "pro=1/2/3/4/5", "pro=1/2/3/-4"]
        {
            assert!(bad.parse::<QuotaSettings>().is_err(), "{bad}");
        }
    }
}
