//! Bodies of the identity routes.

use millwork_shared::tenants::queries as rows;
use poem_openapi::Object;
use poem_openapi::types::Example;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::http::types::{Line, MailAddress, Password};
use crate::http::{Caller, Credential, Time};

#[derive(Debug, Object, Deserialize)]
#[oai(example)]
pub struct Register {
    /// What the tenant is called
    #[oai(validator(min_length = 1, max_length = 200))]
    pub tenant_name: Line,
    /// What the person is called
    #[oai(validator(min_length = 1, max_length = 200))]
    pub name: Line,
    #[oai(validator(max_length = 254))]
    pub email: MailAddress,
    #[oai(validator(min_length = 12, max_length = 128))]
    pub password: Password,
}

impl Example for Register {
    fn example() -> Self {
        Self {
            tenant_name: Line("Acme Ltd".into()),
            name: Line("Ann Archer".into()),
            email: MailAddress("ann@acme.example".into()),
            password: Password::example(),
        }
    }
}

impl Register {
    pub fn user<'a>(&'a self, password_hash: &'a str) -> rows::NewUser<'a> {
        rows::NewUser { email: &self.email.0, name: &self.name.0, password_hash }
    }
}

#[derive(Debug, Object, Deserialize)]
#[oai(example)]
pub struct Login {
    #[oai(validator(max_length = 254))]
    pub email: MailAddress,
    #[oai(validator(max_length = 128))]
    pub password: Password,
    /// For people who belong to several tenants
    pub tenant_id: Option<Uuid>,
}

impl Example for Login {
    fn example() -> Self {
        Self { email: MailAddress("ann@acme.example".into()), password: Password::example(), tenant_id: None }
    }
}

#[derive(Debug, Object, Deserialize)]
pub struct RefreshRequest {
    #[oai(validator(max_length = 200))]
    pub refresh_token: String,
}

#[derive(Debug, Object, Deserialize)]
pub struct VerifyEmail {
    /// From the mail
    #[oai(validator(max_length = 200))]
    pub token: String,
}

/// A fresh pair of tokens.
#[derive(Debug, Object, Serialize)]
pub struct Tokens {
    /// Send it as `Authorization: Bearer …`
    pub access_token: String,
    /// Good once, for `/auth/refresh`
    pub refresh_token: String,
    /// `Bearer`
    pub token_type: String,
    /// Seconds until the access token expires
    pub expires_in: u32,
}

/// A session that was just opened.
#[derive(Debug, Object, Serialize)]
pub struct Session {
    pub user: User,
    pub tenant: Tenant,
    /// Send it as `Authorization: Bearer …`
    pub access_token: String,
    /// Good once, for `/auth/refresh`
    pub refresh_token: String,
    /// `Bearer`
    pub token_type: String,
    /// Seconds until the access token expires
    pub expires_in: u32,
}

impl Session {
    pub fn new(user: rows::User, tenant: rows::Tenant, tokens: Tokens) -> Self {
        let Tokens { access_token, refresh_token, token_type, expires_in } = tokens;
        Self { user: user.into(), tenant: tenant.into(), access_token, refresh_token, token_type, expires_in }
    }
}

/// A person.
#[derive(Debug, Object, Serialize)]
pub struct User {
    pub id: Uuid,
    pub email: String,
    pub name: String,
    /// When the address was proven
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

/// A customer of the service, apart from all others.
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

/// Who a token speaks for, and what it may do.
#[derive(Debug, Object, Serialize)]
pub struct Me {
    pub user: User,
    pub tenant: Tenant,
    /// Roles in this tenant; empty for an API key, which has permissions of its own
    pub roles: Vec<String>,
    /// Everything this token may do, as `resource:action`
    pub permissions: Vec<String>,
    /// When the token is an API key: which one
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
