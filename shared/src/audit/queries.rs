//! Every statement on `audit_logs` and `audit_chains`.

use chrono::{DateTime, Utc};
use serde_json::Value;
use sqlx::{Postgres, QueryBuilder};
use uuid::Uuid;

use crate::Result;
use crate::infra::db::{SystemTx, TenantTx};
use crate::infra::ids::TenantId;

/// An entry as it is read.
#[derive(Debug, Clone, sqlx::FromRow)]
pub struct EntryRow {
    pub id: Uuid,
    pub actor_type: String,
    pub actor_id: Option<Uuid>,
    pub ip: Option<String>,
    pub user_agent: Option<String>,
    pub request_id: Option<String>,
    pub action: String,
    pub resource_type: String,
    pub resource_id: Option<String>,
    /// JSON.
    pub before: Option<String>,
    pub after: Option<String>,
}

/// What to list.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    pub actor: Option<Uuid>,
    pub action: Option<String>,
    pub resource_type: Option<String>,
    pub resource_id: Option<String>,
    pub request_id: Option<String>,
    /// At or after.
    pub from: Option<DateTime<Utc>>,
    /// Before.
    pub to: Option<DateTime<Utc>>,
    /// Older than this entry: the last one of the page before.
    pub before: Option<Uuid>,
}

/// Writes down what no trigger sees: a read that matters. It stands if the transaction commits.
pub async fn record(
    tx: &mut TenantTx,
    action: &str,
    (resource_type, resource_id): (&str, &str),
    after: Option<&Value>,
) -> Result<()> {
    sqlx::query("select audit_record($1, $2, $3, $4, null, $5::jsonb)")
        .bind(tx.tenant())
        .bind(action)
        .bind(resource_type)
        .bind(resource_id)
        .bind(after.map(Value::to_string))
        .execute(&mut **tx)
        .await?;
    Ok(())
}

/// A page of entries, newest first.
pub async fn list(tx: &mut TenantTx, filter: &Filter, limit: i64) -> Result<Vec<EntryRow>> {
    let mut query = QueryBuilder::<Postgres>::new(
        "select id, actor_type, actor_id, host(ip) as ip, user_agent, request_id, action, resource_type, resource_id,
                before::text as before, after::text as after
           from audit_logs where tenant_id = ",
    );
    query.push_bind(tx.tenant());
    if let Some(actor) = filter.actor {
        query.push(" and actor_id = ").push_bind(actor);
    }
    for (column, value) in [
        ("action", &filter.action),
        ("resource_type", &filter.resource_type),
        ("resource_id", &filter.resource_id),
        ("request_id", &filter.request_id),
    ] {
        if let Some(value) = value {
            query.push(format!(" and {column} = ")).push_bind(value.clone());
        }
    }
    if let Some(from) = filter.from {
        query.push(" and id >= uuid_floor(").push_bind(from).push(")");
    }
    if let Some(to) = filter.to {
        query.push(" and id < uuid_floor(").push_bind(to).push(")");
    }
    if let Some(before) = filter.before {
        query.push(" and id < ").push_bind(before);
    }
    query.push(" order by id desc limit ").push_bind(limit);
    Ok(query.build_query_as().fetch_all(&mut **tx).await?)
}

/// An entry that has no place yet, as it is hashed.
#[derive(Debug, Clone, sqlx::FromRow)]
pub struct Unsealed {
    pub id: Uuid,
    pub text: String,
}

/// An entry's place in the chain.
#[derive(Debug, Clone, sqlx::FromRow)]
pub struct Link {
    pub id: Uuid,
    pub seq: i64,
    pub sealed_at: DateTime<Utc>,
    pub prev_hash: Vec<u8>,
    pub hash: Vec<u8>,
    /// What is hashed of the entry.
    pub text: String,
}

/// A tenant's chain as it is stored: the end in the clear, and both ends under `MASTER_KEYS`.
#[derive(Debug, Clone, sqlx::FromRow)]
pub struct ChainRow {
    pub seq: i64,
    pub sealed: Vec<u8>,
}

/// Tenants with entries that have no place.
pub async fn list_unsealed_tenants(tx: &mut SystemTx) -> Result<Vec<TenantId>> {
    let sql =
        "select distinct tenant_id from (select tenant_id from audit_logs where seq is null order by id limit 10000) a";
    Ok(sqlx::query_scalar(sql).fetch_all(&mut **tx).await?)
}

/// Entries of a tenant that have no place, oldest first.
pub async fn list_unsealed(tx: &mut SystemTx, tenant: TenantId, limit: i64) -> Result<Vec<Unsealed>> {
    Ok(sqlx::query_as(
        "select a.id, audit_text(a) as text from audit_logs a where a.tenant_id = $1 and a.seq is null order by a.id limit $2",
    )
    .bind(tenant)
    .bind(limit)
    .fetch_all(&mut **tx)
    .await?)
}

/// A tenant's chain, held until the transaction ends: chains are extended one at a time.
pub async fn lock_chain(tx: &mut SystemTx, tenant: TenantId) -> Result<Option<ChainRow>> {
    // A chain that does not exist cannot be locked.
    sqlx::query("select pg_advisory_xact_lock(hashtextextended('millwork.audit/' || $1::text, 0))")
        .bind(tenant)
        .execute(&mut **tx)
        .await?;
    find_chain(tx, tenant).await
}

pub async fn find_chain(tx: &mut SystemTx, tenant: TenantId) -> Result<Option<ChainRow>> {
    Ok(sqlx::query_as("select seq, sealed from audit_chains where tenant_id = $1")
        .bind(tenant)
        .fetch_optional(&mut **tx)
        .await?)
}

pub async fn store_chain(tx: &mut SystemTx, tenant: TenantId, seq: i64, sealed: &[u8]) -> Result<()> {
    sqlx::query(
        "insert into audit_chains (tenant_id, seq, sealed) values ($1, $2, $3)
         on conflict (tenant_id) do update set seq = $2, sealed = $3, updated_at = ledger_now()",
    )
    .bind(tenant)
    .bind(seq)
    .bind(sealed)
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Gives entries their places. Answers how many had none.
pub async fn seal(tx: &mut SystemTx, tenant: TenantId, links: &[Link], at: DateTime<Utc>) -> Result<i64> {
    Ok(sqlx::query_scalar("select seal_audit($1, $2, $3, $4, $5, $6)")
        .bind(tenant)
        .bind(links.iter().map(|l| l.id).collect::<Vec<_>>())
        .bind(links.iter().map(|l| l.seq).collect::<Vec<_>>())
        .bind(links.iter().map(|l| l.prev_hash.clone()).collect::<Vec<_>>())
        .bind(links.iter().map(|l| l.hash.clone()).collect::<Vec<_>>())
        .bind(at)
        .fetch_one(&mut **tx)
        .await?)
}

/// Tenants that have entries or a chain.
pub async fn list_tenants(tx: &mut SystemTx) -> Result<Vec<TenantId>> {
    let sql = "select distinct tenant_id from audit_logs union select tenant_id from audit_chains order by 1";
    Ok(sqlx::query_scalar(sql).fetch_all(&mut **tx).await?)
}

/// Sealed entries from the place after `(seq, id)` on, in the order of their places.
pub async fn list_links(tx: &mut SystemTx, tenant: TenantId, after: (i64, Uuid), limit: i64) -> Result<Vec<Link>> {
    Ok(sqlx::query_as(
        "select a.id, a.seq, a.sealed_at, a.prev_hash, a.hash, audit_text(a) as text from audit_logs a
          where a.tenant_id = $1 and (a.seq, a.id) > ($2, $3) order by a.seq, a.id limit $4",
    )
    .bind(tenant)
    .bind(after.0)
    .bind(after.1)
    .bind(limit)
    .fetch_all(&mut **tx)
    .await?)
}

/// How many entries of a tenant wait for their place.
pub async fn count_unsealed(tx: &mut SystemTx, tenant: TenantId) -> Result<i64> {
    Ok(sqlx::query_scalar("select count(*) from audit_logs where tenant_id = $1 and seq is null")
        .bind(tenant)
        .fetch_one(&mut **tx)
        .await?)
}

/// Makes the partitions of this month and the next ones. Answers how many were missing.
pub async fn ensure_partitions(tx: &mut SystemTx, months_ahead: i32) -> Result<i32> {
    Ok(sqlx::query_scalar("select ensure_audit_partitions($1)").bind(months_ahead).fetch_one(&mut **tx).await?)
}

/// Partitions by name, oldest first, with the moment that they end at.
pub async fn list_partitions(tx: &mut SystemTx) -> Result<Vec<(String, DateTime<Utc>)>> {
    Ok(sqlx::query_as(
        "select c.relname::text, (to_date(right(c.relname, 6), 'YYYYMM') + interval '1 month') at time zone 'utc'
           from pg_inherits i join pg_class c on c.oid = i.inhrelid
          where i.inhparent = 'audit_logs'::regclass and c.relname ~ '^audit_logs_m\\d{6}$' order by 1",
    )
    .fetch_all(&mut **tx)
    .await?)
}

/// Who has entries from before `end` and since the month before it, on which plan, with the last place among them. None of
/// a plan belongs to a tenant that is gone.
pub async fn list_tenants_between(
    tx: &mut SystemTx,
    end: DateTime<Utc>,
) -> Result<Vec<(TenantId, Option<String>, Option<i64>, bool)>> {
    Ok(sqlx::query_as(
        "select a.tenant_id, min(t.plan), max(a.seq), bool_or(a.seq is null)
           from audit_logs a left join tenants t on t.id = a.tenant_id
          where a.id >= uuid_floor($1 - interval '1 month') and a.id < uuid_floor($1)
          group by a.tenant_id",
    )
    .bind(end)
    .fetch_all(&mut **tx)
    .await?)
}

/// Drops a partition but for the entries of `keep`.
pub async fn drop_partition(tx: &mut SystemTx, name: &str, keep: &[TenantId]) -> Result<()> {
    sqlx::query("select drop_audit_partition($1, $2)").bind(name).bind(keep).execute(&mut **tx).await?;
    Ok(())
}
