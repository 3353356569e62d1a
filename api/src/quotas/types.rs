//! Bodies.

use chrono::{Months, NaiveDate};
use millwork_shared::tenants::Plan;
use poem_openapi::Object;
use serde::Serialize;

use super::settings::PlanQuotas;
use crate::http::Time;
use crate::limits::settings::PlanLimits;

/// What a tenant has used
#[derive(Debug, Serialize, Object)]
pub struct Usage {
    /// When the month began
    pub since: Time,
    /// Jobs that clients submitted since
    pub jobs: i64,
    /// Events that clients published since
    pub events: i64,
    /// Requests with a token since, but those that were refused for their number
    pub requests: i64,
    /// Members now
    pub members: i64,
    /// Bytes of files now, with all their versions and what is being sent
    pub storage_bytes: i64,
}

/// What a tenant has used of everything that is counted.
#[derive(Debug, Clone, Copy)]
pub struct Used {
    /// The first day of the month.
    pub period: NaiveDate,
    pub jobs: i64,
    pub events: i64,
    pub requests: i64,
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
    pub requests: RequestRates,
}

/// Requests that may be made in a minute
#[derive(Debug, Serialize, Object)]
pub struct RequestRates {
    /// By the tenant
    pub tenant_per_minute: u32,
    /// By one person in it
    pub user_per_minute: u32,
    /// By one API key
    pub api_key_per_minute: u32,
    /// Since the month began
    pub used: i64,
}

/// One of the quotas
#[derive(Debug, Serialize, Object)]
pub struct Quota {
    pub limit: i64,
    pub used: i64,
    pub remaining: i64,
}

impl Usage {
    pub fn new(used: Used) -> Self {
        let Used { period, jobs, events, requests, members, storage } = used;
        Self { since: midnight(period), jobs, events, requests, members, storage_bytes: storage }
    }
}

impl Quotas {
    pub fn new(plan: Plan, quotas: PlanQuotas, rates: PlanLimits, used: Used) -> Self {
        let next = used.period.checked_add_months(Months::new(1)).unwrap_or(used.period);
        let quota = |limit: i64, used: i64| Quota { limit, used, remaining: (limit - used).max(0) };
        Self {
            plan: plan.to_string(),
            resets_at: midnight(next),
            jobs: quota(quotas.jobs, used.jobs),
            events: quota(quotas.events, used.events),
            members: quota(quotas.members, used.members),
            storage: quota(quotas.storage, used.storage),
            requests: RequestRates {
                tenant_per_minute: rates.tenant,
                user_per_minute: rates.user,
                api_key_per_minute: rates.api_key,
                used: used.requests,
            },
        }
    }
}

fn midnight(day: NaiveDate) -> Time {
    day.and_hms_opt(0, 0, 0).unwrap_or_default().and_utc().into()
}
