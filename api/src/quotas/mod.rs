//! What a tenant may use by its plan, and what it has used.

/// Units of quotas that this process may hand out.
pub mod meter;
/// How many requests tenants have made.
pub mod requests;
/// How much a tenant may use.
pub mod settings;

mod types;

use millwork_shared::infra::db::TenantTx;
use millwork_shared::infra::ids::{ObjectId, TenantId};
use millwork_shared::jobs::{NewJob, queries as jobs};
use millwork_shared::objects::Purpose;
use millwork_shared::objects::queries as objects;
use millwork_shared::quotas::jobs::SendQuotaNotice;
use millwork_shared::quotas::{Metric, queries};
use poem::web::Data;
use poem_openapi::OpenApi;

use self::meter::Units;
use self::types::{Quotas, Usage, Used};
use crate::App;
use crate::http::{Answer, Permitted, Result, to};
use crate::routes::Tag;

pub struct QuotasApi;

#[OpenApi(tag = "Tag::Identity")]
impl QuotasApi {
    /// Show what was used
    ///
    /// Jobs and events that were submitted and requests that were made since the month began (UTC), and members and bytes of files
    /// now. Requests are written every few seconds.
    #[oai(path = "/usage", method = "get", operation_id = "quotas.usage")]
    async fn usage(&self, caller: Permitted<to::UsageRead>, app: Data<&App>) -> Result<Answer<Usage>> {
        Answer::new(&Usage::new(used(&app, caller.tenant).await?))
    }

    /// Show the quotas
    ///
    /// What the plan allows, what was used of it, and when it begins anew. Of requests the plan bounds the rate.
    #[oai(path = "/quotas", method = "get", operation_id = "quotas.list")]
    async fn quotas(&self, caller: Permitted<to::UsageRead>, app: Data<&App>) -> Result<Answer<Quotas>> {
        let (plan, overrides) = app.limits.allowance(caller.tenant).await;
        let quotas = app.meter.settings.of(plan).with(overrides);
        let rates = app.settings.limits.of(plan);
        Answer::new(&Quotas::new(plan, quotas, rates, used(&app, caller.tenant).await?))
    }
}

/// What a tenant has used this month, without units that this process only holds, and what it has now.
async fn used(app: &App, tenant: TenantId) -> Result<Used> {
    let mut tx = app.db.tenant(tenant).await?;
    let (period, rows) = queries::list(&mut tx).await?;
    let members = queries::count_members(&mut tx).await?;
    let storage = objects::used_bytes(&mut tx).await?;
    tx.commit().await?;
    let stored = |metric: &str| rows.iter().find(|(name, _)| name == metric).map_or(0, |(_, used)| *used);
    let of = |metric: Metric| (stored(metric.as_str()) - app.meter.unused(tenant, metric, period)).max(0);
    let requests = stored("requests") + app.requests.unwritten(tenant);
    Ok(Used { period, jobs: of(Metric::Jobs), events: of(Metric::Events), requests, members, storage })
}

/// How many members a tenant may have, by its plan or what staff have allowed it.
pub async fn members(app: &App, tenant: TenantId) -> i64 {
    let (plan, overrides) = app.limits.allowance(tenant).await;
    app.meter.settings.of(plan).with(overrides).members
}

/// How many bytes of files a tenant may have, by its plan or what staff have allowed it.
pub async fn storage(app: &App, tenant: TenantId) -> i64 {
    let (plan, overrides) = app.limits.allowance(tenant).await;
    app.meter.settings.of(plan).with(overrides).storage
}

/// Begins an object, with so many bytes of the quota for a file: committed before any of it is stored.
///
/// # Errors
/// 409 `storage_quota_exceeded`.
pub async fn reserve(app: &App, tenant: TenantId, bytes: i64, quota: i64) -> Result<ObjectId> {
    let mut tx = app.db.tenant(tenant).await?;
    let (object, notices) = reserve_in(&mut tx, Purpose::File, bytes, quota).await?;
    tx.commit().await?;
    app.dispatcher.offer(&notices);
    Ok(object)
}

/// [`reserve`] within a transaction; the mails that it asks for are offered after the commit.
pub async fn reserve_in(
    tx: &mut TenantTx,
    purpose: Purpose,
    bytes: i64,
    quota: i64,
) -> Result<(ObjectId, Vec<NewJob>)> {
    let (object, used) = objects::begin(tx, purpose, bytes, quota).await?;
    let notices = notices(tx, used.told, quota).await?;
    Ok((object, notices))
}

/// Takes so many more bytes for a file that is being stored.
///
/// # Errors
/// 409 `storage_quota_exceeded`, `upload_expired`.
pub async fn grow(app: &App, tenant: TenantId, object: ObjectId, by: i64, quota: i64) -> Result<()> {
    let mut tx = app.db.tenant(tenant).await?;
    let used = objects::grow(&mut tx, object, by, quota).await?;
    let notices = notices(&mut tx, used.told, quota).await?;
    tx.commit().await?;
    app.dispatcher.offer(&notices);
    Ok(())
}

/// Has the owners told of a share of the storage that was reached.
async fn notices(tx: &mut TenantTx, percent: i16, limit: i64) -> Result<Vec<NewJob>> {
    let mut notices = Vec::new();
    if percent > 0 {
        for user in queries::list_owners(tx).await? {
            notices.push(NewJob::of(
                tx.tenant(),
                &SendQuotaNotice { user, metric: "storage".to_owned(), percent, limit },
            )?);
        }
        jobs::enqueue(tx, &notices).await?;
    }
    Ok(notices)
}

/// Takes units of a tenant's quota, by its plan.
///
/// # Errors
/// 429 `quota_exceeded` when there are not so many left this month.
pub async fn take(app: &App, tenant: TenantId, metric: Metric, count: usize) -> Result<Units> {
    let (plan, overrides) = app.limits.allowance(tenant).await;
    app.meter.take((tenant, app.meter.settings.of(plan).with(overrides).of(metric)), metric, count).await
}
