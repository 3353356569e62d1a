//! What staff do about people.

use chrono::{DateTime, Utc};
use sqlx::{Postgres, QueryBuilder};
use uuid::Uuid;

use crate::infra::db::StaffTx;
use crate::infra::ids::UserId;
use crate::{Error, Result};

/// A person, as staff see them.
#[derive(Debug, Clone, sqlx::FromRow)]
pub struct UserRow {
    pub id: UserId,
    pub email: String,
    pub name: String,
    pub verified_at: Option<DateTime<Utc>>,
    pub deactivated_at: Option<DateTime<Utc>>,
    pub created_at: DateTime<Utc>,
    pub version: i32,
}

const COLUMNS: &str = "id, email, name, verified_at, deactivated_at, created_at, version";

/// What to list.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// The whole address, in any case of letters.
    pub email: Option<String>,
    pub tenant: Option<Uuid>,
    pub deactivated: Option<bool>,
    /// Made before this one: the last of the page before.
    pub before: Option<Uuid>,
}

/// A page of people, newest first.
pub async fn list(tx: &mut StaffTx, filter: &Filter, limit: i64) -> Result<Vec<UserRow>> {
    let mut query = QueryBuilder::<Postgres>::new("select ");
    query.push(COLUMNS).push(" from users where true");
    if let Some(email) = &filter.email {
        query.push(" and lower(email) = lower(").push_bind(email.clone()).push(")");
    }
    if let Some(tenant) = filter.tenant {
        query.push(" and id in (select user_id from memberships where tenant_id = ");
        query.push_bind(tenant).push(")");
    }
    if let Some(deactivated) = filter.deactivated {
        query.push(if deactivated { " and deactivated_at is not null" } else { " and deactivated_at is null" });
    }
    if let Some(before) = filter.before {
        query.push(" and id < ").push_bind(before);
    }
    query.push(" order by id desc limit ").push_bind(limit);
    Ok(query.build_query_as().fetch_all(&mut **tx).await?)
}

/// # Errors
/// [`Error::NotFound`].
pub async fn get(tx: &mut StaffTx, user: UserId) -> Result<UserRow> {
    let mut query = QueryBuilder::<Postgres>::new("select ");
    query.push(COLUMNS).push(" from users where id = ").push_bind(user);
    query.build_query_as().fetch_optional(&mut **tx).await?.ok_or(Error::NotFound("user"))
}

/// Deactivates a person everywhere, or ends that; their sessions end. None when they were so already.
///
/// After a deactivation tell the other processes.
pub async fn set_active(tx: &mut StaffTx, user: UserId, active: bool) -> Result<Option<UserRow>> {
    let mut query = QueryBuilder::<Postgres>::new("update users set deactivated_at = ");
    query
        .push(if active { "null" } else { "ledger_now()" })
        .push(", version = version + 1 where id = ")
        .push_bind(user);
    query.push(if active { " and deactivated_at is not null" } else { " and deactivated_at is null" });
    query.push(" returning ").push(COLUMNS);
    let row = query.build_query_as().fetch_optional(&mut **tx).await?;
    if row.is_some() && !active {
        sqlx::query("update sessions set ended_at = ledger_now() where user_id = $1 and ended_at is null")
            .bind(user)
            .execute(&mut **tx)
            .await?;
    }
    Ok(row)
}
