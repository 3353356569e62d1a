//! What staff do about tenants.

use millwork_shared::auth::revocation::Revoked;
use millwork_shared::infra::ids::TenantId;
use millwork_shared::jobs::Queue;
use millwork_shared::staff::tenants::{self as rows, Filter};
use millwork_shared::tenants::Plan;
use poem::web::Data;
use poem_openapi::OpenApi;
use poem_openapi::param::{Path, Query};
use uuid::Uuid;

use super::types::{AdminQuotas, AdminSuspend, AdminTenant, AdminTenantChange, AdminTenantDetails, QuotaOverrides};
use super::{StaffCaller, door};
use crate::App;
use crate::auth::revocation;
use crate::http::idempotency::no_body;
use crate::http::{Answer, ApiError, Asker, Body, Fault, Idempotency, IfMatch, List, Page, Result};
use crate::routes::Tag;

pub struct AdminTenantsApi;

#[OpenApi(tag = "Tag::Admin")]
impl AdminTenantsApi {
    /// List tenants, newest first
    #[oai(path = "/admin/tenants", method = "get", operation_id = "admin.tenants")]
    async fn list(
        &self,
        staff: StaffCaller,
        app: Data<&App>,
        page: Page,
        /// Only of this plan: `starter`, `pro` or `enterprise`
        plan: Query<Option<String>>,
        /// Only those that are suspended, or that are not
        suspended: Query<Option<bool>>,
        /// Only whose name begins so, in any case of letters
        #[oai(validator(max_length = 200))]
        name: Query<Option<String>>,
    ) -> Result<List<AdminTenant>> {
        let plan = plan.0.map(|plan| plan.parse::<Plan>()).transpose();
        let plan =
            plan.map_err(|fault| ApiError::malformed("parameter_invalid", format!("parameter `plan`: {fault}")))?;
        let filter = Filter { plan, suspended: suspended.0, name: name.0, before: page.before() };
        let mut tx = door(&app, &staff).await?;
        let tenants = rows::list(&mut tx, &filter, page.fetch()).await?;
        tx.commit().await?;
        List::new(&page, tenants.into_iter().map(AdminTenant::from).collect(), |tenant| tenant.id)
    }

    /// Show a tenant
    ///
    /// And what it uses, what it may use, and who owns it.
    #[oai(path = "/admin/tenants/:id", method = "get", operation_id = "admin.tenant")]
    async fn get(&self, staff: StaffCaller, app: Data<&App>, id: Path<Uuid>) -> Result<Answer<AdminTenantDetails>> {
        let mut tx = door(&app, &staff).await?;
        let tenant = rows::get(&mut tx, TenantId(id.0), false).await?;
        let details = rows::details(&mut tx, tenant.id).await?;
        let (overrides, version) = rows::find_overrides(&mut tx, tenant.id).await?;
        tx.commit().await?;
        let plan = app.meter.settings.of(tenant.plan.parse().unwrap_or_default());
        Answer::new(&AdminTenantDetails::new(tenant, details, AdminQuotas::new(plan, overrides, version)))
    }

    /// Give a tenant another plan
    ///
    /// Its limits and quotas follow within a minute.
    #[oai(path = "/admin/tenants/:id", method = "patch", operation_id = "admin.update_tenant")]
    async fn update(
        &self,
        staff: StaffCaller,
        app: Data<&App>,
        id: Path<Uuid>,
        if_match: IfMatch,
        body: Body<AdminTenantChange>,
    ) -> Result<Answer<AdminTenant>> {
        let plan: Plan = body
            .plan
            .parse()
            .map_err(|fault: String| ApiError::invalid(vec![Fault::new("/plan", "not_allowed", fault)]))?;
        let mut tx = door(&app, &staff).await?;
        let tenant = rows::get(&mut tx, TenantId(id.0), true).await?;
        if_match.check(tenant.version)?;
        let tenant = rows::set_plan(&mut tx, tenant.id, plan).await?;
        tx.commit().await?;
        app.limits.forget_plan(tenant.id);
        Answer::new(&tenant.into())
    }

    /// Allow a tenant more or less than its plan
    ///
    /// Null stands for what the plan says. In force within a minute.
    #[oai(path = "/admin/tenants/:id/quotas", method = "put", operation_id = "admin.set_quotas")]
    async fn set_quotas(
        &self,
        staff: StaffCaller,
        app: Data<&App>,
        id: Path<Uuid>,
        if_match: IfMatch,
        body: Body<QuotaOverrides>,
    ) -> Result<Answer<AdminQuotas>> {
        let mut tx = door(&app, &staff).await?;
        let tenant = rows::get(&mut tx, TenantId(id.0), true).await?;
        let (_, version) = rows::find_overrides(&mut tx, tenant.id).await?;
        if_match.check(version)?;
        let overrides = body.into_inner().into();
        let version = rows::set_overrides(&mut tx, tenant.id, overrides).await?;
        tx.commit().await?;
        app.limits.forget_plan(tenant.id);
        let plan = app.meter.settings.of(tenant.plan.parse().unwrap_or_default());
        Answer::new(&AdminQuotas::new(plan, overrides, version))
    }

    /// Suspend a tenant
    ///
    /// At once its tokens, API keys and links stop (403 `tenant_suspended`; links of an object store's own run out by
    /// themselves) and nobody signs in to it. Its jobs wait until it is resumed: none is started, and those that run finish.
    /// Its schedules do not fire.
    #[oai(path = "/admin/tenants/:id/suspend", method = "post", operation_id = "admin.suspend_tenant")]
    async fn suspend(
        &self,
        staff: StaffCaller,
        app: Data<&App>,
        id: Path<Uuid>,
        key: Idempotency,
        body: Body<AdminSuspend>,
    ) -> Result<Answer<AdminTenant>> {
        let kept = key.of_asker(&app, Asker::Staff(staff.id()), body.hash());
        let mut tx = door(&app, &staff).await?;
        if let Some(answer) = kept.claim(&mut tx).await? {
            return Ok(answer);
        }
        let tenant = rows::get(&mut tx, TenantId(id.0), true).await?.id;
        let already = || ApiError::conflict("tenant_suspended", "the tenant is suspended already");
        let suspended = rows::suspend(&mut tx, tenant, &body.reason.0).await?.ok_or_else(already)?;
        let answer = kept.store(&mut tx, Answer::new(&suspended.into())?).await?;
        tx.commit().await?;
        revocation::announce(&app, &[Revoked::Tenant(tenant)]).await;
        tell(&app, tenant, &Queue::ALL, true).await;
        Ok(answer)
    }

    /// Resume a tenant
    ///
    /// Its tokens and keys are good again, those that have not ended meanwhile. Its jobs go on, but in queues that it
    /// has paused itself; its schedules do by their `misfire` rules.
    #[oai(path = "/admin/tenants/:id/resume", method = "post", operation_id = "admin.resume_tenant")]
    async fn resume(
        &self,
        staff: StaffCaller,
        app: Data<&App>,
        id: Path<Uuid>,
        key: Idempotency,
    ) -> Result<Answer<AdminTenant>> {
        let kept = key.of_asker(&app, Asker::Staff(staff.id()), no_body());
        let mut tx = door(&app, &staff).await?;
        if let Some(answer) = kept.claim(&mut tx).await? {
            return Ok(answer);
        }
        let tenant = rows::get(&mut tx, TenantId(id.0), true).await?.id;
        let not = || ApiError::conflict("tenant_not_suspended", "the tenant is not suspended");
        let (resumed, queues) = rows::resume(&mut tx, tenant).await?.ok_or_else(not)?;
        let answer = kept.store(&mut tx, Answer::new(&resumed.into())?).await?;
        tx.commit().await?;
        revocation::announce(&app, &[Revoked::Tenant(tenant)]).await;
        tell(&app, tenant, &queues, false).await;
        Ok(answer)
    }
}

/// The ledger has decided; Redis follows now, or within seconds by the scheduler.
async fn tell(app: &App, tenant: TenantId, queues: &[Queue], paused: bool) {
    for queue in queues {
        let told = match paused {
            true => app.dispatcher.pause(*queue, tenant).await,
            false => app.dispatcher.resume(*queue, tenant).await,
        };
        if let Err(error) = told {
            tracing::warn!(%error, error.category = %error.category(), "cannot tell Redis; the scheduler will");
        }
    }
}
