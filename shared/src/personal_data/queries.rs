//! What goes when a person is erased.

use crate::Result;
use crate::infra::db::TenantTx;
use crate::infra::ids::UserId;

/// What the tenant's log says of an erasure: the action of the entry that holds the report.
pub const ACTION: &str = "user.erased";

/// Takes a person out of the tenant, with all that is not [kept](crate::exports::source::personal::Fate). Answers whether
/// their account went too, for no other tenant has it; None when they are not of the tenant.
pub async fn erase_member(tx: &mut TenantTx, user: UserId) -> Result<Option<bool>> {
    Ok(sqlx::query_scalar("select erase_member($1)").bind(user).fetch_one(&mut **tx).await?)
}

/// The report, JSON, on the person's last erasure.
pub async fn find_report(tx: &mut TenantTx, user: UserId) -> Result<Option<String>> {
    let sql = "select after::text from audit_logs
                where tenant_id = $1 and resource_id = $2 and action = $3 order by id desc limit 1";
    let report: Option<Option<String>> =
        sqlx::query_scalar(sql).bind(tx.tenant()).bind(user.to_string()).bind(ACTION).fetch_optional(&mut **tx).await?;
    Ok(report.flatten())
}
