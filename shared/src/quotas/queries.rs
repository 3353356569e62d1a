//! Every statement on `usage`.

use chrono::NaiveDate;

use super::Metric;
use crate::Result;
use crate::infra::db::{SystemDb, TenantTx};
use crate::infra::ids::{TenantId, UserId};

/// What a process asks for.
#[derive(Debug, Clone, Copy)]
pub struct Claim {
    pub metric: Metric,
    pub wanted: i64,
    /// Nothing is granted if there is not room for so many.
    pub least: i64,
    /// Units that were granted in `back_period` and not used.
    pub back: i64,
    pub back_period: Option<NaiveDate>,
    pub quota: i64,
}

#[derive(Debug, Clone, Copy, sqlx::FromRow)]
pub struct Granted {
    pub granted: i64,
    pub used_now: i64,
    pub this_period: NaiveDate,
    /// A share of the quota, in per cent, that was reached just now; else 0.
    pub told: i16,
}

/// Takes units of this month's quota.
pub async fn claim(tx: &mut TenantTx, claim: &Claim) -> Result<Granted> {
    Ok(sqlx::query_as("select * from claim_usage($1, $2, $3, $4, $5, $6)")
        .bind(claim.metric.as_str())
        .bind(claim.wanted)
        .bind(claim.least)
        .bind(claim.back)
        .bind(claim.back_period)
        .bind(claim.quota)
        .fetch_one(&mut **tx)
        .await?)
}

/// What was used this month, and the first day of it.
pub async fn list(tx: &mut TenantTx) -> Result<(NaiveDate, Vec<(String, i64)>)> {
    let period = sqlx::query_scalar("select usage_period()").fetch_one(&mut **tx).await?;
    let used =
        sqlx::query_as("select metric, used from usage where period = $1").bind(period).fetch_all(&mut **tx).await?;
    Ok((period, used))
}

/// Adds requests to this month's. A crash of PostgreSQL may forget some.
pub async fn add_requests(db: &SystemDb, counted: &[(TenantId, i64)]) -> Result<()> {
    let (tenants, counts): (Vec<TenantId>, Vec<i64>) = counted.iter().copied().unzip();
    let mut tx = db.system_relaxed().await?;
    sqlx::query(
        "insert into usage as u (tenant_id, metric, period, used)
         select t.id, 'requests', usage_period(), c.requests
           from unnest($1::uuid[], $2::bigint[]) c (tenant_id, requests) join tenants t on t.id = c.tenant_id
          order by t.id -- so that two processes cannot deadlock
         on conflict (tenant_id, metric, period) do update
            set used = u.used + excluded.used, updated_at = excluded.updated_at",
    )
    .bind(tenants)
    .bind(counts)
    .execute(&mut *tx)
    .await?;
    tx.commit().await
}

/// How many active members the tenant has.
pub async fn count_members(tx: &mut TenantTx) -> Result<i64> {
    Ok(sqlx::query_scalar("select count(*) from memberships where deactivated_at is null").fetch_one(&mut **tx).await?)
}

/// Whom to tell.
pub async fn list_owners(tx: &mut TenantTx) -> Result<Vec<UserId>> {
    let sql =
        "select user_id from memberships where role = 'owner' and deactivated_at is null order by user_id limit 20";
    Ok(sqlx::query_scalar(sql).fetch_all(&mut **tx).await?)
}
