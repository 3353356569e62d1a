//! What handlers say while they run.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use sqlx::PgConnection;

use crate::Result;
use crate::infra::db::TenantTx;
use crate::infra::ids::{JobId, TenantId, WorkerId};

/// Lines kept of a job, the newest ones, whatever attempt they are of.
pub const LINES: usize = 100;
/// Largest line.
pub const LINE_MAX_BYTES: usize = 500;
/// Largest progress, as JSON text.
pub const PROGRESS_MAX_BYTES: usize = 1_024;

/// One line of a job's log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogLine {
    pub at: DateTime<Utc>,
    pub attempt: i16,
    pub message: String,
}

/// News of one attempt.
#[derive(Debug)]
pub struct Report {
    pub tenant: TenantId,
    pub id: JobId,
    pub attempt: i16,
    pub owner: WorkerId,
    /// None when it did not change.
    pub progress: Option<Box<RawValue>>,
    /// The newest of the new ones.
    pub lines: Vec<LogLine>,
    /// How many new ones there were.
    pub line_count: i64,
}

/// Keeps reports of attempts that are still their owner's; those of others find no row.
///
/// The attempt is compared with the stored one too, so that a stale worker cannot write over a later attempt while the
/// lease changes hands.
pub async fn save_reports(conn: &mut PgConnection, batch: &mut [Report]) -> Result<()> {
    batch.sort_unstable_by_key(|report| (report.tenant, report.id));
    sqlx::query(
        r#"insert into job_progress as p (tenant_id, id, attempt, progress, progressed_at, lines, line_count)
           select l.tenant_id, l.id, l.attempt, u.progress, case when u.progress is not null then ledger_now() end,
                  coalesce(string_to_array(u.lines, E'\x1f'), '{}'), u.line_count
             from unnest($1::uuid[], $2::uuid[], $3::int2[], $4::uuid[], $5::text[], $6::text[], $7::int8[])
                  u(tenant_id, id, attempt, owner, progress, lines, line_count)
             join job_live l on l.tenant_id = u.tenant_id and l.id = u.id
                            and l.running and l.attempt = u.attempt and l.lease_owner = u.owner
            order by l.tenant_id, l.id
           on conflict (tenant_id, id) do update
              set attempt = excluded.attempt, progress = coalesce(excluded.progress, p.progress),
                  progressed_at = coalesce(excluded.progressed_at, p.progressed_at),
                  lines = (p.lines || excluded.lines)
                      [greatest(1, cardinality(p.lines) + cardinality(excluded.lines) - $8 + 1) :],
                  line_count = p.line_count + excluded.line_count
            where p.attempt <= excluded.attempt"#,
    )
    .bind(batch.iter().map(|r| r.tenant).collect::<Vec<_>>())
    .bind(batch.iter().map(|r| r.id).collect::<Vec<_>>())
    .bind(batch.iter().map(|r| r.attempt).collect::<Vec<_>>())
    .bind(batch.iter().map(|r| r.owner).collect::<Vec<_>>())
    .bind(batch.iter().map(|r| r.progress.as_deref().map(RawValue::get)).collect::<Vec<_>>())
    .bind(batch.iter().map(|r| joined(&r.lines)).collect::<Vec<_>>())
    .bind(batch.iter().map(|r| r.line_count).collect::<Vec<_>>())
    .bind(i32::try_from(LINES).unwrap_or(i32::MAX))
    .execute(conn)
    .await?;
    Ok(())
}

/// As one text, by a character that JSON never has.
fn joined(lines: &[LogLine]) -> Option<String> {
    let texts: Vec<String> = lines.iter().filter_map(|line| serde_json::to_string(line).ok()).collect();
    (!texts.is_empty()).then(|| texts.join("\x1f"))
}

/// A job's log: the newest lines, oldest first, and how many there were before them.
#[derive(Debug, Default)]
pub struct JobLog {
    pub lines: Vec<LogLine>,
    pub dropped: i64,
}

/// What the handlers of a job have written; nothing for a job that is absent or silent.
pub async fn read_log(tx: &mut TenantTx, id: JobId) -> Result<JobLog> {
    let row: Option<(Vec<String>, i64)> =
        sqlx::query_as("select lines, line_count from job_progress where tenant_id = $1 and id = $2")
            .bind(tx.tenant())
            .bind(id)
            .fetch_optional(&mut **tx)
            .await?;
    let Some((texts, count)) = row else { return Ok(JobLog::default()) };
    let lines: Vec<LogLine> = texts.iter().filter_map(|text| serde_json::from_str(text).ok()).collect();
    let dropped = (count - i64::try_from(lines.len()).unwrap_or(i64::MAX)).max(0);
    Ok(JobLog { lines, dropped })
}
