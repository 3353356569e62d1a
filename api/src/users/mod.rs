//! The members of a tenant.

mod types;

use millwork_shared::auth::queries::{api_keys, sessions};
use millwork_shared::auth::revocation::Revoked;
use millwork_shared::infra::db::TenantTx;
use millwork_shared::infra::ids::UserId;
use millwork_shared::invitations::queries as invitations;
use millwork_shared::jobs::{NewJob, queries as jobs};
use millwork_shared::personal_data::jobs::EraseUser;
use millwork_shared::tenants::Permissions;
use millwork_shared::tenants::queries::members::{self as rows, Member as Row};
use poem::web::Data;
use poem_openapi::OpenApi;
use poem_openapi::param::Path;
use poem_openapi::types::MaybeUndefined;
use uuid::Uuid;

use self::types::{Erase, Member, MemberChange, Reassign, Reassigned, RoleNames};
use crate::App;
use crate::auth::revocation;
use crate::http::idempotency::no_body;
use crate::http::{
    Accepted, Answer, ApiError, Begun, Body, Caller, Fault, Idempotency, IfMatch, List, NoContent, Page, Permitted,
    RequestInfo, Result, to,
};
use crate::jobs::types::Job;
use crate::quotas;
use crate::roles::{grant, named};
use crate::routes::Tag;

pub struct UsersApi;

#[OpenApi(tag = "Tag::Identity")]
impl UsersApi {
    /// List members
    ///
    /// Those that were deactivated included; the account that was made last first.
    #[oai(path = "/users", method = "get", operation_id = "users.list")]
    async fn list(&self, caller: Permitted<to::UsersRead>, app: Data<&App>, page: Page) -> Result<List<Member>> {
        let mut tx = app.db.tenant(caller.tenant).await?;
        let members = rows::list(&mut tx, page.before(), page.fetch()).await?;
        tx.commit().await?;
        List::new(&page, members.into_iter().map(Member::from).collect(), |member| member.id)
    }

    /// Show a member
    #[oai(path = "/users/:id", method = "get", operation_id = "users.get")]
    async fn get(&self, caller: Permitted<to::UsersRead>, app: Data<&App>, id: Path<Uuid>) -> Result<Answer<Member>> {
        let mut tx = app.db.tenant(caller.tenant).await?;
        let member = rows::get(&mut tx, UserId(id.0)).await?;
        tx.commit().await?;
        Answer::new(&member.into())
    }

    /// Change a member
    ///
    /// What this tenant calls them. Their address, password and second factor are theirs alone. Nobody changes a member
    /// who may do more than they may.
    #[oai(path = "/users/:id", method = "patch", operation_id = "users.update")]
    async fn update(
        &self,
        caller: Permitted<to::UsersWrite>,
        app: Data<&App>,
        id: Path<Uuid>,
        if_match: IfMatch,
        body: Body<MemberChange>,
    ) -> Result<Answer<Member>> {
        let mut tx = app.db.tenant(caller.tenant).await?;
        let member = lock(&mut tx, &caller, id.0).await?;
        if_match.check(member.version)?;
        match &body.name {
            MaybeUndefined::Undefined => {}
            MaybeUndefined::Null => rows::rename(&mut tx, member.id, None).await?,
            MaybeUndefined::Value(name) => rows::rename(&mut tx, member.id, Some(&name.0)).await?,
        }
        let member = rows::get(&mut tx, member.id).await?;
        tx.commit().await?;
        Answer::new(&member.into())
    }

    /// Remove a member
    ///
    /// At once: their sessions here end, and their API keys go. What is to go on is handed over before, by `reassign`.
    /// Their account stays. The last owner stays too.
    #[oai(path = "/users/:id", method = "delete", operation_id = "users.remove")]
    async fn remove(&self, caller: Permitted<to::UsersWrite>, app: Data<&App>, id: Path<Uuid>) -> Result<NoContent> {
        let mut tx = app.db.tenant(caller.tenant).await?;
        let member = lock(&mut tx, &caller, id.0).await?;
        rows::keep_an_owner(&mut tx, member.id).await?;
        sessions::end_of_member(&mut tx, member.id).await?;
        api_keys::delete_of(&mut tx, member.id).await?;
        rows::remove(&mut tx, member.id).await?;
        tx.commit().await?;
        revoke(&app, &caller, member.id).await;
        Ok(NoContent::done())
    }

    /// Replace the roles of a member
    ///
    /// One of those that every tenant has at most, and any of the tenant's own. They count at once, for sessions and
    /// API keys too. Nobody gives or takes what they do not hold, so only owners make and unmake owners; the last one
    /// stays.
    #[oai(path = "/users/:id/roles", method = "put", operation_id = "users.set_roles")]
    async fn set_roles(
        &self,
        caller: Permitted<to::UsersWrite>,
        app: Data<&App>,
        id: Path<Uuid>,
        if_match: IfMatch,
        body: Body<RoleNames>,
    ) -> Result<Answer<Member>> {
        let mut tx = app.db.tenant(caller.tenant).await?;
        let member = lock(&mut tx, &caller, id.0).await?;
        if_match.check(member.version)?;
        let wanted = named::find(&mut tx, &body.roles).await?;
        grant::holds_all(&caller, wanted.permissions)?;
        if wanted.built_in != Some(millwork_shared::tenants::Role::Owner) {
            rows::keep_an_owner(&mut tx, member.id).await?;
        }
        rows::set_roles(&mut tx, member.id, wanted.built_in, &wanted.own).await?;
        let member = rows::get(&mut tx, member.id).await?;
        tx.commit().await?;
        revoke(&app, &caller, member.id).await;
        Answer::new(&member.into())
    }

    /// Shut a member out
    ///
    /// At once: their sessions here end, and their API keys rest. Roles and what they own stay for when they are let in
    /// again. The last owner cannot be shut out.
    #[oai(path = "/users/:id/deactivate", method = "post", operation_id = "users.deactivate")]
    async fn deactivate(
        &self,
        caller: Permitted<to::UsersWrite>,
        app: Data<&App>,
        id: Path<Uuid>,
        key: Idempotency,
    ) -> Result<Answer<Member>> {
        let mut tx = match key.begin(&app, &caller, no_body()).await? {
            Begun::Replay(answer) => return Ok(answer.into()),
            Begun::Work(tx) => tx,
        };
        let member = lock(&mut tx, &caller, id.0).await?;
        rows::keep_an_owner(&mut tx, member.id).await?;
        rows::set_active(&mut tx, member.id, false).await?;
        sessions::end_of_member(&mut tx, member.id).await?;
        let member = rows::get(&mut tx, member.id).await?;
        let id = member.id;
        let answer = tx.finish(Answer::new(&member.into())?).await?;
        revoke(&app, &caller, id).await;
        Ok(answer)
    }

    /// Let a member in again
    ///
    /// They take a place of the plan's members, and sign in anew; their API keys go on.
    #[oai(path = "/users/:id/reactivate", method = "post", operation_id = "users.reactivate")]
    async fn reactivate(
        &self,
        caller: Permitted<to::UsersWrite>,
        app: Data<&App>,
        id: Path<Uuid>,
        key: Idempotency,
    ) -> Result<Answer<Member>> {
        let quota = quotas::members(&app, caller.tenant).await;
        let mut tx = match key.begin(&app, &caller, no_body()).await? {
            Begun::Replay(answer) => return Ok(answer.into()),
            Begun::Work(tx) => tx,
        };
        let member = lock(&mut tx, &caller, id.0).await?;
        if member.deactivated_at.is_some() {
            rows::claim_place(&mut tx, caller.tenant, quota).await?;
        }
        rows::set_active(&mut tx, member.id, true).await?;
        let member = rows::get(&mut tx, member.id).await?;
        tx.finish(Answer::new(&member.into())?).await
    }

    /// Erase a member
    ///
    /// They are shut out at once, and a job, `users.erase`, erases what is kept of them here (GDPR article 17): membership,
    /// sessions, API keys, invitations, alerts to their address, and the account if no other tenant has it. What stays,
    /// and why, is in the job's result and in the audit entry `user.erased`; webhooks are told by `user.erased`. It cannot be
    /// undone. Export `personal_data` before; hand over what is to go on by `reassign`. The last owner stays.
    #[oai(path = "/users/:id/erase", method = "post", operation_id = "users.erase")]
    async fn erase(
        &self,
        caller: Permitted<to::PersonalDataErase>,
        app: Data<&App>,
        request: RequestInfo,
        id: Path<Uuid>,
        key: Idempotency,
        body: Body<Erase>,
    ) -> Result<Accepted<Job>> {
        let mut tx = match key.begin(&app, &caller, body.hash()).await? {
            Begun::Replay(answer) => return Ok(answer.into()),
            Begun::Work(tx) => tx,
        };
        let user = lock(&mut tx, &caller, id.0).await?.id;
        rows::keep_an_owner(&mut tx, user).await?;
        rows::set_active(&mut tx, user, false).await?;
        sessions::end_of_member(&mut tx, user).await?;
        let erase = EraseUser { user, delete_files: body.delete_files };
        let mut job = NewJob::of(caller.tenant, &erase)?.caused_by(&request.cause());
        job.submitted_by = Some(caller.actor());
        let job = [job];
        jobs::enqueue(&mut tx, &job).await?;
        let location = app.url(&format!("/api/v1/jobs/{}", job[0].id));
        let answer = tx.finish(Accepted::at(&Job::from(&job[0]), location)?).await?;
        app.dispatcher.offer(&job);
        revoke(&app, &caller, user).await;
        Ok(answer)
    }

    /// Hand over what a member owns
    ///
    /// Their API keys and the invitations they sent, to another active member. A key may do what it was given and its
    /// new owner holds; whoever hands it over must hold all that it was given.
    #[oai(path = "/users/:id/reassign", method = "post", operation_id = "users.reassign")]
    async fn reassign(
        &self,
        caller: Permitted<to::UsersWrite>,
        app: Data<&App>,
        id: Path<Uuid>,
        key: Idempotency,
        body: Body<Reassign>,
    ) -> Result<Answer<Reassigned>> {
        let mut tx = match key.begin(&app, &caller, body.hash()).await? {
            Begun::Replay(answer) => return Ok(answer.into()),
            Begun::Work(tx) => tx,
        };
        let member = lock(&mut tx, &caller, id.0).await?;
        let heir = match rows::get(&mut tx, UserId(body.to)).await {
            Ok(heir) if heir.deactivated_at.is_none() => heir.id,
            Ok(_) | Err(millwork_shared::Error::NotFound(_)) => {
                let detail = format!("{} is no active member of this tenant", body.to);
                return Err(ApiError::invalid(vec![Fault::new("/to", "unknown", detail)]));
            }
            Err(error) => return Err(error.into()),
        };
        grant::holds_all(&caller, Permissions::stored(&api_keys::list_permissions_of(&mut tx, member.id).await?))?;
        let api_keys = api_keys::hand_over(&mut tx, member.id, heir).await?;
        let invitations = invitations::hand_over(&mut tx, member.id, heir).await?;
        let answer = tx.finish(Answer::new(&Reassigned { api_keys, invitations })?).await?;
        revoke(&app, &caller, member.id).await;
        Ok(answer)
    }
}

/// A member whom the caller may touch; nobody else touches any until the end of the transaction.
///
/// # Errors
/// 403 when they may do more than the caller.
async fn lock(tx: &mut TenantTx, caller: &Caller, id: Uuid) -> Result<Row> {
    rows::lock(tx, caller.tenant).await?;
    let member = rows::get(tx, UserId(id)).await?;
    grant::holds_all(caller, member.standing.permissions())?;
    Ok(member)
}

/// Has what speaks for a member be asked for anew, everywhere. Call it after the commit.
async fn revoke(app: &App, caller: &Caller, member: UserId) {
    revocation::announce(app, &[Revoked::Member(caller.tenant, member)]).await;
}
