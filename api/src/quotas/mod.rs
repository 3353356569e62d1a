//! What a tenant may use by its plan, and what it has used.

/// Units of quotas that this process may hand out.
pub mod meter;
/// How much a tenant may use.
pub mod settings;

mod types;

use millwork_shared::infra::ids::TenantId;
use millwork_shared::quotas::{Metric, queries};
use poem::web::Data;
use poem_openapi::OpenApi;

use self::meter::Units;
use self::types::{Quotas, Usage};
use crate::App;
use crate::http::{Answer, Permitted, Result, to};
use crate::routes::Tag;

pub struct QuotasApi;

#[OpenApi(tag = "Tag::Identity")]
impl QuotasApi {
    /// Show what was used
    ///
    /// Jobs and events that were submitted since the month began (UTC), and members now.
    #[oai(path = "/usage", method = "get", operation_id = "quotas.usage")]
    async fn usage(&self, caller: Permitted<to::UsageRead>, app: Data<&App>) -> Result<Answer<Usage>> {
        let (period, used, members) = used(&app, caller.tenant).await?;
        Answer::new(&Usage::new(period, used, members))
    }

    /// Show the quotas
    ///
    /// What the plan allows, what was used of it, and when it begins anew.
    #[oai(path = "/quotas", method = "get", operation_id = "quotas.list")]
    async fn quotas(&self, caller: Permitted<to::UsageRead>, app: Data<&App>) -> Result<Answer<Quotas>> {
        let plan = app.limits.plan(caller.tenant).await;
        let (period, used, members) = used(&app, caller.tenant).await?;
        Answer::new(&Quotas::new(plan, app.meter.settings.of(plan), period, used, members))
    }
}

/// What was used of each metric this month, without what this process only holds, and the members.
async fn used(app: &App, tenant: TenantId) -> Result<(chrono::NaiveDate, [i64; 2], i64)> {
    let mut tx = app.db.tenant(tenant).await?;
    let (period, rows) = queries::list(&mut tx).await?;
    let members = queries::count_members(&mut tx).await?;
    tx.commit().await?;
    let used = Metric::ALL.map(|metric| {
        let used = rows.iter().find(|(name, _)| name == metric.as_str()).map_or(0, |(_, used)| *used);
        (used - app.meter.unused(tenant, metric, period)).max(0)
    });
    Ok((period, used, members))
}

/// How many members a tenant may have, by its plan.
pub async fn members(app: &App, tenant: TenantId) -> i64 {
    app.meter.settings.of(app.limits.plan(tenant).await).members
}

/// Takes units of a tenant's quota, by its plan.
///
/// # Errors
/// 429 `quota_exceeded` when there are not so many left this month.
pub async fn take(app: &App, tenant: TenantId, metric: Metric, count: usize) -> Result<Units> {
    let plan = app.limits.plan(tenant).await;
    app.meter.take((tenant, app.meter.settings.of(plan).of(metric)), metric, count).await
}
