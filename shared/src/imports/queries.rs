//! Every statement on `imports` and `import_errors`.

use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::{Format, KEPT, MOST_FAULTS, MOST_LIVE, Mode, Resource};
use crate::exports::source::Column;
use crate::infra::db::TenantTx;
use crate::infra::ids::{ActorId, FileId, ImportId, JobId, ObjectId, RunId, UserId};
use crate::jobs::State;
use crate::jobs::carrier::{self, Carrier};
use crate::{Error, Fault, Result};

/// What became of rows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, sqlx::FromRow)]
pub struct Counts {
    pub created: i64,
    /// Those that were there already.
    pub unchanged: i64,
    pub failed: i64,
}

/// An import, and where its job stands.
#[derive(Debug, Clone, sqlx::FromRow)]
pub struct ImportRow {
    pub id: ImportId,
    pub file_id: FileId,
    pub number: i32,
    pub resource: String,
    pub format: String,
    pub mode: String,
    pub requested_by: ActorId,
    pub user_id: UserId,
    pub permissions: Vec<String>,
    pub job_id: JobId,
    /// Rows that are done.
    pub position: i64,
    #[sqlx(flatten)]
    pub counts: Counts,
    pub object_id: Option<ObjectId>,
    pub finished_at: Option<DateTime<Utc>>,
    pub expires_at: Option<DateTime<Utc>>,
    pub created_at: DateTime<Utc>,
    /// Why the file was refused as a whole, as JSON.
    pub refused: Option<String>,
    /// The report can be downloaded.
    pub has_report: bool,
    #[sqlx(flatten)]
    pub job: Carrier,
}

impl ImportRow {
    /// `finished`, or how its job stands.
    pub fn state(&self) -> &'static str {
        match (self.finished_at, &self.refused) {
            (None, _) => self.job.state().as_str(),
            (Some(_), None) => "finished",
            (Some(_), Some(_)) => State::Failed.as_str(),
        }
    }

    /// What it is of, and how.
    ///
    /// # Errors
    /// Never, but for rows of a later version.
    pub fn kind(&self) -> Result<(Resource, Format, Mode)> {
        let unknown = |fault: String| Error::Internal(anyhow::anyhow!(fault));
        Ok((
            self.resource.parse().map_err(unknown)?,
            self.format.parse().map_err(unknown)?,
            self.mode.parse().map_err(unknown)?,
        ))
    }
}

/// An import that somebody asks for.
#[derive(Debug, Clone)]
pub struct NewImport<'a> {
    pub id: ImportId,
    pub file: FileId,
    /// Of its version.
    pub number: i32,
    pub resource: Resource,
    pub format: Format,
    pub mode: Mode,
    pub requested_by: ActorId,
    pub user: UserId,
    pub permissions: &'a [&'a str],
    pub job: JobId,
}

fn select(rest: &str) -> sqlx::AssertSqlSafe<String> {
    sqlx::AssertSqlSafe(format!(
        "select e.id, e.file_id, e.number, e.resource, e.format, e.mode, e.requested_by, e.user_id, e.permissions, e.job_id,
                e.position, e.created, e.unchanged, e.failed, e.object_id, e.finished_at, e.expires_at, e.created_at, e.refused,
                e.object_id is not null and coalesce(e.expires_at > ledger_now(), false) as has_report, {}
           from imports e {} where e.tenant_id = $1 {rest}",
        carrier::COLUMNS,
        carrier::JOINS
    ))
}

/// # Errors
/// [`Error::Conflict`] `too_many_imports`.
pub async fn insert(tx: &mut TenantTx, new: &NewImport<'_>) -> Result<()> {
    let live = carrier::count_live(tx, "imports").await?;
    if live >= MOST_LIVE {
        let detail = format!("{live} imports wait or run, as many as may; wait for one, or cancel it");
        return Err(Error::conflict("too_many_imports", detail));
    }
    sqlx::query(
        "insert into imports (tenant_id, id, file_id, number, resource, format, mode, requested_by, user_id, permissions, job_id)
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)",
    )
    .bind(tx.tenant())
    .bind(new.id)
    .bind(new.file)
    .bind(new.number)
    .bind(new.resource.as_str())
    .bind(new.format.as_str())
    .bind(new.mode.as_str())
    .bind(new.requested_by)
    .bind(new.user)
    .bind(new.permissions)
    .bind(new.job)
    .execute(&mut **tx)
    .await?;
    Ok(())
}

pub async fn find(tx: &mut TenantTx, id: ImportId) -> Result<Option<ImportRow>> {
    Ok(sqlx::query_as(select("and e.id = $2")).bind(tx.tenant()).bind(id).fetch_optional(&mut **tx).await?)
}

/// # Errors
/// [`Error::NotFound`].
pub async fn get(tx: &mut TenantTx, id: ImportId) -> Result<ImportRow> {
    find(tx, id).await?.ok_or(Error::NotFound("import"))
}

/// Newest first.
pub async fn list(tx: &mut TenantTx, before: Option<Uuid>, limit: i64) -> Result<Vec<ImportRow>> {
    let sql = select("and ($2::uuid is null or e.id < $2) order by e.id desc limit $3");
    Ok(sqlx::query_as(sql).bind(tx.tenant()).bind(before).bind(limit).fetch_all(&mut **tx).await?)
}

/// Takes the import for a run of its job: no other one goes on. A dry run begins anew. None when it is finished, or gone.
pub async fn take(tx: &mut TenantTx, id: ImportId, run: RunId) -> Result<Option<ImportRow>> {
    let sql = "
        update imports
           set run = $3,
               position = case mode when 'dry_run' then 0 else position end,
               created = case mode when 'dry_run' then 0 else created end,
               unchanged = case mode when 'dry_run' then 0 else unchanged end,
               failed = case mode when 'dry_run' then 0 else failed end
         where tenant_id = $1 and id = $2 and finished_at is null
        returning mode = 'dry_run'";
    let taken: Option<bool> =
        sqlx::query_scalar(sql).bind(tx.tenant()).bind(id).bind(run).fetch_optional(&mut **tx).await?;
    let Some(anew) = taken else { return Ok(None) };
    if anew {
        forget_faults(tx, id).await?;
    }
    find(tx, id).await
}

/// Begins a row, which [`end_row`] keeps or takes back without the rest of the transaction.
pub async fn begin_row(tx: &mut TenantTx) -> Result<()> {
    sqlx::raw_sql("savepoint imported").execute(&mut **tx).await?;
    Ok(())
}

pub async fn end_row(tx: &mut TenantTx, keep: bool) -> Result<()> {
    let sql = if keep { "release savepoint imported" } else { "rollback to savepoint imported" };
    sqlx::raw_sql(sql).execute(&mut **tx).await?;
    Ok(())
}

/// Says that the rows up to `position` are done. False when another run has the import.
pub async fn advance(tx: &mut TenantTx, id: ImportId, run: RunId, position: i64, counts: Counts) -> Result<bool> {
    let sql = "update imports set position = $4, created = $5, unchanged = $6, failed = $7
                where tenant_id = $1 and id = $2 and run = $3 and finished_at is null";
    let moved = sqlx::query(sql)
        .bind(tx.tenant())
        .bind(id)
        .bind(run)
        .bind(position)
        .bind(counts.created)
        .bind(counts.unchanged)
        .bind(counts.failed)
        .execute(&mut **tx)
        .await?;
    Ok(moved.rows_affected() == 1)
}

/// Notes what is wrong with rows, as far as a report shows it.
pub async fn note(tx: &mut TenantTx, id: ImportId, faults: &[(i64, Vec<Fault>)]) -> Result<()> {
    let (mut rows, mut numbers, mut pointers, mut codes, mut details) = (vec![], vec![], vec![], vec![], vec![]);
    for (row, faults) in faults {
        for (n, fault) in faults.iter().enumerate() {
            rows.push(*row);
            numbers.push(n as i32);
            pointers.push(fault.pointer.as_str());
            codes.push(fault.code.as_ref());
            details.push(fault.detail.as_str());
        }
    }
    let sql = "
        insert into import_errors (tenant_id, import_id, row, n, pointer, code, detail)
        select $1, $2, f.* from unnest($3::bigint[], $4::int[], $5::text[], $6::text[], $7::text[]) f
         limit greatest(0, $8 - (select count(*) from import_errors where tenant_id = $1 and import_id = $2))";
    sqlx::query(sql)
        .bind(tx.tenant())
        .bind(id)
        .bind(rows)
        .bind(numbers)
        .bind(pointers)
        .bind(codes)
        .bind(details)
        .bind(MOST_FAULTS)
        .execute(&mut **tx)
        .await?;
    Ok(())
}

/// The columns of a report.
pub const REPORT: &[Column] =
    &[Column::plain("row"), Column::text("pointer"), Column::text("code"), Column::text("detail")];

/// A fault as the report shows it: row, pointer, code, detail.
pub type Noted = (i64, i32, String, String, String);

/// A page of them, in the order of the rows, after a row and a number.
pub async fn list_faults(tx: &mut TenantTx, id: ImportId, after: (i64, i32), limit: i64) -> Result<Vec<Noted>> {
    let sql = "select row, n, pointer, code, detail from import_errors
                where tenant_id = $1 and import_id = $2 and (row, n) > ($3, $4) order by row, n limit $5";
    let query = sqlx::query_as(sql).bind(tx.tenant()).bind(id).bind(after.0).bind(after.1).bind(limit);
    Ok(query.fetch_all(&mut **tx).await?)
}

/// Gives the import the object that its report is written to. Answers the one of a run before; None when another run has it.
pub async fn begin_report(
    tx: &mut TenantTx,
    id: ImportId,
    run: RunId,
    object: ObjectId,
) -> Result<Option<Option<ObjectId>>> {
    let before: Option<Option<ObjectId>> = sqlx::query_scalar(
        "select object_id from imports where tenant_id = $1 and id = $2 and run = $3 and finished_at is null for no key update",
    )
    .bind(tx.tenant())
    .bind(id)
    .bind(run)
    .fetch_optional(&mut **tx)
    .await?;
    if before.is_some() {
        let sql = "update imports set object_id = $3 where tenant_id = $1 and id = $2";
        sqlx::query(sql).bind(tx.tenant()).bind(id).bind(object).execute(&mut **tx).await?;
    }
    Ok(before)
}

/// Ends the import; `refused` says, as JSON, why the file was refused as a whole. False when another run has it.
pub async fn finish(tx: &mut TenantTx, id: ImportId, run: RunId, refused: Option<&str>) -> Result<bool> {
    let sql =
        "update imports set finished_at = ledger_now(), expires_at = ledger_now() + $4 * interval '1 s', refused = $5
                where tenant_id = $1 and id = $2 and run = $3 and finished_at is null";
    let ended = sqlx::query(sql)
        .bind(tx.tenant())
        .bind(id)
        .bind(run)
        .bind(KEPT.as_secs() as i64)
        .bind(refused)
        .execute(&mut **tx)
        .await?
        .rows_affected();
    if ended == 1 {
        forget_faults(tx, id).await?;
    }
    Ok(ended == 1)
}

async fn forget_faults(tx: &mut TenantTx, id: ImportId) -> Result<()> {
    let sql = "delete from import_errors where tenant_id = $1 and import_id = $2";
    sqlx::query(sql).bind(tx.tenant()).bind(id).execute(&mut **tx).await?;
    Ok(())
}
