//! Every statement on `ip_rules`.

use chrono::{DateTime, Utc};
use ipnet::IpNet;
use uuid::Uuid;

use super::{Action, IpRules, RULES_PER_TENANT};
use crate::infra::db::{IdentityTx, TenantTx};
use crate::infra::ids::{IpRuleId, TenantId};
use crate::{Error, Result};

/// One rule.
#[derive(Debug, Clone, sqlx::FromRow)]
pub struct IpRuleRow {
    pub id: IpRuleId,
    pub action: String,
    pub network: String,
    pub description: String,
    pub created_at: DateTime<Utc>,
}

const COLUMNS: &str = "id, action, network::text as network, description, created_at";

/// The rules of a tenant, for whoever finds out who is calling.
pub async fn find(tx: &mut IdentityTx, tenant: TenantId) -> Result<IpRules> {
    let sql = "select action || ' ' || network::text from ip_rules where tenant_id = $1";
    let texts: Vec<String> = sqlx::query_scalar(sql).bind(tenant).fetch_all(&mut **tx).await?;
    Ok(IpRules::from_texts(&texts))
}

/// All rules of the tenant, held until the end of this transaction: of two that change them, the second sees the
/// first's.
pub async fn hold(tx: &mut TenantTx) -> Result<IpRules> {
    sqlx::query("select from tenants where id = $1 for no key update").bind(tx.tenant()).execute(&mut **tx).await?;
    let texts: Vec<String> =
        sqlx::query_scalar("select action || ' ' || network::text from ip_rules").fetch_all(&mut **tx).await?;
    Ok(IpRules::from_texts(&texts))
}

/// # Errors
/// [`Error::Conflict`]: `ip_rule_exists`, `too_many_ip_rules`.
pub async fn insert(tx: &mut TenantTx, action: Action, network: IpNet, description: &str) -> Result<IpRuleRow> {
    let sql = format!(
        "insert into ip_rules (id, tenant_id, action, network, description)
         select $1, $2, $3, $4::cidr, $5 where (select count(*) from ip_rules) < $6 returning {COLUMNS}"
    );
    let row: Option<IpRuleRow> = sqlx::query_as(sqlx::AssertSqlSafe(sql))
        .bind(IpRuleId::generate())
        .bind(tx.tenant())
        .bind(action.as_str())
        .bind(network.to_string())
        .bind(description)
        .bind(RULES_PER_TENANT)
        .fetch_optional(&mut **tx)
        .await
        .map_err(|error| match error.as_database_error().and_then(|db| db.constraint()) {
            Some("ip_rules_network_key") => Error::conflict("ip_rule_exists", format!("there is a rule for {network}")),
            _ => error.into(),
        })?;
    row.ok_or_else(|| Error::conflict("too_many_ip_rules", format!("a tenant has at most {RULES_PER_TENANT} rules")))
}

/// Newest first.
pub async fn list(tx: &mut TenantTx, before: Option<Uuid>, limit: i64) -> Result<Vec<IpRuleRow>> {
    let sql = format!("select {COLUMNS} from ip_rules where ($1::uuid is null or id < $1) order by id desc limit $2");
    Ok(sqlx::query_as(sqlx::AssertSqlSafe(sql)).bind(before).bind(limit).fetch_all(&mut **tx).await?)
}

/// # Errors
/// [`Error::NotFound`].
pub async fn get(tx: &mut TenantTx, id: IpRuleId) -> Result<IpRuleRow> {
    let sql = format!("select {COLUMNS} from ip_rules where id = $1");
    let row = sqlx::query_as(sqlx::AssertSqlSafe(sql)).bind(id).fetch_optional(&mut **tx).await?;
    row.ok_or(Error::NotFound("IP rule"))
}

/// # Errors
/// [`Error::NotFound`].
pub async fn delete(tx: &mut TenantTx, id: IpRuleId) -> Result<()> {
    let deleted = sqlx::query("delete from ip_rules where id = $1").bind(id).execute(&mut **tx).await?;
    if deleted.rows_affected() == 1 { Ok(()) } else { Err(Error::NotFound("IP rule")) }
}
