//! What may be done, and by whom.

/// No one grants what they do not hold.
pub mod grant;
/// From names to roles.
pub mod named;
mod types;

use millwork_shared::auth::revocation::Revoked;
use millwork_shared::infra::ids::RoleId;
use millwork_shared::tenants::queries::{members, roles as rows};
use millwork_shared::tenants::{Permission, Permissions, Role as BuiltIn};
use poem::web::Data;
use poem_openapi::OpenApi;
use poem_openapi::param::Path;
use uuid::Uuid;

use self::types::{Action, NewRole, Resource, Role, RoleChange};
use crate::App;
use crate::auth::revocation;
use crate::http::{
    Answer, ApiError, Begun, Body, Created, Idempotency, IfMatch, List, NoContent, Page, Permitted, Result, to,
};
use crate::routes::Tag;

pub struct RolesApi;

#[OpenApi(tag = "Tag::Identity")]
impl RolesApi {
    /// Show who may do what
    ///
    /// Every permission, by what it is about, and the roles that hold it: those that every tenant has, and this one's
    /// own.
    #[oai(path = "/permissions", method = "get", operation_id = "roles.permissions")]
    async fn permissions(&self, caller: Permitted<to::RolesRead>, app: Data<&App>) -> Result<Answer<Vec<Resource>>> {
        let mut tx = app.db.tenant(caller.tenant).await?;
        let own = rows::list(&mut tx, None, rows::MOST).await?;
        tx.commit().await?;
        let own: Vec<_> = own.into_iter().rev().map(|row| (Permissions::stored(&row.permissions), row.name)).collect();
        Answer::new(&matrix(|permission| {
            let built_in = BuiltIn::ALL.into_iter().filter(|role| role.allows(permission));
            let own = own.iter().filter(|(held, _)| held.contains(permission)).map(|(_, name)| name.clone());
            built_in.map(|role| role.as_str().to_owned()).chain(own).collect()
        }))
    }

    /// List roles
    ///
    /// The tenant's own, newest first, then those that every tenant has.
    #[oai(path = "/roles", method = "get", operation_id = "roles.list")]
    async fn list(&self, caller: Permitted<to::RolesRead>, app: Data<&App>, page: Page) -> Result<List<Role>> {
        let mut tx = app.db.tenant(caller.tenant).await?;
        let own = rows::list(&mut tx, page.before(), page.fetch()).await?;
        tx.commit().await?;
        let is_after = |role: &BuiltIn| page.before().is_none_or(|before| role.id().0 < before);
        let built_in = BuiltIn::ALL.into_iter().filter(is_after).map(Role::from);
        List::new(&page, own.into_iter().map(Role::from).chain(built_in).collect(), |role| role.id)
    }

    /// Make a role
    ///
    /// A tenant has at most a hundred of its own. No one may grant what they do not hold.
    #[oai(path = "/roles", method = "post", operation_id = "roles.create")]
    async fn create(
        &self,
        caller: Permitted<to::RolesWrite>,
        app: Data<&App>,
        key: Idempotency,
        body: Body<NewRole>,
    ) -> Result<Created<Role>> {
        let permissions = grant::parse(&body.permissions)?;
        grant::holds_all(&caller, permissions)?;
        named::check_free(&body.name.0)?;
        let mut tx = match key.begin(&app, &caller, body.hash()).await? {
            Begun::Replay(answer) => return Ok(answer.into()),
            Begun::Work(tx) => tx,
        };
        members::lock(&mut tx, caller.tenant).await?;
        let permissions: Vec<_> = permissions.iter().map(Permission::as_str).collect();
        let description = body.description.as_deref().unwrap_or_default();
        let row = rows::insert(&mut tx, &body.name.0, description, &permissions).await?;
        let location = app.url(&format!("/api/v1/roles/{}", row.id));
        tx.finish(Created::at(&Role::from(row), location)?).await
    }

    /// Show a role
    #[oai(path = "/roles/:id", method = "get", operation_id = "roles.get")]
    async fn get(&self, caller: Permitted<to::RolesRead>, app: Data<&App>, id: Path<Uuid>) -> Result<Answer<Role>> {
        if let Some(role) = built_in(id.0) {
            return Answer::new(&role.into());
        }
        let mut tx = app.db.tenant(caller.tenant).await?;
        let row = rows::get(&mut tx, RoleId(id.0)).await?;
        tx.commit().await?;
        Answer::new(&row.into())
    }

    /// Change a role
    ///
    /// For all who have it, at once. Whoever changes it must hold everything that it held and is to hold.
    #[oai(path = "/roles/:id", method = "patch", operation_id = "roles.update")]
    async fn update(
        &self,
        caller: Permitted<to::RolesWrite>,
        app: Data<&App>,
        id: Path<Uuid>,
        if_match: IfMatch,
        body: Body<RoleChange>,
    ) -> Result<Answer<Role>> {
        own(id.0)?;
        let permissions = body.permissions.as_deref().map(grant::parse).transpose()?;
        body.name.iter().try_for_each(|name| named::check_free(&name.0))?;
        let mut tx = app.db.tenant(caller.tenant).await?;
        members::lock(&mut tx, caller.tenant).await?;
        let row = rows::get(&mut tx, RoleId(id.0)).await?;
        if_match.check(row.version)?;
        grant::holds_all(&caller, Permissions::stored(&row.permissions).with(permissions.unwrap_or_default()))?;
        let names = permissions.map(|permissions| permissions.iter().map(Permission::as_str).collect::<Vec<_>>());
        let words = (body.name.as_ref().map(|name| name.0.as_str()), body.description.as_deref());
        let row = rows::update(&mut tx, row.id, words, names.as_deref()).await?;
        tx.commit().await?;
        revocation::announce(&app, &[Revoked::Tenant(caller.tenant)]).await;
        Answer::new(&row.into())
    }

    /// Delete a role
    ///
    /// Not while a member has it, or somebody is invited to it. Whoever deletes it must hold everything that it held.
    #[oai(path = "/roles/:id", method = "delete", operation_id = "roles.delete")]
    async fn delete(&self, caller: Permitted<to::RolesWrite>, app: Data<&App>, id: Path<Uuid>) -> Result<NoContent> {
        own(id.0)?;
        let mut tx = app.db.tenant(caller.tenant).await?;
        members::lock(&mut tx, caller.tenant).await?;
        let row = rows::get(&mut tx, RoleId(id.0)).await?;
        grant::holds_all(&caller, Permissions::stored(&row.permissions))?;
        rows::delete(&mut tx, row.id).await?;
        tx.commit().await?;
        Ok(NoContent::done())
    }
}

/// Permissions by what they are about; `roles` says who holds one.
fn matrix(roles: impl Fn(Permission) -> Vec<String>) -> Vec<Resource> {
    let mut resources: Vec<Resource> = Vec::new();
    for &permission in Permission::ALL {
        let (resource, action) = permission.parts();
        let action =
            Action { action: action.to_owned(), permission: permission.as_str().to_owned(), roles: roles(permission) };
        match resources.iter_mut().find(|known| known.resource == resource) {
            Some(known) => known.actions.push(action),
            None => resources.push(Resource { resource: resource.to_owned(), actions: vec![action] }),
        }
    }
    resources
}

fn built_in(id: Uuid) -> Option<BuiltIn> {
    BuiltIn::ALL.into_iter().find(|role| role.id().0 == id)
}

/// # Errors
/// 409 for a role that every tenant has.
fn own(id: Uuid) -> Result<()> {
    let Some(role) = built_in(id) else { return Ok(()) };
    let detail = format!("`{}` is a role of every tenant and stays as it is; make one of your own", role.as_str());
    Err(ApiError::conflict("role_built_in", detail))
}
