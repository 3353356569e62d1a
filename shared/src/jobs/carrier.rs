//! Things that a job carries out, which stand where their job stands: exports, imports.

use super::State;
use crate::Result;
use crate::infra::db::TenantTx;

/// Columns of a [`Carrier`], of a thing `e` with a `job_id`, joined by [`JOINS`].
pub const COLUMNS: &str = "
    coalesce(l.attempt, o.attempt, 0::smallint) as attempt, l.running, coalesce(l.run_at <= ledger_now(), true) as due,
    o.state::text as ended, o.error, p.progress";

/// Of the job that carries `e`.
pub const JOINS: &str = "
    left join job_live l on l.tenant_id = e.tenant_id and l.id = e.job_id
    left join job_outcomes o on o.tenant_id = e.tenant_id and o.id = e.job_id
    left join job_progress p on p.tenant_id = e.tenant_id and p.id = e.job_id";

/// How many rows of `table` have a job that lives.
pub async fn count_live(tx: &mut TenantTx, table: &'static str) -> Result<i64> {
    let sql = format!(
        "select count(*) from {table} e join job_live l on l.tenant_id = e.tenant_id and l.id = e.job_id
          where e.tenant_id = $1"
    );
    Ok(sqlx::query_scalar(sqlx::AssertSqlSafe(sql)).bind(tx.tenant()).fetch_one(&mut **tx).await?)
}

/// Where the job stands.
#[derive(Debug, Clone, sqlx::FromRow)]
pub struct Carrier {
    attempt: i16,
    running: Option<bool>,
    due: bool,
    ended: Option<String>,
    /// JSON.
    pub error: Option<String>,
    /// JSON.
    pub progress: Option<String>,
}

impl Carrier {
    /// For who has not done what it should: an end that left nothing behind is a failure.
    pub fn state(&self) -> State {
        match State::of(self.ended.as_deref(), self.running, self.due, self.attempt) {
            State::Succeeded => State::Failed,
            state => state,
        }
    }
}
