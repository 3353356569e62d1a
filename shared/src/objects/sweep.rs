//! What a sweep asks of the database, and writes there. All of it through the system's door: it works across tenants.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::seconds;
use crate::Result;
use crate::files;
use crate::infra::db::SystemTx;
use crate::infra::ids::{JobId, ObjectId, TenantId};
use crate::infra::storage::{Key, Unfinished};

/// How long a direct upload may take in all, the look at it included: nobody renews its row meanwhile.
const DIRECT_UPLOAD: Duration = Duration::from_secs(86_400);
/// Examples that a sweep shows of each thing it found.
pub const EXAMPLES: usize = 20;

/// What may be found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Finding {
    /// Files whose time was over.
    Expired,
    /// Rows of objects that were never finished.
    Stale,
    /// Objects that were given up, and whose grace period was over.
    Deleted,
    /// Parts and files of writes that were never finished.
    Unfinished,
    /// Objects that no row speaks of.
    Orphans,
    /// Rows whose object is not there.
    Missing,
    /// Rows whose object was missing and is there again.
    Found,
    /// Objects of another size than their row says.
    Differing,
}

impl Finding {
    pub const ALL: [Self; 8] = [
        Self::Expired,
        Self::Stale,
        Self::Deleted,
        Self::Unfinished,
        Self::Orphans,
        Self::Missing,
        Self::Found,
        Self::Differing,
    ];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Expired => "expired",
            Self::Stale => "stale",
            Self::Deleted => "deleted",
            Self::Unfinished => "unfinished",
            Self::Orphans => "orphans",
            Self::Missing => "missing",
            Self::Found => "found",
            Self::Differing => "differing",
        }
    }
}

/// The parts of a sweep, in their order.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    #[default]
    Expire,
    GiveUp,
    Delete,
    Abandon,
    Compare,
    Done,
}

/// How far a sweep has come, and what it found.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Sweep {
    pub step: Step,
    /// The last object of the comparison, or the last unfinished write, that was looked at.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
    /// Of that write.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub upload: Option<String>,
    /// Objects in storage.
    pub objects: u64,
    pub objects_bytes: u64,
    /// Rows of `objects`.
    pub rows: u64,
    pub found: BTreeMap<Finding, u64>,
    pub orphans_bytes: u64,
    /// The first few of each, `tenant/object`.
    pub examples: BTreeMap<Finding, Vec<String>>,
}

impl Sweep {
    /// Notes what was found, and who it belongs to.
    pub fn note(&mut self, finding: Finding, keys: &[Key]) {
        if keys.is_empty() {
            return;
        }
        *self.found.entry(finding).or_default() += keys.len() as u64;
        let examples = self.examples.entry(finding).or_default();
        examples.extend(keys.iter().take(EXAMPLES - examples.len()).map(Key::to_string));
    }
}

/// A row, as the comparison sees it.
#[derive(Debug, Clone, sqlx::FromRow)]
pub struct Row {
    tenant_id: TenantId,
    id: ObjectId,
    /// Whether its object has to be there.
    pub stored: bool,
    pub size_bytes: Option<i64>,
    pub missing: bool,
}

impl Row {
    pub fn key(&self) -> Key {
        Key::of(self.tenant_id, self.id)
    }
}

/// Where the sweep of `job` stands.
pub async fn load(tx: &mut SystemTx, tenant: TenantId, job: JobId) -> Result<Sweep> {
    let sql = "select state::text from object_sweeps where tenant_id = $1 and job_id = $2";
    let state: Option<String> = sqlx::query_scalar(sql).bind(tenant).bind(job).fetch_optional(&mut **tx).await?;
    Ok(state.map(|state| serde_json::from_str(&state)).transpose()?.unwrap_or_default())
}

pub async fn save(tx: &mut SystemTx, tenant: TenantId, job: JobId, sweep: &Sweep) -> Result<()> {
    let sql = "insert into object_sweeps as s (tenant_id, job_id, state) values ($1, $2, $3::jsonb)
               on conflict (tenant_id, job_id) do update set state = excluded.state";
    sqlx::query(sql).bind(tenant).bind(job).bind(serde_json::to_string(sweep)?).execute(&mut **tx).await?;
    Ok(())
}

/// Adds to what `job` did to tenants' objects.
pub async fn add_deeds(tx: &mut SystemTx, job: JobId, deed: Finding, keys: &[Key]) -> Result<()> {
    let sql = "insert into object_sweep_deeds as d (tenant_id, job_id, deed, objects)
               select t, $1, $2, count(*) from unnest($3::uuid[]) t group by t order by t
               on conflict (job_id, tenant_id, deed) do update set objects = d.objects + excluded.objects";
    let tenants: Vec<TenantId> = keys.iter().map(Key::tenant).collect();
    sqlx::query(sql).bind(job).bind(deed.as_str()).bind(tenants).execute(&mut **tx).await?;
    Ok(())
}

/// Makes audit entries of what `job` did, one a tenant, `limit` tenants at a time. Answers whether there were
/// any. What belonged to no tenant is nobody's entry.
pub async fn record_deeds(tx: &mut SystemTx, job: JobId, limit: i64) -> Result<bool> {
    let sql = "
        with owners as (
            select distinct tenant_id from object_sweep_deeds where job_id = $1 order by tenant_id limit $2
        ), gone as (
            delete from object_sweep_deeds d using owners t where d.job_id = $1 and d.tenant_id = t.tenant_id
            returning d.tenant_id, d.deed, d.objects
        )
        select tenant_id, jsonb_object_agg(deed, objects)::text, exists (select from tenants where id = tenant_id)
          from gone group by tenant_id";
    let deeds: Vec<(TenantId, String, bool)> = sqlx::query_as(sql).bind(job).bind(limit).fetch_all(&mut **tx).await?;
    let sql = "select audit_record($1, 'storage.swept', 'job', $2, null, $3::jsonb)";
    for (tenant, deeds, _) in deeds.iter().filter(|(_, _, known)| *known) {
        sqlx::query(sql).bind(tenant).bind(job.to_string()).bind(deeds).execute(&mut **tx).await?;
    }
    Ok(!deeds.is_empty())
}

/// Deletes a chunk of files whose time is over, as their owner would: they can be had back for a while.
pub async fn expire_files(tx: &mut SystemTx, only: Option<TenantId>, limit: i64) -> Result<Vec<Key>> {
    let sql = "
        with due as (
            select tenant_id, id from files
             where expires_at <= ledger_now() and deleted_at is null and ($1::uuid is null or tenant_id = $1)
             order by expires_at limit $2 for update skip locked
        ), files as (
            update files f set deleted_at = ledger_now(), version = version + 1, updated_at = ledger_now()
              from due d where f.tenant_id = d.tenant_id and f.id = d.id
            returning f.tenant_id, f.id
        ), objects as (
            update objects o set state = 'deleted', delete_after = ledger_now() + $3 * interval '1 s'
              from files f join file_versions v on v.tenant_id = f.tenant_id and v.file_id = f.id
             where o.tenant_id = v.tenant_id and o.id = v.object_id and o.state <> 'deleted'
        )
        select tenant_id, id from files";
    keys(sqlx::query_as(sql).bind(only).bind(limit).bind(seconds(files::GRACE)).fetch_all(&mut **tx).await?)
}

/// How many files that is.
pub async fn count_expired(tx: &mut SystemTx, only: Option<TenantId>) -> Result<i64> {
    let sql = "select count(*) from files
                where expires_at <= ledger_now() and deleted_at is null and ($1::uuid is null or tenant_id = $1)";
    Ok(sqlx::query_scalar(sql).bind(only).fetch_one(&mut **tx).await?)
}

/// Rows of which nobody has said for `grace` ($2) that they are at it.
const STALE: &str = "
    o.state = 'pending' and o.touched_at < ledger_now() - $2 * interval '1 s' and ($1::uuid is null or o.tenant_id = $1)
    and (o.touched_at < ledger_now() - $3 * interval '1 s'
         or not exists (select from file_versions v where v.tenant_id = o.tenant_id and v.object_id = o.id
                           and v.state in ('uploading', 'verifying')))";

/// Gives a chunk of stale rows up: what they reserved is free, and their writers are told when they look.
pub async fn give_up(tx: &mut SystemTx, only: Option<TenantId>, grace: Duration, limit: i64) -> Result<Vec<Key>> {
    let sql = format!(
        "update objects u set state = 'deleted', delete_after = ledger_now()
           from (select o.tenant_id, o.id from objects o where {STALE} order by o.touched_at limit $4
                    for update skip locked) o
          where u.tenant_id = o.tenant_id and u.id = o.id
         returning u.tenant_id, u.id"
    );
    let rows = sqlx::query_as(sqlx::AssertSqlSafe(sql)).bind(only).bind(seconds(grace)).bind(seconds(DIRECT_UPLOAD));
    keys(rows.bind(limit).fetch_all(&mut **tx).await?)
}

/// How many rows that is.
pub async fn count_stale(tx: &mut SystemTx, only: Option<TenantId>, grace: Duration) -> Result<i64> {
    let sql = format!("select count(*) from objects o where {STALE}");
    let count = sqlx::query_scalar(sqlx::AssertSqlSafe(sql)).bind(only).bind(seconds(grace));
    Ok(count.bind(seconds(DIRECT_UPLOAD)).fetch_one(&mut **tx).await?)
}

/// Takes a chunk of rows whose grace period is over. From then on nobody may have them back: their object may be gone.
pub async fn take_due(tx: &mut SystemTx, only: Option<TenantId>, limit: i64) -> Result<Vec<Key>> {
    // A deletion is taken back by its moment, which is another now.
    let sql = "update objects u set delete_after = ledger_now()
                 from (select tenant_id, id from objects
                        where state = 'deleted' and delete_after <= ledger_now() and ($1::uuid is null or tenant_id = $1)
                        order by delete_after limit $2 for update skip locked) d
                where u.tenant_id = d.tenant_id and u.id = d.id
               returning u.tenant_id, u.id";
    keys(sqlx::query_as(sql).bind(only).bind(limit).fetch_all(&mut **tx).await?)
}

/// How many rows that is.
pub async fn count_due(tx: &mut SystemTx, only: Option<TenantId>) -> Result<i64> {
    let sql = "select count(*) from objects
                where state = 'deleted' and delete_after <= ledger_now() and ($1::uuid is null or tenant_id = $1)";
    Ok(sqlx::query_scalar(sql).bind(only).fetch_one(&mut **tx).await?)
}

/// Deletes rows whose objects are gone, and with them what refers to them.
pub async fn forget(tx: &mut SystemTx, gone: &[Key]) -> Result<()> {
    let sql = "delete from objects o using unnest($1::uuid[], $2::uuid[]) d(tenant_id, id)
                where o.tenant_id = d.tenant_id and o.id = d.id and o.state = 'deleted'";
    let (tenants, ids) = split(gone);
    sqlx::query(sql).bind(tenants).bind(ids).execute(&mut **tx).await?;
    Ok(())
}

/// Deletes a chunk of files that have no version left: of those that were deleted, and those that never had content.
pub async fn forget_files(tx: &mut SystemTx, only: Option<TenantId>, limit: i64) -> Result<u64> {
    let sql = "
        delete from files f using (
            select tenant_id, id from files c
             where (deleted_at < ledger_now() - $3 * interval '1 s' and deleted_at is not null
                    or current is null and deleted_at is null and created_at < ledger_now() - $4 * interval '1 s')
               and ($1::uuid is null or tenant_id = $1)
               and not exists (select from file_versions v where v.tenant_id = c.tenant_id and v.file_id = c.id)
             limit $2 for update skip locked) c
         where f.tenant_id = c.tenant_id and f.id = c.id";
    let deleted = sqlx::query(sql).bind(only).bind(limit).bind(seconds(files::GRACE)).bind(seconds(DIRECT_UPLOAD));
    Ok(deleted.execute(&mut **tx).await?.rows_affected())
}

/// Those of `unfinished` whose row says that somebody is at them: a pending one.
pub async fn still_written(tx: &mut SystemTx, unfinished: &[Unfinished]) -> Result<Vec<Key>> {
    let all: Vec<Key> = unfinished.iter().map(|unfinished| unfinished.key).collect();
    let sql = "select o.tenant_id, o.id from unnest($1::uuid[], $2::uuid[]) u(tenant_id, id)
                 join objects o on o.tenant_id = u.tenant_id and o.id = u.id where o.state = 'pending'";
    let (tenants, ids) = split(&all);
    keys(sqlx::query_as(sql).bind(tenants).bind(ids).fetch_all(&mut **tx).await?)
}

/// A page of rows behind `after`, in the order of their keys.
pub async fn rows(tx: &mut SystemTx, only: Option<TenantId>, after: Key, limit: i64) -> Result<Vec<Row>> {
    let sql = "select tenant_id, id, state = 'stored' as stored, size_bytes, missing_at is not null as missing
                 from objects
                where (tenant_id, id) > ($1, $2) and ($3::uuid is null or tenant_id = $3)
                order by tenant_id, id limit $4";
    let rows = sqlx::query_as(sql).bind(after.tenant()).bind(after.object()).bind(only).bind(limit);
    Ok(rows.fetch_all(&mut **tx).await?)
}

/// Those of `keys` that no row speaks of.
pub async fn unknown(tx: &mut SystemTx, candidates: &[Key]) -> Result<Vec<Key>> {
    let sql = "select u.tenant_id, u.id from unnest($1::uuid[], $2::uuid[]) u(tenant_id, id)
                where not exists (select from objects o where o.tenant_id = u.tenant_id and o.id = u.id)";
    let (tenants, ids) = split(candidates);
    keys(sqlx::query_as(sql).bind(tenants).bind(ids).fetch_all(&mut **tx).await?)
}

/// Marks stored rows as missing their object, or not any more. Answers those that were marked otherwise, and still are
/// stored.
pub async fn mark_missing(tx: &mut SystemTx, rows: &[Key], missing: bool) -> Result<Vec<Key>> {
    let sql = "update objects o set missing_at = case when $3 then ledger_now() end
                 from unnest($1::uuid[], $2::uuid[]) m(tenant_id, id)
                where o.tenant_id = m.tenant_id and o.id = m.id and o.state = 'stored'
                  and (o.missing_at is not null) <> $3
               returning o.tenant_id, o.id";
    let (tenants, ids) = split(rows);
    keys(sqlx::query_as(sql).bind(tenants).bind(ids).bind(missing).fetch_all(&mut **tx).await?)
}

fn keys(rows: Vec<(TenantId, ObjectId)>) -> Result<Vec<Key>> {
    Ok(rows.into_iter().map(|(tenant, object)| Key::of(tenant, object)).collect())
}

fn split(keys: &[Key]) -> (Vec<TenantId>, Vec<ObjectId>) {
    keys.iter().map(|key| (key.tenant(), key.object())).unzip()
}

/// Gives up the objects of a chunk of rows of `table` whose `expires_at` is past. Answers how many.
pub async fn expire_of(tx: &mut SystemTx, table: &'static str, only: Option<TenantId>, limit: i64) -> Result<u64> {
    let sql = format!(
        "with over as (
             select tenant_id, object_id from {table}
              where object_id is not null and expires_at <= ledger_now() and ($1::uuid is null or tenant_id = $1)
              order by expires_at limit $2
                for no key update skip locked
         )
         update objects o set state = 'deleted', delete_after = ledger_now()
           from over where o.tenant_id = over.tenant_id and o.id = over.object_id and o.state = 'stored'"
    );
    Ok(sqlx::query(sqlx::AssertSqlSafe(sql)).bind(only).bind(limit).execute(&mut **tx).await?.rows_affected())
}
