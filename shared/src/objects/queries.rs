//! Every statement on `objects`.

use std::time::Duration;

use super::{Purpose, seconds};
use crate::infra::db::TenantTx;
use crate::infra::ids::ObjectId;
use crate::{Error, Result};

/// A tenant's storage as [`begin`] or [`grow`] left it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Used {
    /// Bytes of its files, with those that were just taken.
    pub bytes: i64,
    /// A share of the quota, in per cent, that was reached just now; else 0.
    pub told: i16,
}

/// An object that is all there.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
pub struct StoredRow {
    pub id: ObjectId,
    pub size_bytes: i64,
    pub sha256: Vec<u8>,
}

/// Makes the row of an object that is about to be written, and takes `reserved` bytes of the quota for a file.
///
/// # Errors
/// [`Error::Conflict`] `storage_quota_exceeded`.
pub async fn begin(tx: &mut TenantTx, purpose: Purpose, reserved: i64, quota: i64) -> Result<(ObjectId, Used)> {
    let used = match purpose {
        Purpose::File => hold(tx, reserved, quota).await?,
        Purpose::Export | Purpose::Report => Used { bytes: 0, told: 0 },
    };
    let id = ObjectId::generate();
    sqlx::query("insert into objects (tenant_id, id, purpose, reserved_bytes) values ($1, $2, $3, $4)")
        .bind(tx.tenant())
        .bind(id)
        .bind(purpose.as_str())
        .bind(reserved)
        .execute(&mut **tx)
        .await?;
    Ok((id, used))
}

/// Takes so many more bytes for a file whose size was not known.
///
/// # Errors
/// [`Error::Conflict`] `storage_quota_exceeded`; `upload_expired` once the sweep has given it up.
pub async fn grow(tx: &mut TenantTx, id: ObjectId, by: i64, quota: i64) -> Result<Used> {
    let used = hold(tx, by, quota).await?;
    let sql = "update objects set reserved_bytes = reserved_bytes + $2, touched_at = ledger_now()
                where id = $1 and state = 'pending'";
    let grown = sqlx::query(sql).bind(id).bind(by).execute(&mut **tx).await?;
    if grown.rows_affected() == 0 { Err(expired()) } else { Ok(used) }
}

/// Says that the object is still being written.
///
/// # Errors
/// [`Error::Conflict`] `upload_expired` once the sweep has given it up.
pub async fn touch(tx: &mut TenantTx, id: ObjectId) -> Result<()> {
    let sql = "update objects set touched_at = ledger_now() where id = $1 and state = 'pending'";
    let touched = sqlx::query(sql).bind(id).execute(&mut **tx).await?;
    if touched.rows_affected() == 0 { Err(expired()) } else { Ok(()) }
}

/// The object is all there. Gives back what was reserved beyond its size.
///
/// # Errors
/// [`Error::Conflict`] `upload_expired` once the sweep has given it up: then the object must be deleted.
pub async fn store(tx: &mut TenantTx, id: ObjectId, size_bytes: i64, sha256: &[u8; 32]) -> Result<()> {
    let sql = "update objects set state = 'stored', reserved_bytes = 0, size_bytes = $2, sha256 = $3,
                      touched_at = ledger_now()
                where id = $1 and state = 'pending'";
    let stored = sqlx::query(sql).bind(id).bind(size_bytes).bind(&sha256[..]).execute(&mut **tx).await?;
    if stored.rows_affected() == 0 { Err(expired()) } else { Ok(()) }
}

/// Gives the object up, whatever became of it, to be deleted after `grace`. What it took of the quota is free at once.
pub async fn delete(tx: &mut TenantTx, id: ObjectId, grace: Duration) -> Result<()> {
    let sql = "update objects set state = 'deleted', delete_after = ledger_now() + $2 * interval '1 s'
                where id = $1 and state <> 'deleted'";
    sqlx::query(sql).bind(id).bind(seconds(grace)).execute(&mut **tx).await?;
    Ok(())
}

/// Gives up an object that is still being written, if it is. One that was stored meanwhile stays.
pub async fn abandon(tx: &mut TenantTx, id: ObjectId) -> Result<()> {
    let sql = "update objects set state = 'deleted', delete_after = ledger_now() where id = $1 and state = 'pending'";
    sqlx::query(sql).bind(id).execute(&mut **tx).await?;
    Ok(())
}

/// An object that is all there and was not deleted.
pub async fn find_stored(tx: &mut TenantTx, id: ObjectId) -> Result<Option<StoredRow>> {
    let sql = "select id, size_bytes, sha256 from objects where id = $1 and state = 'stored'";
    Ok(sqlx::query_as(sql).bind(id).fetch_optional(&mut **tx).await?)
}

/// Bytes of the tenant's files, with those that are being written.
pub async fn used_bytes(tx: &mut TenantTx) -> Result<i64> {
    let sql = "select coalesce((select bytes from storage_usage), 0)";
    Ok(sqlx::query_scalar(sql).fetch_one(&mut **tx).await?)
}

/// Holds the tenant's storage until the end of the transaction; whoever wants bytes of it waits.
pub(crate) async fn hold(tx: &mut TenantTx, wanted: i64, quota: i64) -> Result<Used> {
    let (granted, bytes, told): (bool, i64, i16) =
        sqlx::query_as("select granted, used, told from hold_storage($1, $2)")
            .bind(wanted)
            .bind(quota)
            .fetch_one(&mut **tx)
            .await?;
    if granted {
        return Ok(Used { bytes: bytes + wanted, told });
    }
    Err(Error::conflict(
        "storage_quota_exceeded",
        format!("{wanted} bytes more do not fit: {bytes} of {quota} are used; delete files, or ask for a larger plan"),
    ))
}

fn expired() -> Error {
    Error::conflict("upload_expired", "the upload was given up after an hour in which nothing arrived; send it again")
}
