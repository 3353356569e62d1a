//! Where a tenant's people and programs may come from.

mod types;

use std::net::IpAddr;

use millwork_shared::auth::revocation::Revoked;
use millwork_shared::infra::ids::{IpRuleId, TenantId};
use millwork_shared::ip_rules::{IpRules, queries as rows};
use poem::web::Data;
use poem_openapi::OpenApi;
use poem_openapi::param::{Path, Query};
use uuid::Uuid;

use crate::App;
use crate::auth::revocation;
use crate::http::{
    Answer, Begun, Body, Created, Idempotency, List, NoContent, Page, Permitted, RequestInfo, Result, to,
};
use crate::routes::Tag;
use types::{IpRule, NewIpRule, would_lock_out};

pub struct IpRulesApi;

#[OpenApi(tag = "Tag::Identity")]
impl IpRulesApi {
    /// List IP rules
    ///
    /// Newest first.
    #[oai(path = "/security/ip-rules", method = "get", operation_id = "ip_rules.list")]
    async fn list(&self, caller: Permitted<to::IpRulesRead>, app: Data<&App>, page: Page) -> Result<List<IpRule>> {
        let mut tx = app.db.tenant(caller.tenant).await?;
        let rules = rows::list(&mut tx, page.before(), page.fetch()).await?;
        tx.commit().await?;
        List::new(&page, rules.into_iter().map(IpRule::from).collect(), |rule| rule.id)
    }

    /// Show an IP rule
    #[oai(path = "/security/ip-rules/:id", method = "get", operation_id = "ip_rules.get")]
    async fn get(&self, caller: Permitted<to::IpRulesRead>, app: Data<&App>, id: Path<Uuid>) -> Result<Answer<IpRule>> {
        let mut tx = app.db.tenant(caller.tenant).await?;
        let rule = rows::get(&mut tx, IpRuleId(id.0)).await?;
        tx.commit().await?;
        Answer::new(&rule.into())
    }

    /// Add an IP rule
    ///
    /// Counts at once, for every session and API key of the tenant: a request from a network that is denied is answered
    /// 403 `ip_not_allowed`, and, as soon as any network is allowed, so is one from elsewhere. Streams that are open go
    /// on. A rule that would keep out the caller's own address is refused (409 `would_lock_out`) unless `force` says
    /// that it is meant. A tenant has at most 100.
    #[oai(path = "/security/ip-rules", method = "post", operation_id = "ip_rules.create")]
    async fn create(
        &self,
        caller: Permitted<to::IpRulesWrite>,
        app: Data<&App>,
        request: RequestInfo,
        key: Idempotency,
        body: Body<NewIpRule>,
    ) -> Result<Created<IpRule>> {
        let network = body.network()?;
        let mut tx = match key.begin(&app, &caller, body.hash()).await? {
            Begun::Replay(answer) => return Ok(answer.into()),
            Begun::Work(tx) => tx,
        };
        rows::hold(&mut tx).await?;
        let description = body.description.as_deref().unwrap_or_default();
        let rule = rows::insert(&mut tx, body.action.into(), network, description).await?;
        check(rows::hold(&mut tx).await?, request.address(), body.force)?;
        let location = app.url(&format!("/api/v1/security/ip-rules/{}", rule.id));
        let answer = tx.finish(Created::at(&IpRule::from(rule), location)?).await?;
        tell(&app, caller.tenant).await;
        Ok(answer)
    }

    /// Delete an IP rule
    ///
    /// Counts at once. Taking away what allows the caller's own address is refused (409 `would_lock_out`) unless
    /// `?force=true` says that it is meant.
    #[oai(path = "/security/ip-rules/:id", method = "delete", operation_id = "ip_rules.delete")]
    async fn delete(
        &self,
        caller: Permitted<to::IpRulesWrite>,
        app: Data<&App>,
        request: RequestInfo,
        id: Path<Uuid>,
        /// Delete it even if the caller's own address would be refused from then on
        force: Query<Option<bool>>,
    ) -> Result<NoContent> {
        let mut tx = app.db.tenant(caller.tenant).await?;
        rows::hold(&mut tx).await?;
        rows::delete(&mut tx, IpRuleId(id.0)).await?;
        check(rows::hold(&mut tx).await?, request.address(), force.0)?;
        tx.commit().await?;
        tell(&app, caller.tenant).await;
        Ok(NoContent::done())
    }
}

fn check(after: IpRules, address: Option<IpAddr>, force: Option<bool>) -> Result<()> {
    if force == Some(true) || after.admit(address) { Ok(()) } else { Err(would_lock_out(address)) }
}

/// Has every process look again at whoever speaks for the tenant.
async fn tell(app: &App, tenant: TenantId) {
    revocation::announce(app, &[Revoked::Tenant(tenant)]).await;
}
