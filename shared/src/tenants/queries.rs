//! Every statement on `tenants`, `users` and `memberships`.

use chrono::{DateTime, Utc};

use crate::infra::db::TenantTx;
use crate::infra::ids::{TenantId, UserId};
use crate::{Error, Result};

#[derive(Debug, Clone, sqlx::FromRow)]
pub struct Tenant {
    pub id: TenantId,
    pub name: String,
    pub created_at: DateTime<Utc>,
}

/// A person, without the password hash.
#[derive(Debug, Clone, sqlx::FromRow)]
pub struct User {
    pub id: UserId,
    pub email: String,
    pub name: String,
    pub verified_at: Option<DateTime<Utc>>,
    pub created_at: DateTime<Utc>,
}

/// The tenant of this transaction.
pub async fn get_tenant(tx: &mut TenantTx) -> Result<Tenant> {
    sqlx::query_as("select id, name, created_at from tenants")
        .fetch_optional(&mut **tx)
        .await?
        .ok_or(Error::NotFound("tenant"))
}

/// A member of this tenant.
pub async fn get_user(tx: &mut TenantTx, user: UserId) -> Result<User> {
    sqlx::query_as("select id, email, name, verified_at, created_at from users where id = $1")
        .bind(user)
        .fetch_optional(&mut **tx)
        .await?
        .ok_or(Error::NotFound("user"))
}
