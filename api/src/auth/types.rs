//! Bodies of the identity routes.

use millwork_shared::tenants::queries as rows;
use poem_openapi::Object;
use serde::Serialize;
use uuid::Uuid;

use crate::http::{Caller, Credential, Time};

/// A person.
#[derive(Debug, Object, Serialize)]
pub struct User {
    pub id: Uuid,
    pub email: String,
    pub name: String,
    /// When the address was proven.
    pub email_verified_at: Option<Time>,
    pub created_at: Time,
}

impl From<rows::User> for User {
    fn from(row: rows::User) -> Self {
        Self {
            id: row.id.0,
            email: row.email,
            name: row.name,
            email_verified_at: row.verified_at.map(Time),
            created_at: Time(row.created_at),
        }
    }
}

#[derive(Debug, Object, Serialize)]
pub struct Tenant {
    pub id: Uuid,
    pub name: String,
    pub created_at: Time,
}

impl From<rows::Tenant> for Tenant {
    fn from(row: rows::Tenant) -> Self {
        Self { id: row.id.0, name: row.name, created_at: Time(row.created_at) }
    }
}

#[derive(Debug, Object, Serialize)]
pub struct Me {
    pub user: User,
    pub tenant: Tenant,
    /// Roles in this tenant; empty for an API key, which has permissions of its own.
    pub roles: Vec<String>,
    /// Everything this token may do, as `resource:action`.
    pub permissions: Vec<String>,
    /// When the token is an API key: which one.
    pub api_key_id: Option<Uuid>,
}

impl Me {
    pub fn new(caller: &Caller, user: rows::User, tenant: rows::Tenant) -> Self {
        Self {
            user: user.into(),
            tenant: tenant.into(),
            roles: caller.role.iter().map(|role| role.as_str().to_owned()).collect(),
            permissions: caller.permissions.iter().map(|p| p.as_str().to_owned()).collect(),
            api_key_id: match caller.credential {
                Credential::ApiKey(id) => Some(id.0),
                Credential::Session(_) => None,
            },
        }
    }
}
