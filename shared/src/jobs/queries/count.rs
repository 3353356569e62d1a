//! Counting the ends of a batch's jobs, a part of telling them.

use std::collections::BTreeMap;

use sqlx::PgConnection;

use super::Ending;
use crate::Result;
use crate::infra::ids::{BatchId, JobId, TenantId};

/// Ends of jobs of one batch.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Counts {
    succeeded: i32,
    failed: i32,
    cancelled: i32,
}

impl Counts {
    pub(super) fn add(&mut self, ending: Ending) {
        match ending {
            Ending::Succeeded => self.succeeded += 1,
            Ending::Failed => self.failed += 1,
            Ending::Cancelled => self.cancelled += 1,
        }
    }
}

#[derive(Debug, sqlx::FromRow)]
struct Finished {
    tenant_id: TenantId,
    id: BatchId,
    on_complete_id: JobId,
    total: i32,
    succeeded: i32,
    failed: i32,
    cancelled: i32,
}

/// Adds `ends` to their batches. Answers the jobs that are to run because their batch has finished by it, its figures in
/// their payload.
pub(super) async fn count_ends(
    conn: &mut PgConnection,
    ends: &BTreeMap<(TenantId, BatchId), Counts>,
) -> Result<Vec<(TenantId, JobId)>> {
    if ends.is_empty() {
        return Ok(Vec::new());
    }
    let (tenants, ids): (Vec<TenantId>, Vec<BatchId>) = ends.keys().copied().unzip();
    sqlx::query(
        r#"select from unnest($1::uuid[], $2::uuid[]) u(tenant_id, id)
             join batches b on b.tenant_id = any (array[u.tenant_id]) and b.id = u.id
            order by b.tenant_id, b.id
              for update of b"#,
    )
    .bind(&tenants)
    .bind(&ids)
    .execute(&mut *conn)
    .await?;
    let finished: Vec<Finished> = sqlx::query_as(
        r#"with counted as (
               update batches b
                  set succeeded = b.succeeded + u.succeeded, failed = b.failed + u.failed,
                      cancelled = b.cancelled + u.cancelled,
                      finished_at = case when b.succeeded + b.failed + b.cancelled
                                            + u.succeeded + u.failed + u.cancelled >= b.total then ledger_now() end
                 from unnest($1::uuid[], $2::uuid[], $3::int4[], $4::int4[], $5::int4[])
                      u(tenant_id, id, succeeded, failed, cancelled)
                where b.tenant_id = any (array[u.tenant_id]) and b.id = u.id and b.finished_at is null
               returning b.*
           )
           select tenant_id, id, on_complete_id, total, succeeded, failed, cancelled
             from counted where finished_at is not null and on_complete_id is not null"#,
    )
    .bind(tenants)
    .bind(ids)
    .bind(ends.values().map(|counts| counts.succeeded).collect::<Vec<_>>())
    .bind(ends.values().map(|counts| counts.failed).collect::<Vec<_>>())
    .bind(ends.values().map(|counts| counts.cancelled).collect::<Vec<_>>())
    .fetch_all(&mut *conn)
    .await?;
    for batch in &finished {
        write_figures(conn, batch).await?;
    }
    Ok(finished.into_iter().map(|batch| (batch.tenant_id, batch.on_complete_id)).collect())
}

/// Puts the figures in the place of the [placeholders](crate::batches::PLACEHOLDERS). They are digits and an id, so the
/// payload stays the JSON that it was.
async fn write_figures(conn: &mut PgConnection, batch: &Finished) -> Result<()> {
    sqlx::query(
        r#"update jobs
              set payload = replace(replace(replace(replace(replace(payload, '{{batch.id}}', $3::text),
                            '{{batch.total}}', $4::text), '{{batch.succeeded}}', $5::text),
                            '{{batch.failed}}', $6::text), '{{batch.cancelled}}', $7::text)
            where tenant_id = $1 and id = $2 and strpos(payload, '{{batch.') > 0"#,
    )
    .bind(batch.tenant_id)
    .bind(batch.on_complete_id)
    .bind(batch.id.to_string())
    .bind(batch.total.to_string())
    .bind(batch.succeeded.to_string())
    .bind(batch.failed.to_string())
    .bind(batch.cancelled.to_string())
    .execute(conn)
    .await?;
    Ok(())
}
