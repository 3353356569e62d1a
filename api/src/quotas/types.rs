//! Bodies.

use chrono::{Months, NaiveDate};
use millwork_shared::tenants::Plan;
use poem_openapi::Object;
use serde::Serialize;

use super::settings::PlanQuotas;
use crate::http::Time;

/// What a tenant has used
#[derive(Debug, Serialize, Object)]
pub struct Usage {
    /// When the month began
    pub since: Time,
    /// Jobs that clients submitted since
    pub jobs: i64,
    /// Events that clients published since
    pub events: i64,
    /// Members now
    pub members: i64,
    /// Bytes of files now, with all their versions and what is being sent
    pub storage_bytes: i64,
}

/// What is not counted by the month.
#[derive(Debug, Clone, Copy)]
pub struct Now {
    pub members: i64,
    /// Bytes.
    pub storage: i64,
}

/// What a tenant may use
#[derive(Debug, Serialize, Object)]
pub struct Quotas {
    /// `starter`, `pro` or `enterprise`
    pub plan: String,
    /// When jobs and events are counted anew
    pub resets_at: Time,
    pub jobs: Quota,
    pub events: Quota,
    pub members: Quota,
    /// Bytes of files
    pub storage: Quota,
}

/// One of the quotas
#[derive(Debug, Serialize, Object)]
pub struct Quota {
    pub limit: i64,
    pub used: i64,
    pub remaining: i64,
}

impl Usage {
    pub fn new(period: NaiveDate, [jobs, events]: [i64; 2], now: Now) -> Self {
        Self { since: midnight(period), jobs, events, members: now.members, storage_bytes: now.storage }
    }
}

impl Quotas {
    pub fn new(plan: Plan, quotas: PlanQuotas, period: NaiveDate, [jobs, events]: [i64; 2], now: Now) -> Self {
        let next = period.checked_add_months(Months::new(1)).unwrap_or(period);
        let quota = |limit: i64, used: i64| Quota { limit, used, remaining: (limit - used).max(0) };
        Self {
            plan: plan.to_string(),
            resets_at: midnight(next),
            jobs: quota(quotas.jobs, jobs),
            events: quota(quotas.events, events),
            members: quota(quotas.members, now.members),
            storage: quota(quotas.storage, now.storage),
        }
    }
}

fn midnight(day: NaiveDate) -> Time {
    day.and_hms_opt(0, 0, 0).unwrap_or_default().and_utc().into()
}
