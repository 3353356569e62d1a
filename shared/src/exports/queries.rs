//! Every statement on `exports`.

use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::source::Filters;
use super::{Compression, Format, KEPT, MOST_LIVE, Resource};
use crate::infra::db::TenantTx;
use crate::infra::ids::{ActorId, ExportId, JobId, ObjectId, UserId};
use crate::jobs::carrier::{self, Carrier};
use crate::{Error, Result};

/// An export, and where its job stands.
#[derive(Debug, Clone, sqlx::FromRow)]
pub struct ExportRow {
    pub id: ExportId,
    pub resource: String,
    pub format: String,
    pub compress: Option<String>,
    /// JSON.
    pub filters: String,
    pub requested_by: ActorId,
    pub notify: Option<UserId>,
    pub job_id: JobId,
    pub object_id: Option<ObjectId>,
    pub exported: i64,
    pub size_bytes: Option<i64>,
    pub ready_at: Option<DateTime<Utc>>,
    pub expires_at: Option<DateTime<Utc>>,
    pub created_at: DateTime<Utc>,
    is_over: bool,
    #[sqlx(flatten)]
    pub job: Carrier,
}

impl ExportRow {
    /// `ready`, `expired`, or how its job stands.
    pub fn state(&self) -> &'static str {
        match (self.ready_at, self.is_over) {
            (Some(_), true) => "expired",
            (Some(_), false) => "ready",
            (None, _) => self.job.state().as_str(),
        }
    }

    /// What it is of, how, and how small.
    ///
    /// # Errors
    /// Never, but for rows of a later version.
    pub fn kind(&self) -> Result<(Resource, Format, Option<Compression>)> {
        let unknown = |fault: String| Error::Internal(anyhow::anyhow!(fault));
        Ok((
            self.resource.parse().map_err(unknown)?,
            self.format.parse().map_err(unknown)?,
            self.compress.as_deref().map(str::parse).transpose().map_err(unknown)?,
        ))
    }

    pub fn filters(&self) -> Result<Filters> {
        Ok(serde_json::from_str(&self.filters)?)
    }
}

/// An export that somebody asks for.
#[derive(Debug, Clone)]
pub struct NewExport<'a> {
    pub id: ExportId,
    pub resource: Resource,
    pub format: Format,
    pub compress: Option<Compression>,
    pub filters: &'a Filters,
    pub requested_by: ActorId,
    pub notify: Option<UserId>,
    pub job: JobId,
}

fn select(rest: &str) -> sqlx::AssertSqlSafe<String> {
    sqlx::AssertSqlSafe(format!(
        "select e.id, e.resource, e.format, e.compress, e.filters::text as filters, e.requested_by, e.notify, e.job_id,
                e.object_id, e.exported, e.size_bytes, e.ready_at, e.expires_at, e.created_at,
                e.ready_at is not null and (e.object_id is null or e.expires_at <= ledger_now()) as is_over, {}
           from exports e {} where e.tenant_id = $1 {rest}",
        carrier::COLUMNS,
        carrier::JOINS
    ))
}

/// # Errors
/// [`Error::Conflict`] `too_many_exports`.
pub async fn insert(tx: &mut TenantTx, new: &NewExport<'_>) -> Result<()> {
    let live = carrier::count_live(tx, "exports").await?;
    if live >= MOST_LIVE {
        let detail = format!("{live} exports wait or run, as many as may; wait for one, or cancel it");
        return Err(Error::conflict("too_many_exports", detail));
    }
    sqlx::query(
        "insert into exports (tenant_id, id, resource, format, compress, filters, requested_by, notify, job_id)
         values ($1, $2, $3, $4, $5, $6::jsonb, $7, $8, $9)",
    )
    .bind(tx.tenant())
    .bind(new.id)
    .bind(new.resource.as_str())
    .bind(new.format.as_str())
    .bind(new.compress.map(Compression::as_str))
    .bind(serde_json::to_string(new.filters)?)
    .bind(new.requested_by)
    .bind(new.notify)
    .bind(new.job)
    .execute(&mut **tx)
    .await?;
    Ok(())
}

pub async fn find(tx: &mut TenantTx, id: ExportId) -> Result<Option<ExportRow>> {
    Ok(sqlx::query_as(select("and e.id = $2")).bind(tx.tenant()).bind(id).fetch_optional(&mut **tx).await?)
}

/// # Errors
/// [`Error::NotFound`].
pub async fn get(tx: &mut TenantTx, id: ExportId) -> Result<ExportRow> {
    find(tx, id).await?.ok_or(Error::NotFound("export"))
}

/// Newest first.
pub async fn list(tx: &mut TenantTx, before: Option<Uuid>, limit: i64) -> Result<Vec<ExportRow>> {
    let sql = select("and ($2::uuid is null or e.id < $2) order by e.id desc limit $3");
    Ok(sqlx::query_as(sql).bind(tx.tenant()).bind(before).bind(limit).fetch_all(&mut **tx).await?)
}

/// Takes the export for the run that writes `object`. Answers the object of a run before it; None when it is ready, or gone.
pub async fn take(tx: &mut TenantTx, id: ExportId, object: ObjectId) -> Result<Option<Option<ObjectId>>> {
    let before: Option<Option<ObjectId>> = sqlx::query_scalar(
        "select object_id from exports where tenant_id = $1 and id = $2 and ready_at is null for no key update",
    )
    .bind(tx.tenant())
    .bind(id)
    .fetch_optional(&mut **tx)
    .await?;
    if before.is_some() {
        let sql = "update exports set object_id = $3, exported = 0 where tenant_id = $1 and id = $2";
        sqlx::query(sql).bind(tx.tenant()).bind(id).bind(object).execute(&mut **tx).await?;
    }
    Ok(before)
}

/// Makes an export ready, if the run that wrote `object` is still the one that has it.
pub async fn finish(tx: &mut TenantTx, id: ExportId, object: ObjectId, exported: i64, size_bytes: i64) -> Result<bool> {
    let done = sqlx::query(
        "update exports set exported = $4, size_bytes = $5, ready_at = ledger_now(),
                expires_at = ledger_now() + $6 * interval '1 s'
          where tenant_id = $1 and id = $2 and object_id = $3 and ready_at is null",
    )
    .bind(tx.tenant())
    .bind(id)
    .bind(object)
    .bind(exported)
    .bind(size_bytes)
    .bind(KEPT.as_secs() as i64)
    .execute(&mut **tx)
    .await?;
    Ok(done.rows_affected() == 1)
}
