//! The tenant itself.

/// Bodies.
pub mod types;

use millwork_shared::tenants::queries as rows;
use poem::web::Data;
use poem_openapi::OpenApi;

use self::types::{Tenant, TenantChange};
use crate::App;
use crate::http::{Answer, Body, IfMatch, Permitted, Result, to};
use crate::routes::Tag;

pub struct TenantsApi;

#[OpenApi(tag = "Tag::Identity")]
impl TenantsApi {
    /// Show the tenant
    #[oai(path = "/tenant", method = "get", operation_id = "tenant.get")]
    async fn get(&self, caller: Permitted<to::TenantRead>, app: Data<&App>) -> Result<Answer<Tenant>> {
        let mut tx = app.db.tenant(caller.tenant).await?;
        let tenant = rows::get_tenant(&mut tx).await?;
        tx.commit().await?;
        Answer::new(&tenant.into())
    }

    /// Change the tenant
    ///
    /// Its plan is not its own to choose.
    #[oai(path = "/tenant", method = "patch", operation_id = "tenant.update")]
    async fn update(
        &self,
        caller: Permitted<to::TenantWrite>,
        app: Data<&App>,
        if_match: IfMatch,
        body: Body<TenantChange>,
    ) -> Result<Answer<Tenant>> {
        let mut tx = app.db.tenant(caller.tenant).await?;
        if_match.check(rows::lock_tenant(&mut tx).await?.version)?;
        let name = body.name.as_ref().map(|name| name.0.as_str());
        let tenant = rows::update_tenant(&mut tx, name, body.strict_event_types).await?;
        tx.commit().await?;
        Answer::new(&tenant.into())
    }
}
