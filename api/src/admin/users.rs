//! What staff do about people.

use millwork_shared::Error;
use millwork_shared::auth::queries::api_keys;
use millwork_shared::auth::revocation::Revoked;
use millwork_shared::infra::ids::{TenantId, UserId};
use millwork_shared::invitations::queries as invitations;
use millwork_shared::staff::tenants::{self, list_of_user};
use millwork_shared::staff::users::{self as rows, Filter};
use millwork_shared::tenants::queries::members;
use poem::web::Data;
use poem_openapi::OpenApi;
use poem_openapi::param::{Path, Query};
use uuid::Uuid;

use super::types::{AdminMembership, AdminReassign, AdminReassigned, AdminUser, AdminUserDetails};
use super::{StaffCaller, door};
use crate::App;
use crate::auth::revocation;
use crate::http::idempotency::no_body;
use crate::http::{Answer, ApiError, Asker, Begun, Body, Fault, Idempotency, List, Page, Result};
use crate::routes::Tag;

pub struct AdminUsersApi;

#[OpenApi(tag = "Tag::Admin")]
impl AdminUsersApi {
    /// List people, newest first
    #[oai(path = "/admin/users", method = "get", operation_id = "admin.users")]
    async fn list(
        &self,
        staff: StaffCaller,
        app: Data<&App>,
        page: Page,
        /// Only of this address, in any case of letters
        #[oai(validator(max_length = 254))]
        email: Query<Option<String>>,
        /// Only members of this tenant
        tenant_id: Query<Option<Uuid>>,
        /// Only those that are deactivated, or that are not
        deactivated: Query<Option<bool>>,
    ) -> Result<List<AdminUser>> {
        let filter = Filter { email: email.0, tenant: tenant_id.0, deactivated: deactivated.0, before: page.before() };
        let mut tx = door(&app, &staff).await?;
        let users = rows::list(&mut tx, &filter, page.fetch()).await?;
        tx.commit().await?;
        List::new(&page, users.into_iter().map(AdminUser::from).collect(), |user| user.id)
    }

    /// Show a person
    ///
    /// And the tenants that they belong to.
    #[oai(path = "/admin/users/:id", method = "get", operation_id = "admin.user")]
    async fn get(&self, staff: StaffCaller, app: Data<&App>, id: Path<Uuid>) -> Result<Answer<AdminUserDetails>> {
        let mut tx = door(&app, &staff).await?;
        let user = rows::get(&mut tx, UserId(id.0)).await?;
        let memberships = list_of_user(&mut tx, user.id).await?;
        tx.commit().await?;
        let membership = |(tenant, tenant_name, role): (TenantId, String, Option<String>)| AdminMembership {
            tenant_id: tenant.0,
            tenant_name,
            role,
        };
        let memberships = memberships.into_iter().map(membership).collect();
        Answer::new(&AdminUserDetails { user: user.into(), memberships })
    }

    /// Deactivate a person everywhere
    ///
    /// In all of their tenants, at once: sessions end, API keys that they made stop, and they cannot sign in.
    #[oai(path = "/admin/users/:id/deactivate", method = "post", operation_id = "admin.deactivate_user")]
    async fn deactivate(
        &self,
        staff: StaffCaller,
        app: Data<&App>,
        id: Path<Uuid>,
        key: Idempotency,
    ) -> Result<Answer<AdminUser>> {
        let user = UserId(id.0);
        let kept = key.of_asker(&app, Asker::Staff(staff.id()), no_body());
        let mut tx = door(&app, &staff).await?;
        if let Some(answer) = kept.claim(&mut tx).await? {
            return Ok(answer);
        }
        rows::get(&mut tx, user).await?;
        let already = || ApiError::conflict("user_deactivated", "the person is deactivated already");
        let row = rows::set_active(&mut tx, user, false).await?.ok_or_else(already)?;
        let answer = kept.store(&mut tx, Answer::new(&row.into())?).await?;
        tx.commit().await?;
        revocation::announce(&app, &[Revoked::User(user)]).await;
        Ok(answer)
    }

    /// Let a deactivated person in again
    ///
    /// Their sessions stay ended; their API keys are good again.
    #[oai(path = "/admin/users/:id/reactivate", method = "post", operation_id = "admin.reactivate_user")]
    async fn reactivate(
        &self,
        staff: StaffCaller,
        app: Data<&App>,
        id: Path<Uuid>,
        key: Idempotency,
    ) -> Result<Answer<AdminUser>> {
        let user = UserId(id.0);
        let kept = key.of_asker(&app, Asker::Staff(staff.id()), no_body());
        let mut tx = door(&app, &staff).await?;
        if let Some(answer) = kept.claim(&mut tx).await? {
            return Ok(answer);
        }
        rows::get(&mut tx, user).await?;
        let not = || ApiError::conflict("user_active", "the person is not deactivated");
        let row = rows::set_active(&mut tx, user, true).await?.ok_or_else(not)?;
        let answer = kept.store(&mut tx, Answer::new(&row.into())?).await?;
        tx.commit().await?;
        Ok(answer)
    }

    /// Hand over what a person owns in a tenant
    ///
    /// API keys and open invitations go to another active member of it, as by `POST /users/{id}/reassign`.
    #[oai(path = "/admin/users/:id/reassign", method = "post", operation_id = "admin.reassign_user")]
    async fn reassign(
        &self,
        staff: StaffCaller,
        app: Data<&App>,
        id: Path<Uuid>,
        key: Idempotency,
        body: Body<AdminReassign>,
    ) -> Result<Answer<AdminReassigned>> {
        let mut tx = door(&app, &staff).await?;
        let tenant = tenants::get(&mut tx, TenantId(body.tenant_id), false).await?.id;
        tx.commit().await?;
        // By the tenant's own door: what is handed over is not the staff's to see.
        let mut tx = match key.by(staff.id()).begin_in(&app, tenant, body.hash()).await? {
            Begun::Replay(answer) => return Ok(answer.into()),
            Begun::Work(tx) => tx,
        };
        members::lock(&mut tx, tenant).await?;
        let from = members::get(&mut tx, UserId(id.0)).await?.id;
        let heir = match members::get(&mut tx, UserId(body.to)).await {
            Ok(heir) if heir.deactivated_at.is_none() => heir.id,
            Ok(_) | Err(Error::NotFound(_)) => {
                let detail = format!("{} is no active member of this tenant", body.to);
                return Err(ApiError::invalid(vec![Fault::new("/to", "unknown", detail)]));
            }
            Err(error) => return Err(error.into()),
        };
        let api_keys = api_keys::hand_over(&mut tx, from, heir).await?;
        let invitations = invitations::hand_over(&mut tx, from, heir).await?;
        let answer = tx.finish(Answer::new(&AdminReassigned { api_keys, invitations })?).await?;
        revocation::announce(&app, &[Revoked::Member(tenant, from)]).await;
        Ok(answer)
    }
}
