//! Every statement on `usage`.

use chrono::NaiveDate;

use super::Metric;
use crate::Result;
use crate::infra::db::TenantTx;
use crate::infra::ids::UserId;

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
