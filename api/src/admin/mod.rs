//! What the platform's staff see and do, over all tenants (decision 0033).

mod caller;
/// `millwork-api admin …`.
pub mod command;
/// How staff sign in and out.
pub mod sessions;
/// Tenants: plan, quotas, suspension.
pub mod tenants;
mod types;
/// People, in all of their tenants.
pub mod users;

use millwork_shared::infra::db::StaffTx;
use millwork_shared::staff::feed::{self, Filter, Table};
use poem::web::Data;
use poem_openapi::OpenApi;
use poem_openapi::param::Query;
use uuid::Uuid;

pub use self::caller::StaffCaller;
use self::types::{AdminActivity, PlatformMetrics};
use crate::App;
use crate::http::{Answer, List, Page, Result};
use crate::routes::Tag;

pub struct AdminApi;

#[OpenApi(tag = "Tag::Admin")]
impl AdminApi {
    /// Show the platform in figures
    ///
    /// Costs the same however much there is: tables of more than 10,000 rows are estimated, jobs are counted by the
    /// scheduler.
    #[oai(path = "/admin/metrics", method = "get", operation_id = "admin.metrics")]
    async fn metrics(&self, staff: StaffCaller, app: Data<&App>) -> Result<Answer<PlatformMetrics>> {
        let mut tx = door(&app, &staff).await?;
        let metrics = PlatformMetrics {
            tenants: feed::count(&mut tx, Table::Tenants).await?.into(),
            users: feed::count(&mut tx, Table::Users).await?.into(),
            queues: feed::list_queues(&mut tx).await?.into_iter().map(Into::into).collect(),
            database_size_bytes: feed::database_bytes(&mut tx).await?,
        };
        tx.commit().await?;
        Answer::new(&metrics)
    }

    /// List what was done, newest first
    ///
    /// The audit entries of all tenants and of the platform itself.
    #[oai(path = "/admin/activity", method = "get", operation_id = "admin.activity")]
    async fn activity(
        &self,
        staff: StaffCaller,
        app: Data<&App>,
        page: Page,
        /// Only in this tenant
        tenant_id: Query<Option<Uuid>>,
        /// Only what staff did
        by_staff: Query<Option<bool>>,
    ) -> Result<List<AdminActivity>> {
        let filter = Filter { tenant: tenant_id.0, by_staff: by_staff.0.unwrap_or(false), before: page.before() };
        let mut tx = door(&app, &staff).await?;
        let rows = feed::list(&mut tx, &filter, page.fetch()).await?;
        tx.commit().await?;
        List::new(&page, rows.into_iter().map(AdminActivity::from).collect(), |entry| entry.id)
    }
}

/// The staff's door, for who has shown that they are.
async fn door(app: &App, staff: &StaffCaller) -> Result<StaffTx> {
    Ok(app.db.staff(staff).await?)
}
