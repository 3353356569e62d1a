//! What may be done, and by whom.

mod types;

use millwork_shared::tenants::{Permission, Role};
use poem_openapi::OpenApi;

use self::types::{Action, Resource};
use crate::http::{Answer, Permitted, Result, to};
use crate::routes::Tag;

pub struct RolesApi;

#[OpenApi(tag = "Tag::Identity")]
impl RolesApi {
    /// Show who may do what
    ///
    /// Every permission, by what it is about, and the roles that hold it.
    #[oai(path = "/permissions", method = "get", operation_id = "roles.permissions")]
    async fn permissions(&self, _caller: Permitted<to::RolesRead>) -> Result<Answer<Vec<Resource>>> {
        Answer::new(&matrix(|permission| {
            Role::ALL.into_iter().filter(|role| role.allows(permission)).map(|role| role.as_str().to_owned()).collect()
        }))
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
