//! Units of quotas that this process may hand out.
//!
//! A unit is taken from PostgreSQL in lots: the first is small, and grows while it is used up early, up to a hundredth of the
//! quota. A lot lasts for some seconds; what is left of it is given back. So a job costs an addition in memory, and a busy tenant an
//! update of its row every second or so, outside of the transactions that store jobs.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use chrono::{Datelike, NaiveDate};
use millwork_shared::infra::clock::Clock;
use millwork_shared::infra::db::Db;
use millwork_shared::infra::ids::TenantId;
use millwork_shared::jobs::dispatch::Dispatcher;
use millwork_shared::jobs::{NewJob, queries as jobs};
use millwork_shared::quotas::Metric;
use millwork_shared::quotas::jobs::SendQuotaNotice;
use millwork_shared::quotas::queries::{self, Claim, Granted};
use poem::http::{HeaderValue, StatusCode, header};

use super::settings::QuotaSettings;
use crate::http::{ApiError, Result};

/// How long a lot lasts.
const LASTS: Duration = Duration::from_secs(5);
/// How often what was not used is given back.
pub const SWEEP: Duration = Duration::from_secs(5);
const FIRST_LOT: i64 = 16;
const LARGEST_LOT: i64 = 100_000;
const GROWTH: i64 = 8;
/// Tenants' lots that are held at most; those that hold nothing are dropped first.
const MOST: usize = 65_536;

pub struct Meter {
    db: Db,
    dispatcher: Dispatcher,
    clock: Clock,
    pub settings: QuotaSettings,
    held: Mutex<HashMap<(TenantId, Metric), Arc<Held>>>,
    started: Instant,
}

#[derive(Debug, Default)]
struct Held {
    lot: Mutex<Lot>,
    /// Held by who asks; the others wait for the answer.
    asking: tokio::sync::Mutex<()>,
}

#[derive(Debug, Default, Clone, Copy)]
struct Lot {
    units: i64,
    size: i64,
    until: Duration,
    period: Option<NaiveDate>,
}

impl Held {
    fn lot(&self) -> std::sync::MutexGuard<'_, Lot> {
        self.lot.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Units that were taken. Dropped without [`keep`](Self::keep), they can be taken again.
#[must_use]
#[derive(Debug)]
pub struct Units {
    held: Arc<Held>,
    count: i64,
    period: Option<NaiveDate>,
}

impl Units {
    /// What they stand for was stored.
    pub fn keep(mut self) {
        self.count = 0;
    }
}

impl Drop for Units {
    fn drop(&mut self) {
        if self.count > 0 {
            let mut lot = self.held.lot();
            if lot.period == self.period {
                lot.units += self.count;
            }
        }
    }
}

impl Meter {
    pub fn new(db: Db, dispatcher: Dispatcher, clock: Clock, settings: QuotaSettings) -> Self {
        Self { db, dispatcher, clock, settings, held: Mutex::default(), started: Instant::now() }
    }

    /// Takes `count` units of a tenant's quota.
    ///
    /// # Errors
    /// 429 `quota_exceeded` when there are not so many left this month.
    pub async fn take(&self, (tenant, quota): (TenantId, i64), metric: Metric, count: usize) -> Result<Units> {
        let (held, count) = (self.held(tenant, metric), i64::try_from(count).unwrap_or(i64::MAX));
        if let Some(units) = self.hand_out(&held, count) {
            return Ok(units);
        }
        let _asking = held.asking.lock().await;
        if let Some(units) = self.hand_out(&held, count) {
            return Ok(units); // of the lot that was waited for
        }
        let (back, before) = {
            let mut lot = held.lot();
            (std::mem::take(&mut lot.units), *lot)
        };
        let early = self.now() < before.until;
        let wanted = if early { before.size * GROWTH } else { before.size - back };
        let wanted = wanted.max(FIRST_LOT).min((quota / 100).clamp(1, LARGEST_LOT)).max(count);
        let claim = Claim { metric, wanted, least: count, back, back_period: before.period, quota };
        let granted = self.claim(tenant, &claim).await.inspect_err(|_| held.lot().units += back)?;
        let (period, units) = (Some(granted.this_period), granted.granted);
        *held.lot() = Lot { units: (units - count).max(0), size: units, until: self.now() + LASTS, period };
        if units < count {
            return Err(self.exceeded(metric, quota, granted.this_period));
        }
        Ok(Units { held: held.clone(), count, period })
    }

    fn hand_out(&self, held: &Arc<Held>, count: i64) -> Option<Units> {
        let mut lot = held.lot();
        if lot.units < count || self.now() >= lot.until {
            return None;
        }
        lot.units -= count;
        Some(Units { held: held.clone(), count, period: lot.period })
    }

    /// Asks PostgreSQL, and has the owners told of a share that was reached.
    async fn claim(&self, tenant: TenantId, claim: &Claim) -> millwork_shared::Result<Granted> {
        let mut tx = self.db.tenant(tenant).await?;
        let granted = queries::claim(&mut tx, claim).await?;
        let mut notices = Vec::new();
        if granted.told > 0 {
            for user in queries::list_owners(&mut tx).await? {
                let (metric, limit) = (claim.metric.to_string(), claim.quota);
                notices.push(NewJob::of(tenant, &SendQuotaNotice { user, metric, percent: granted.told, limit })?);
            }
            jobs::enqueue(&mut tx, &notices).await?;
        }
        tx.commit().await?;
        self.dispatcher.offer(&notices);
        Ok(granted)
    }

    fn exceeded(&self, metric: Metric, quota: i64, period: NaiveDate) -> ApiError {
        let next = period.with_day(1).and_then(|day| day.checked_add_months(chrono::Months::new(1)));
        let wait = next.and_then(|day| day.and_hms_opt(0, 0, 0)).map(|at| at.and_utc() - self.clock.now());
        let seconds = wait.map_or(3_600, |wait| wait.num_seconds().max(1));
        let detail = format!("the plan's {metric} of this month, {quota}, are used up; see GET /quotas");
        ApiError::new(StatusCode::TOO_MANY_REQUESTS, "quota_exceeded", detail)
            .with("quota", metric.as_str())
            .with_header(header::RETRY_AFTER, HeaderValue::from(seconds))
    }

    /// Gives back what lots that are over still hold; all of them at the end.
    pub async fn give_back(&self, all: bool) {
        let over: Vec<_> = {
            let now = self.now();
            let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
            held.retain(|_, held| {
                let lot = *held.lot();
                Arc::strong_count(held) > 1 || now < lot.until || lot.units > 0
            });
            held.iter()
                .filter(|(_, held)| all || now >= held.lot().until)
                .map(|(key, held)| (*key, held.clone()))
                .collect()
        };
        for ((tenant, metric), held) in over {
            let _asking = held.asking.lock().await;
            let (back, back_period) = {
                let mut lot = held.lot();
                (std::mem::take(&mut lot.units), lot.period)
            };
            if back == 0 {
                continue;
            }
            let claim = Claim { metric, wanted: 0, least: 0, back, back_period, quota: i64::MAX / 100 };
            if let Err(error) = self.claim(tenant, &claim).await {
                held.lot().units += back;
                return tracing::debug!(%error, "units of quotas are given back later");
            }
        }
    }

    /// What this process holds of a tenant's quota and has not handed out.
    pub fn unused(&self, tenant: TenantId, metric: Metric, period: NaiveDate) -> i64 {
        let held = self.held.lock().unwrap_or_else(PoisonError::into_inner).get(&(tenant, metric)).cloned();
        held.map_or(0, |held| {
            let lot = held.lot();
            if lot.period == Some(period) { lot.units } else { 0 }
        })
    }

    fn held(&self, tenant: TenantId, metric: Metric) -> Arc<Held> {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        if held.len() >= MOST {
            held.retain(|_, held| Arc::strong_count(held) > 1 || held.lot().units > 0);
        }
        held.entry((tenant, metric)).or_default().clone()
    }

    /// Since the start, moved along with a test's clock.
    fn now(&self) -> Duration {
        self.started.elapsed() + self.clock.offset()
    }
}
