//! Every statement on `files` and `file_versions`.

use std::time::Duration;

use chrono::{DateTime, Utc};

use super::{GRACE, VersionState};
use crate::infra::db::TenantTx;
use crate::infra::ids::{ActorId, FileId, ObjectId};
use crate::objects::queries as objects;
use crate::{Error, Result};

/// A file as it is now, with its newest version that is ready. One that has none yet has none of its fields.
#[derive(Debug, Clone, sqlx::FromRow)]
pub struct FileRow {
    pub id: FileId,
    pub name: String,
    pub keep_versions: i32,
    pub created_by: ActorId,
    pub expires_at: Option<DateTime<Utc>>,
    pub deleted_at: Option<DateTime<Utc>>,
    pub version: i32,
    pub created_at: DateTime<Utc>,
    pub updated_at: DateTime<Utc>,
    pub number: Option<i32>,
    pub media_type: Option<String>,
    pub size_bytes: Option<i64>,
    pub sha256: Option<Vec<u8>>,
    /// Of the version that was sent last.
    pub state: String,
    pub refused: Option<String>,
}

/// One version of a file's content.
#[derive(Debug, Clone, sqlx::FromRow)]
pub struct VersionRow {
    pub number: i32,
    pub object_id: ObjectId,
    pub state: String,
    pub media_type: String,
    pub claimed_bytes: Option<i64>,
    pub claimed_sha256: Option<Vec<u8>>,
    pub refused: Option<String>,
    pub created_by: ActorId,
    pub created_at: DateTime<Utc>,
    /// Of the object, once it is all there.
    pub size_bytes: Option<i64>,
    pub sha256: Option<Vec<u8>>,
}

/// Content that may be read.
#[derive(Debug, Clone, sqlx::FromRow)]
pub struct Readable {
    pub name: String,
    pub number: i32,
    pub object_id: ObjectId,
    pub media_type: String,
    pub size_bytes: i64,
    pub sha256: Vec<u8>,
    pub created_at: DateTime<Utc>,
}

/// A file that is about to get its first version.
#[derive(Debug, Clone)]
pub struct NewFile<'a> {
    pub id: FileId,
    pub name: &'a str,
    pub keep_versions: i32,
    pub created_by: ActorId,
    pub expires_at: Option<DateTime<Utc>>,
}

/// A version of a file.
#[derive(Debug, Clone)]
pub struct NewVersion<'a> {
    pub object: ObjectId,
    pub state: VersionState,
    pub media_type: &'a str,
    pub claimed_bytes: Option<i64>,
    pub claimed_sha256: Option<&'a [u8]>,
    pub created_by: ActorId,
}

/// What is to be changed; None leaves a field as it is.
#[derive(Debug, Clone, Default)]
pub struct Change {
    pub name: Option<String>,
    pub keep_versions: Option<i32>,
    pub expires_at: Option<Option<DateTime<Utc>>>,
}

/// Which files are listed.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    pub media_type: Option<String>,
    /// Those that were deleted and can be had back, in place of those that are there.
    pub deleted: bool,
}

const FILE: &str = "
    select f.id, f.name, f.keep_versions, f.created_by, f.expires_at, f.deleted_at, f.version, f.created_at, f.updated_at,
           v.number, v.media_type, o.size_bytes, o.sha256, n.state, n.refused
      from files f
      left join file_versions v on v.tenant_id = f.tenant_id and v.file_id = f.id and v.number = f.current
      left join objects o on o.tenant_id = v.tenant_id and o.id = v.object_id
      join lateral (select state, refused from file_versions n where n.tenant_id = f.tenant_id and n.file_id = f.id
                     order by number desc limit 1) n on true";

const VERSION: &str = "
    select v.number, v.object_id, v.state, v.media_type, v.claimed_bytes, v.claimed_sha256, v.refused, v.created_by,
           v.created_at, o.size_bytes, o.sha256
      from file_versions v join objects o on o.tenant_id = v.tenant_id and o.id = v.object_id
     where v.file_id = $1";

/// Makes a file without a version.
pub async fn insert(tx: &mut TenantTx, new: &NewFile<'_>) -> Result<()> {
    let sql = "insert into files (tenant_id, id, name, keep_versions, created_by, expires_at)
               values ($1, $2, $3, $4, $5, $6)";
    sqlx::query(sql)
        .bind(tx.tenant())
        .bind(new.id)
        .bind(new.name)
        .bind(new.keep_versions)
        .bind(new.created_by)
        .bind(new.expires_at)
        .execute(&mut **tx)
        .await?;
    Ok(())
}

/// Adds a version. One that is ready becomes the file's content.
pub async fn add_version(tx: &mut TenantTx, file: FileId, new: &NewVersion<'_>) -> Result<i32> {
    lock(tx, file).await?;
    let sql = "insert into file_versions (tenant_id, file_id, number, object_id, state, media_type, claimed_bytes,
                                          claimed_sha256, created_by)
               select $1, $2, coalesce(max(number), 0) + 1, $3, $4, $5, $6, $7, $8 from file_versions where file_id = $2
               returning number";
    let number = sqlx::query_scalar(sql)
        .bind(tx.tenant())
        .bind(file)
        .bind(new.object)
        .bind(new.state.as_str())
        .bind(new.media_type)
        .bind(new.claimed_bytes)
        .bind(new.claimed_sha256)
        .bind(new.created_by)
        .fetch_one(&mut **tx)
        .await?;
    if new.state == VersionState::Ready {
        make_current(tx, file, number).await?;
    }
    Ok(number)
}

/// Makes a version that is ready the file's content, unless a later one is, and lets go of those beyond what it keeps.
async fn make_current(tx: &mut TenantTx, file: FileId, number: i32) -> Result<()> {
    let sql = "update files set current = greatest(current, $2), version = version + 1, updated_at = ledger_now()
                where id = $1";
    sqlx::query(sql).bind(file).bind(number).execute(&mut **tx).await?;
    prune(tx, file).await
}

/// Gives up the oldest versions beyond `keep_versions`.
async fn prune(tx: &mut TenantTx, file: FileId) -> Result<()> {
    let sql = "
        select v.object_id
          from file_versions v join objects o on o.tenant_id = v.tenant_id and o.id = v.object_id
         where v.file_id = $1 and v.state = 'ready' and o.state = 'stored'
         order by v.number desc offset (select keep_versions from files where id = $1)";
    let beyond: Vec<ObjectId> = sqlx::query_scalar(sql).bind(file).fetch_all(&mut **tx).await?;
    for object in beyond {
        objects::delete(tx, object, Duration::ZERO).await?;
    }
    Ok(())
}

/// What was found in a direct upload: its type, or why it is refused.
pub async fn verified(tx: &mut TenantTx, file: FileId, number: i32, found: Result<&str, &str>) -> Result<()> {
    lock(tx, file).await?;
    let (state, media_type, refused) = match found {
        Ok(media_type) => (VersionState::Ready, Some(media_type), None),
        Err(why) => (VersionState::Refused, None, Some(why)),
    };
    let sql = "update file_versions set state = $3, media_type = coalesce($4, media_type), refused = $5
                where file_id = $1 and number = $2 and state = 'verifying'";
    sqlx::query(sql)
        .bind(file)
        .bind(number)
        .bind(state.as_str())
        .bind(media_type)
        .bind(refused)
        .execute(&mut **tx)
        .await?;
    if state == VersionState::Ready { make_current(tx, file, number).await } else { Ok(()) }
}

/// The client says that it has sent everything.
///
/// # Errors
/// [`Error::NotFound`], [`Error::Conflict`] `file_not_uploading`.
pub async fn complete(tx: &mut TenantTx, file: FileId) -> Result<i32> {
    lock(tx, file).await?;
    let sql = "update file_versions set state = 'verifying'
                where file_id = $1 and state = 'uploading'
                  and number = (select max(number) from file_versions where file_id = $1)
               returning number";
    let number: Option<i32> = sqlx::query_scalar(sql).bind(file).fetch_optional(&mut **tx).await?;
    number.ok_or_else(|| Error::conflict("file_not_uploading", "no direct upload of this file is under way"))
}

/// Holds a file that was not deleted until the end of the transaction. Answers its version, for `If-Match`.
///
/// # Errors
/// [`Error::NotFound`].
pub async fn lock(tx: &mut TenantTx, file: FileId) -> Result<i32> {
    let sql = "select version from files where id = $1 and deleted_at is null for no key update";
    let version = sqlx::query_scalar(sql).bind(file).fetch_optional(&mut **tx).await?;
    version.ok_or(Error::NotFound("file"))
}

/// # Errors
/// [`Error::NotFound`].
pub async fn get(tx: &mut TenantTx, file: FileId) -> Result<FileRow> {
    let sql = format!("{FILE} where f.id = $1");
    let row = sqlx::query_as(sqlx::AssertSqlSafe(sql)).bind(file).fetch_optional(&mut **tx).await?;
    row.ok_or(Error::NotFound("file"))
}

/// Newest first; those whose content is still on its way are left out.
pub async fn list(tx: &mut TenantTx, filter: &Filter, before: Option<FileId>, limit: i64) -> Result<Vec<FileRow>> {
    let sql = format!(
        "{FILE} where ($1::uuid is null or f.id < $1) and f.current is not null and ($2::text is null or v.media_type = $2)
            and (f.deleted_at is not null) = $3
          order by f.id desc limit $4"
    );
    Ok(sqlx::query_as(sqlx::AssertSqlSafe(sql))
        .bind(before)
        .bind(&filter.media_type)
        .bind(filter.deleted)
        .bind(limit)
        .fetch_all(&mut **tx)
        .await?)
}

/// Newest first, without those that were given up.
///
/// # Errors
/// [`Error::NotFound`] without such a file.
pub async fn list_versions(tx: &mut TenantTx, file: FileId) -> Result<Vec<VersionRow>> {
    get(tx, file).await?;
    let sql = format!("{VERSION} and o.state <> 'deleted' order by v.number desc limit 200");
    Ok(sqlx::query_as(sqlx::AssertSqlSafe(sql)).bind(file).fetch_all(&mut **tx).await?)
}

/// # Errors
/// [`Error::NotFound`].
pub async fn get_version(tx: &mut TenantTx, file: FileId, number: i32) -> Result<VersionRow> {
    let sql = format!("{VERSION} and v.number = $2");
    let row = sqlx::query_as(sqlx::AssertSqlSafe(sql)).bind(file).bind(number).fetch_optional(&mut **tx).await?;
    row.ok_or(Error::NotFound("file"))
}

/// The content of a file that was not deleted: its newest version that is ready, or the one that is asked for.
///
/// # Errors
/// [`Error::NotFound`]; [`Error::Conflict`] `file_not_ready` while there is none yet.
pub async fn readable(tx: &mut TenantTx, file: FileId, number: Option<i32>) -> Result<Readable> {
    let sql = "
        select f.name, v.number, v.object_id, v.media_type, o.size_bytes, o.sha256, v.created_at
          from files f
          join file_versions v on v.tenant_id = f.tenant_id and v.file_id = f.id and v.number = coalesce($2, f.current)
          join objects o on o.tenant_id = v.tenant_id and o.id = v.object_id
         where f.id = $1 and f.deleted_at is null and v.state = 'ready' and o.state = 'stored'
           and (f.expires_at is null or f.expires_at > ledger_now())";
    let row: Option<Readable> = sqlx::query_as(sql).bind(file).bind(number).fetch_optional(&mut **tx).await?;
    if let Some(row) = row {
        return Ok(row);
    }
    let file = get(tx, file).await?;
    if file.deleted_at.is_none() && file.number.is_none() && number.is_none() {
        return Err(Error::conflict(
            "file_not_ready",
            file.refused.unwrap_or_else(|| format!("its content is {}; look again later", file.state)),
        ));
    }
    Err(Error::NotFound("file"))
}

/// # Errors
/// [`Error::NotFound`].
pub async fn update(tx: &mut TenantTx, file: FileId, change: &Change) -> Result<()> {
    let sql = "update files set name = coalesce($2, name), keep_versions = coalesce($3, keep_versions),
                      expires_at = case when $4 then $5 else expires_at end, version = version + 1,
                      updated_at = ledger_now()
                where id = $1 and deleted_at is null";
    let updated = sqlx::query(sql)
        .bind(file)
        .bind(&change.name)
        .bind(change.keep_versions)
        .bind(change.expires_at.is_some())
        .bind(change.expires_at.flatten())
        .execute(&mut **tx)
        .await?;
    if updated.rows_affected() == 0 {
        return Err(Error::NotFound("file"));
    }
    prune(tx, file).await
}

/// Deletes a file. For [`GRACE`] it can be had back.
///
/// # Errors
/// [`Error::NotFound`].
pub async fn delete(tx: &mut TenantTx, file: FileId) -> Result<()> {
    let sql = "update files set deleted_at = ledger_now(), version = version + 1, updated_at = ledger_now()
                where id = $1 and deleted_at is null";
    if sqlx::query(sql).bind(file).execute(&mut **tx).await?.rows_affected() == 0 {
        return Err(Error::NotFound("file"));
    }
    let sql = "update objects set state = 'deleted', delete_after = ledger_now() + $2 * interval '1 s'
                where state <> 'deleted' and id in (select object_id from file_versions where file_id = $1)";
    sqlx::query(sql).bind(file).bind(GRACE.as_secs() as i64).execute(&mut **tx).await?;
    Ok(())
}

/// Deletes some files that somebody stored, without a grace. Answers how many; 0 when there are no more.
pub async fn erase_of(tx: &mut TenantTx, by: ActorId, limit: i64) -> Result<u64> {
    let sql = "update files set deleted_at = ledger_now(), version = version + 1, updated_at = ledger_now()
                where tenant_id = $1 and id in (select id from files where tenant_id = $1 and created_by = $2
                                                   and deleted_at is null order by id limit $3 for no key update)
                returning id";
    let erased: Vec<FileId> =
        sqlx::query_scalar(sql).bind(tx.tenant()).bind(by).bind(limit).fetch_all(&mut **tx).await?;
    let sql = "update objects o set state = 'deleted', delete_after = ledger_now()
                where o.tenant_id = $1 and (o.state <> 'deleted' or o.delete_after > ledger_now())
                  and o.id in (select object_id from file_versions where tenant_id = $1 and file_id = any ($2))";
    sqlx::query(sql).bind(tx.tenant()).bind(&erased).execute(&mut **tx).await?;
    Ok(erased.len() as u64)
}

/// Takes back a deletion, if there is still room for the file.
///
/// # Errors
/// [`Error::NotFound`]; [`Error::Conflict`]: `file_not_deleted`, `file_gone`, `storage_quota_exceeded`.
pub async fn restore(tx: &mut TenantTx, file: FileId, quota: i64) -> Result<()> {
    let sql = "select deleted_at is not null from files where id = $1 for no key update";
    match sqlx::query_scalar(sql).bind(file).fetch_optional(&mut **tx).await? {
        None => return Err(Error::NotFound("file")),
        Some(false) => return Err(Error::conflict("file_not_deleted", "the file was not deleted")),
        Some(true) => {}
    }
    // What was given up with the file, all at one moment, and not what was given up before.
    let sql = "
        with kept as (
            select o.id, o.size_bytes, v.number
              from objects o join file_versions v on v.tenant_id = o.tenant_id and v.object_id = o.id
              join files f on f.tenant_id = v.tenant_id and f.id = v.file_id
             where v.file_id = $1 and v.state = 'ready' and o.state = 'deleted'
               and o.delete_after = f.deleted_at + $2 * interval '1 s'
               for update of o)
        select coalesce(sum(size_bytes), 0)::bigint, coalesce(array_agg(id), '{}'), max(number) from kept";
    let (bytes, kept, newest): (i64, Vec<ObjectId>, Option<i32>) =
        sqlx::query_as(sql).bind(file).bind(GRACE.as_secs() as i64).fetch_one(&mut **tx).await?;
    if newest.is_none() {
        return Err(Error::conflict("file_gone", "its grace period is over, and its content is gone"));
    }
    objects::hold(tx, bytes, quota).await?;
    let sql = "update objects set state = 'stored', delete_after = null where id = any ($1)";
    sqlx::query(sql).bind(&kept).execute(&mut **tx).await?;
    let sql =
        "update files set deleted_at = null, expires_at = nullif(greatest(expires_at, ledger_now()), ledger_now()),
                      version = version + 1, updated_at = ledger_now()
                where id = $1";
    sqlx::query(sql).bind(file).execute(&mut **tx).await?;
    Ok(())
}
