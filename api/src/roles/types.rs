//! Bodies of `/permissions` and `/roles`.

use millwork_shared::tenants::queries::roles as rows;
use millwork_shared::tenants::{Permission, Role as BuiltIn};
use poem_openapi::Object;
use poem_openapi::types::Example;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::http::Time;
use crate::http::types::Line;

/// What something may be done with.
#[derive(Debug, Object, Serialize)]
pub struct Resource {
    pub resource: String,
    pub actions: Vec<Action>,
}

/// What may be done with it, and by whom.
#[derive(Debug, Object, Serialize)]
pub struct Action {
    pub action: String,
    /// `resource:action`, as keys and roles take it
    pub permission: String,
    /// The roles that hold it
    pub roles: Vec<String>,
}

#[derive(Debug, Object, Deserialize)]
#[oai(example)]
pub struct NewRole {
    /// In any case of letters no other role's
    #[oai(validator(min_length = 1, max_length = 100))]
    pub name: Line,
    #[oai(validator(max_length = 1000))]
    pub description: Option<String>,
    /// What it may do, as `resource:action`
    #[oai(validator(min_items = 1, max_items = 128))]
    pub permissions: Vec<String>,
}

impl Example for NewRole {
    fn example() -> Self {
        Self {
            name: Line("Billing".into()),
            description: Some("Looks at what was used".into()),
            permissions: vec!["usage:read".into()],
        }
    }
}

/// What is absent stays as it is.
#[derive(Debug, Object, Deserialize)]
pub struct RoleChange {
    #[oai(validator(min_length = 1, max_length = 100))]
    pub name: Option<Line>,
    #[oai(validator(max_length = 1000))]
    pub description: Option<String>,
    /// All that it may do from now on
    #[oai(validator(min_items = 1, max_items = 128))]
    pub permissions: Option<Vec<String>>,
}

/// What members may do.
#[derive(Debug, Object, Serialize)]
pub struct Role {
    pub id: Uuid,
    /// By which members have it
    pub name: String,
    pub description: String,
    pub permissions: Vec<String>,
    /// Whether every tenant has it, and nobody changes it
    pub built_in: bool,
    pub created_at: Option<Time>,
    pub version: i32,
}

impl From<rows::RoleRow> for Role {
    fn from(row: rows::RoleRow) -> Self {
        Self {
            id: row.id.0,
            name: row.name,
            description: row.description,
            permissions: row.permissions,
            built_in: false,
            created_at: Some(Time(row.created_at)),
            version: row.version,
        }
    }
}

impl From<BuiltIn> for Role {
    fn from(role: BuiltIn) -> Self {
        Self {
            id: role.id().0,
            name: role.as_str().to_owned(),
            description: role.description().to_owned(),
            permissions: role.permissions().iter().map(|p| Permission::as_str(p).to_owned()).collect(),
            built_in: true,
            created_at: None,
            version: 1,
        }
    }
}
