//! What staff do about tenants.

use chrono::{DateTime, Utc};
use sqlx::{Postgres, QueryBuilder};
use uuid::Uuid;

use crate::infra::db::StaffTx;
use crate::infra::ids::{TenantId, UserId};
use crate::jobs::Queue;
use crate::maintenance::PLATFORM;
use crate::quotas::Overrides;
use crate::tenants::Plan;
use crate::{Error, Result};

/// A tenant, as staff see it.
#[derive(Debug, Clone, sqlx::FromRow)]
pub struct TenantRow {
    pub id: TenantId,
    pub name: String,
    pub plan: String,
    pub suspended_at: Option<DateTime<Utc>>,
    pub suspension_reason: Option<String>,
    pub created_at: DateTime<Utc>,
    pub version: i32,
}

const COLUMNS: &str = "id, name, plan, suspended_at, suspension_reason, created_at, version";

/// What to list.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    pub plan: Option<Plan>,
    pub suspended: Option<bool>,
    /// What the name begins with, in any case of letters.
    pub name: Option<String>,
    /// Made before this one: the last of the page before.
    pub before: Option<Uuid>,
}

/// A page of tenants, newest first. The platform itself is none of them.
pub async fn list(tx: &mut StaffTx, filter: &Filter, limit: i64) -> Result<Vec<TenantRow>> {
    let mut query = QueryBuilder::<Postgres>::new("select ");
    query.push(COLUMNS).push(" from tenants where id <> ").push_bind(PLATFORM);
    if let Some(plan) = filter.plan {
        query.push(" and plan = ").push_bind(plan.as_str());
    }
    if let Some(suspended) = filter.suspended {
        query.push(if suspended { " and suspended_at is not null" } else { " and suspended_at is null" });
    }
    if let Some(name) = &filter.name {
        query.push(" and starts_with(lower(name), lower(").push_bind(name.clone()).push("))");
    }
    if let Some(before) = filter.before {
        query.push(" and id < ").push_bind(before);
    }
    query.push(" order by id desc limit ").push_bind(limit);
    Ok(query.build_query_as().fetch_all(&mut **tx).await?)
}

/// A tenant; with `lock`, held until the end of this transaction.
///
/// # Errors
/// [`Error::NotFound`], of the platform itself too.
pub async fn get(tx: &mut StaffTx, tenant: TenantId, lock: bool) -> Result<TenantRow> {
    let mut query = QueryBuilder::<Postgres>::new("select ");
    query.push(COLUMNS).push(" from tenants where id <> ").push_bind(PLATFORM).push(" and id = ").push_bind(tenant);
    query.push(if lock { " for no key update" } else { "" });
    query.build_query_as().fetch_optional(&mut **tx).await?.ok_or(Error::NotFound("tenant"))
}

/// What a tenant uses, and who may be asked about it.
#[derive(Debug)]
pub struct Details {
    /// The first of the month.
    pub period: chrono::NaiveDate,
    pub used: Vec<(String, i64)>,
    pub members: i64,
    /// Addresses of owners, some.
    pub owners: Vec<String>,
}

/// Counts of one tenant: bounded by its members.
pub async fn details(tx: &mut StaffTx, tenant: TenantId) -> Result<Details> {
    let period = sqlx::query_scalar("select usage_period()").fetch_one(&mut **tx).await?;
    let used = sqlx::query_as("select metric, used from usage where tenant_id = $1 and period = $2")
        .bind(tenant)
        .bind(period)
        .fetch_all(&mut **tx)
        .await?;
    let members = sqlx::query_scalar("select count(*) from memberships where tenant_id = $1")
        .bind(tenant)
        .fetch_one(&mut **tx)
        .await?;
    let owners = sqlx::query_scalar(
        "select u.email from memberships m join users u on u.id = m.user_id
          where m.tenant_id = $1 and m.role = 'owner' order by m.created_at limit 20",
    )
    .bind(tenant)
    .fetch_all(&mut **tx)
    .await?;
    Ok(Details { period, used, members, owners })
}

/// Gives a tenant another plan.
pub async fn set_plan(tx: &mut StaffTx, tenant: TenantId, plan: Plan) -> Result<TenantRow> {
    let mut query = QueryBuilder::<Postgres>::new("update tenants set plan = ");
    query.push_bind(plan.as_str()).push(", version = version + 1 where id = ").push_bind(tenant);
    query.push(" returning ").push(COLUMNS);
    Ok(query.build_query_as().fetch_one(&mut **tx).await?)
}

/// Suspends a tenant: its credentials stop, and its queues are paused. Answers None when it was suspended already.
///
/// After the commit tell the other processes, and Redis of the queues.
pub async fn suspend(tx: &mut StaffTx, tenant: TenantId, reason: &str) -> Result<Option<TenantRow>> {
    let mut query =
        QueryBuilder::<Postgres>::new("update tenants set suspended_at = ledger_now(), suspension_reason = ");
    query.push_bind(reason).push(", version = version + 1 where id = ").push_bind(tenant);
    query.push(" and suspended_at is null returning ").push(COLUMNS);
    let row = query.build_query_as().fetch_optional(&mut **tx).await?;
    if row.is_some() {
        sqlx::query(
            "insert into queue_pauses (tenant_id, queue, by_suspension) select $1, unnest($2::text[]), true
             on conflict do nothing",
        )
        .bind(tenant)
        .bind(Queue::ALL.map(Queue::as_str).as_slice())
        .execute(&mut **tx)
        .await?;
    }
    Ok(row)
}

/// Ends a suspension. Answers None when there was none, else the tenant and the queues that go on: those that it has
/// paused itself stay so.
pub async fn resume(tx: &mut StaffTx, tenant: TenantId) -> Result<Option<(TenantRow, Vec<Queue>)>> {
    let mut query = QueryBuilder::<Postgres>::new("update tenants set suspended_at = null, suspension_reason = null, ");
    query.push("version = version + 1 where id = ").push_bind(tenant);
    query.push(" and suspended_at is not null returning ").push(COLUMNS);
    let Some(row) = query.build_query_as().fetch_optional(&mut **tx).await? else { return Ok(None) };
    let queues: Vec<String> =
        sqlx::query_scalar("delete from queue_pauses where tenant_id = $1 and by_suspension returning queue")
            .bind(tenant)
            .fetch_all(&mut **tx)
            .await?;
    Ok(Some((row, queues.iter().filter_map(|queue| queue.parse().ok()).collect())))
}

/// What a tenant is allowed beside its plan, and the version of that.
pub async fn find_overrides(tx: &mut StaffTx, tenant: TenantId) -> Result<(Overrides, i32)> {
    #[derive(sqlx::FromRow)]
    struct Row {
        #[sqlx(flatten)]
        overrides: Overrides,
        version: i32,
    }
    let row: Option<Row> =
        sqlx::query_as("select jobs, events, members, storage, version from tenant_quotas where tenant_id = $1")
            .bind(tenant)
            .fetch_optional(&mut **tx)
            .await?;
    Ok(row.map_or_else(Default::default, |row| (row.overrides, row.version)))
}

/// Replaces that.
pub async fn set_overrides(tx: &mut StaffTx, tenant: TenantId, quotas: Overrides) -> Result<i32> {
    Ok(sqlx::query_scalar(
        "insert into tenant_quotas as q (tenant_id, jobs, events, members, storage) values ($1, $2, $3, $4, $5)
         on conflict (tenant_id) do update set jobs = $2, events = $3, members = $4, storage = $5, updated_at = ledger_now(),
                version = q.version + 1
         returning version",
    )
    .bind(tenant)
    .bind(quotas.jobs)
    .bind(quotas.events)
    .bind(quotas.members)
    .bind(quotas.storage)
    .fetch_one(&mut **tx)
    .await?)
}

/// Tenants of a person, the one joined first at first, and which of the roles that every tenant has is theirs in each.
pub async fn list_of_user(tx: &mut StaffTx, user: UserId) -> Result<Vec<(TenantId, String, Option<String>)>> {
    Ok(sqlx::query_as(
        "select m.tenant_id, t.name, m.role from memberships m join tenants t on t.id = m.tenant_id
          where m.user_id = $1 order by m.created_at, m.tenant_id limit 100",
    )
    .bind(user)
    .fetch_all(&mut **tx)
    .await?)
}
