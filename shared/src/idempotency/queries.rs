//! Every statement on `idempotency_keys` and `personal_answers`.

use std::collections::{BTreeMap, HashSet};

use sqlx::PgConnection;

use super::IdempotencyRecord;
use super::personal::{PersonalAnswer, PersonalTx, Scope};
use crate::infra::crypto::KeyRing;
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
    match row {
        Row {
            body_hash: Some(hash), status: Some(status), headers: Some(headers), sealed_body: Some(body), ..
        } => Ok(Some(IdempotencyRecord {
            tenant,
            route: route.to_owned(),
            key: key.to_owned(),
            body_hash: hash.try_into().map_err(|_| anyhow::anyhow!("a stored body hash is not 32 bytes"))?,
            status: u16::try_from(status).unwrap_or(200),
            headers,
            sealed_body: body,
        })),
        Row { locked: true, .. } => Ok(None),
        _ => Err(in_progress()),
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

/// Keeps the answers of many keys at once, as [`store`] does. Says of each whether it was known already: stored before,
/// or given twice in `records`. An absent record is never known.
pub async fn store_many(conn: &mut PgConnection, records: &[Option<IdempotencyRecord>]) -> Result<Vec<bool>> {
    type Key<'a> = (TenantId, &'a str, &'a str);
    fn key(record: &IdempotencyRecord) -> Key<'_> {
        (record.tenant, &record.route, &record.key)
    }
    let mut distinct: BTreeMap<Key<'_>, usize> = BTreeMap::new(); // in order, so that batches cannot deadlock
    for (n, record) in records.iter().enumerate() {
        if let Some(record) = record {
            distinct.entry(key(record)).or_insert(n);
        }
    }
    let mut known = vec![false; records.len()];
    if distinct.is_empty() {
        return Ok(known);
    }
    let chosen: Vec<&IdempotencyRecord> = distinct.values().filter_map(|&n| records[n].as_ref()).collect();
    let fresh: Vec<(TenantId, String, String)> = sqlx::query_as(
        "insert into idempotency_keys as k (tenant_id, route, key, body_hash, status, headers, sealed_body)
         select * from unnest($1::uuid[], $2::text[], $3::text[], $4::bytea[], $5::int2[], $6::text[], $7::bytea[])
         on conflict (tenant_id, route, key) do update
            set body_hash = excluded.body_hash, status = excluded.status, headers = excluded.headers,
                sealed_body = excluded.sealed_body, created_at = excluded.created_at
          where k.created_at <= ledger_now() - interval '24 hours'
         returning tenant_id, route, key",
    )
    .bind(chosen.iter().map(|r| r.tenant).collect::<Vec<_>>())
    .bind(chosen.iter().map(|r| r.route.as_str()).collect::<Vec<_>>())
    .bind(chosen.iter().map(|r| r.key.as_str()).collect::<Vec<_>>())
    .bind(chosen.iter().map(|r| &r.body_hash[..]).collect::<Vec<_>>())
    .bind(chosen.iter().map(|r| i16::try_from(r.status).unwrap_or(200)).collect::<Vec<_>>())
    .bind(chosen.iter().map(|r| r.headers.as_str()).collect::<Vec<_>>())
    .bind(chosen.iter().map(|r| &r.sealed_body[..]).collect::<Vec<_>>())
    .fetch_all(conn)
    .await?;
    let fresh: HashSet<Key<'_>> = fresh.iter().map(|(tenant, route, key)| (*tenant, &**route, &**key)).collect();
    for (n, record) in records.iter().enumerate() {
        if let Some(record) = record {
            known[n] = !fresh.contains(&key(record)) || distinct.get(&key(record)) != Some(&n);
        }
    }
    Ok(known)
}

/// The answer that the key of `like` has.
pub async fn get(conn: &mut PgConnection, like: &IdempotencyRecord) -> Result<IdempotencyRecord> {
    let (hash, status, headers, sealed_body): (Vec<u8>, i16, String, Vec<u8>) = sqlx::query_as(
        "select body_hash, status, headers, sealed_body from idempotency_keys
          where tenant_id = $1 and route = $2 and key = $3",
    )
    .bind(like.tenant)
    .bind(&like.route)
    .bind(&like.key)
    .fetch_one(conn)
    .await?;
    Ok(IdempotencyRecord {
        tenant: like.tenant,
        route: like.route.clone(),
        key: like.key.clone(),
        body_hash: hash.try_into().map_err(|_| anyhow::anyhow!("a stored body hash is not 32 bytes"))?,
        status: u16::try_from(status).unwrap_or(200),
        headers,
        sealed_body,
    })
}

/// Takes back a record of this transaction: the work it answers was refused.
pub async fn forget(conn: &mut PgConnection, record: &IdempotencyRecord) -> Result<()> {
    sqlx::query("delete from idempotency_keys where tenant_id = $1 and route = $2 and key = $3")
        .bind(record.tenant)
        .bind(&record.route)
        .bind(&record.key)
        .execute(conn)
        .await?;
    Ok(())
}

/// Claims a key of one asker for the rest of this transaction, as [`claim`] does, or finds its answer.
///
/// # Errors
/// `idempotency_in_progress` while another transaction holds the claim.
pub async fn claim_personal<Tx: PersonalTx>(
    tx: &mut Tx,
    keys: &KeyRing,
    scope: &Scope,
) -> Result<Option<PersonalAnswer>> {
    let (locked, sealed): (bool, Option<Vec<u8>>) = sqlx::query_as(
        "select l.locked, a.sealed_answer
           from (select pg_try_advisory_xact_lock(hashtextextended('personal ' || $1, 0)) as locked) l
           left join personal_answers a on a.scope = $1 and a.created_at > ledger_now() - interval '24 hours'",
    )
    .bind(scope.as_str())
    .fetch_one(&mut **tx)
    .await?;
    match sealed {
        Some(sealed) => PersonalAnswer::open(keys, scope, &sealed).map(Some),
        None if locked => Ok(None),
        None => Err(in_progress()),
    }
}

/// Keeps the answer of a claimed key of one asker, as [`store`] does.
///
/// # Errors
/// `idempotency_in_progress` when the key was answered meanwhile; the caller's work must then be rolled back.
pub async fn store_personal<Tx: PersonalTx>(
    tx: &mut Tx,
    keys: &KeyRing,
    scope: &Scope,
    answer: &PersonalAnswer,
) -> Result<()> {
    let stored = sqlx::query(
        "insert into personal_answers as a (scope, sealed_answer) values ($1, $2)
         on conflict (scope) do update set sealed_answer = excluded.sealed_answer, created_at = excluded.created_at
          where a.created_at <= ledger_now() - interval '24 hours'",
    )
    .bind(scope.as_str())
    .bind(answer.seal(keys, scope)?)
    .execute(&mut **tx)
    .await?;
    if stored.rows_affected() == 1 { Ok(()) } else { Err(in_progress()) }
}

fn in_progress() -> Error {
    Error::conflict(
        "idempotency_in_progress",
        "a request with this Idempotency-Key is still running; ask again in a moment",
    )
}
