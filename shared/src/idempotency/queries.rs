//! Every statement on `idempotency_keys`.

use sqlx::PgConnection;

use super::IdempotencyRecord;
use crate::infra::db::TenantTx;
use crate::infra::ids::TenantId;
use crate::{Error, Result};

#[derive(sqlx::FromRow)]
struct Row {
    locked: bool,
    body_hash: Option<Vec<u8>>,
    status: Option<i16>,
    headers: Option<String>,
    sealed_body: Option<Vec<u8>>,
}

/// Claims `key` for the rest of this transaction, or finds the answer that it already has.
///
/// The claim is an advisory lock, so that another request with the key is told at once and nothing is written before
/// the answer is known. Should the first request commit between this statement's snapshot and its lock, [`store`]
/// meets its row and refuses.
///
/// # Errors
/// `idempotency_in_progress` while another transaction holds the claim.
pub async fn claim(tx: &mut TenantTx, route: &str, key: &str) -> Result<Option<IdempotencyRecord>> {
    let tenant = tx.tenant();
    let row: Row = sqlx::query_as(
        "select l.locked, k.body_hash, k.status, k.headers, k.sealed_body
           from (select pg_try_advisory_xact_lock(hashtextextended($1::text || ' ' || $2 || ' ' || $3, 0)) as locked) l
           left join idempotency_keys k
             on k.tenant_id = $1 and k.route = $2 and k.key = $3 and k.created_at > ledger_now() - interval '24 hours'",
    )
    .bind(tenant)
    .bind(route)
    .bind(key)
    .fetch_one(&mut **tx)
    .await?;
    let locked = row.locked;
    match row.into_record(tenant, route, key)? {
        Some(record) => Ok(Some(record)),
        None if locked => Ok(None),
        None => Err(in_progress()),
    }
}

/// Keeps the answer of a claimed key, in the transaction of the work itself. A key older than a day is taken over.
///
/// # Errors
/// `idempotency_in_progress` when the key was answered meanwhile; the caller's work must then be rolled back.
pub async fn store(tx: &mut PgConnection, record: &IdempotencyRecord) -> Result<()> {
    let stored = sqlx::query(
        "insert into idempotency_keys as k (tenant_id, route, key, body_hash, status, headers, sealed_body)
         values ($1, $2, $3, $4, $5, $6, $7)
         on conflict (tenant_id, route, key) do update
            set body_hash = excluded.body_hash, status = excluded.status, headers = excluded.headers,
                sealed_body = excluded.sealed_body, created_at = excluded.created_at
          where k.created_at <= ledger_now() - interval '24 hours'",
    )
    .bind(record.tenant)
    .bind(&record.route)
    .bind(&record.key)
    .bind(&record.body_hash[..])
    .bind(i16::try_from(record.status).unwrap_or(200))
    .bind(&record.headers)
    .bind(&record.sealed_body)
    .execute(tx)
    .await?;
    if stored.rows_affected() == 1 { Ok(()) } else { Err(in_progress()) }
}

/// What a key of a batch stands for.
#[derive(Debug)]
pub enum Claimed {
    /// Nothing yet, and this transaction holds it.
    Free,
    Answered(IdempotencyRecord),
    /// Another transaction holds it.
    InProgress,
}

/// Claims keys, each by tenant, route and key, for the rest of this transaction; see [`claim`]. Answers in their order.
pub async fn claim_all(conn: &mut PgConnection, keys: &[(TenantId, &str, &str)]) -> Result<Vec<Claimed>> {
    if keys.is_empty() {
        return Ok(Vec::new());
    }
    let tenants: Vec<TenantId> = keys.iter().map(|key| key.0).collect();
    let routes: Vec<&str> = keys.iter().map(|key| key.1).collect();
    let names: Vec<&str> = keys.iter().map(|key| key.2).collect();
    let rows: Vec<Row> = sqlx::query_as(
        "select l.locked, k.body_hash, k.status, k.headers, k.sealed_body
           from (select u.*, pg_try_advisory_xact_lock(
                                 hashtextextended(u.tenant_id::text || ' ' || u.route || ' ' || u.key, 0)) as locked
                   from unnest($1::uuid[], $2::text[], $3::text[]) with ordinality u(tenant_id, route, key, n)) l
           left join idempotency_keys k
             on k.tenant_id = l.tenant_id and k.route = l.route and k.key = l.key
                and k.created_at > ledger_now() - interval '24 hours'
          order by l.n",
    )
    .bind(tenants)
    .bind(routes)
    .bind(names)
    .fetch_all(conn)
    .await?;
    let claimed = keys.iter().zip(rows).map(|(&(tenant, route, key), row)| {
        let locked = row.locked;
        Ok(match row.into_record(tenant, route, key)? {
            Some(record) => Claimed::Answered(record),
            None if locked => Claimed::Free,
            None => Claimed::InProgress,
        })
    });
    claimed.collect()
}

/// Keeps the answers of claimed keys, as [`store`] does. Fewer than given when some were answered meanwhile; the work
/// must then be rolled back. No key may appear twice.
pub async fn store_all(conn: &mut PgConnection, records: &[IdempotencyRecord]) -> Result<u64> {
    if records.is_empty() {
        return Ok(0);
    }
    let mut records: Vec<&IdempotencyRecord> = records.iter().collect();
    records.sort_unstable_by_key(|r| (r.tenant, r.route.as_str(), r.key.as_str()));
    let stored = sqlx::query(
        "insert into idempotency_keys as k (tenant_id, route, key, body_hash, status, headers, sealed_body)
         select * from unnest($1::uuid[], $2::text[], $3::text[], $4::bytea[], $5::int2[], $6::text[], $7::bytea[])
         on conflict (tenant_id, route, key) do update
            set body_hash = excluded.body_hash, status = excluded.status, headers = excluded.headers,
                sealed_body = excluded.sealed_body, created_at = excluded.created_at
          where k.created_at <= ledger_now() - interval '24 hours'",
    )
    .bind(records.iter().map(|r| r.tenant).collect::<Vec<_>>())
    .bind(records.iter().map(|r| r.route.as_str()).collect::<Vec<_>>())
    .bind(records.iter().map(|r| r.key.as_str()).collect::<Vec<_>>())
    .bind(records.iter().map(|r| &r.body_hash[..]).collect::<Vec<_>>())
    .bind(records.iter().map(|r| i16::try_from(r.status).unwrap_or(200)).collect::<Vec<_>>())
    .bind(records.iter().map(|r| r.headers.as_str()).collect::<Vec<_>>())
    .bind(records.iter().map(|r| &r.sealed_body[..]).collect::<Vec<_>>())
    .execute(conn)
    .await?;
    Ok(stored.rows_affected())
}

impl Row {
    fn into_record(self, tenant: TenantId, route: &str, key: &str) -> Result<Option<IdempotencyRecord>> {
        let (Some(hash), Some(status), Some(headers), Some(sealed_body)) =
            (self.body_hash, self.status, self.headers, self.sealed_body)
        else {
            return Ok(None);
        };
        Ok(Some(IdempotencyRecord {
            tenant,
            route: route.to_owned(),
            key: key.to_owned(),
            body_hash: hash.try_into().map_err(|_| anyhow::anyhow!("a stored body hash is not 32 bytes"))?,
            status: u16::try_from(status).unwrap_or(200),
            headers,
            sealed_body,
        }))
    }
}

fn in_progress() -> Error {
    Error::conflict(
        "idempotency_in_progress",
        "a request with this Idempotency-Key is still running; ask again in a moment",
    )
}
