//! Another master key, while everything goes on.

use std::collections::BTreeSet;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use millwork_shared::infra::crypto::KeyRing;
use millwork_shared::infra::ids::{TenantId, UserId};
use millwork_shared::rekey::{COLUMNS, Column, Tally, queries, reseal};
use sqlx::{AssertSqlSafe, PgPool};
use uuid::Uuid;

use super::Ledger;

/// Columns of bytes that nothing is sealed in: hashes, salts, public keys.
const NOT_SEALED: [&str; 18] = [
    "file_versions.claimed_sha256",
    "objects.sha256",
    "api_keys.secret_hash",
    "audit_logs.hash",
    "audit_logs.prev_hash",
    "idempotency_keys.body_hash",
    "invitation_tokens.token_hash",
    "oauth_codes.challenge",
    "oauth_codes.code_hash",
    "oauth_states.state_hash",
    "one_time_tokens.token_hash",
    "recovery_codes.code_hash",
    "refresh_tokens.salt",
    "refresh_tokens.token_hash",
    "signing_keys.public_key",
    "staff.invite_hash",
    "staff_sessions.token_hash",
    "_sqlx_migrations.checksum",
];

fn ring(ids: &[(&str, u8)]) -> KeyRing {
    let text: Vec<_> = ids.iter().map(|(id, byte)| format!("{id}:{}", STANDARD.encode([*byte; 32]))).collect();
    KeyRing::parse(&text.join(",")).unwrap()
}

fn old() -> KeyRing {
    ring(&[("old", 1)])
}

fn both() -> KeyRing {
    ring(&[("new", 2), ("old", 1)])
}

fn new() -> KeyRing {
    ring(&[("new", 2)])
}

#[tokio::test]
async fn every_column_of_bytes_is_sealed_anew_or_known_to_hold_no_secret() {
    let ledger = Ledger::create().await;
    let bytes: Vec<String> = sqlx::query_scalar(
        "select c.relname || '.' || a.attname from pg_class c join pg_attribute a on a.attrelid = c.oid
          where c.relkind in ('r', 'p') and not c.relispartition and c.relnamespace = 'public'::regnamespace
            and not a.attisdropped and a.attname <> 'sealed_at'
            and (a.atttypid = 'bytea'::regtype or a.attname like '%sealed\\_%')",
    )
    .fetch_all(&ledger.test.owner().await)
    .await
    .unwrap();
    let sealed = COLUMNS.iter().map(|column| format!("{}.{}", column.table, column.name));
    let known: BTreeSet<String> = sealed.chain(NOT_SEALED.map(str::to_owned)).collect();
    let found: BTreeSet<String> = bytes.into_iter().collect();
    assert_eq!(found, known, "name a new sealed column in shared/src/rekey, and one of hashes here");
}

/// Rows of every kind, all sealed by `ring`.
async fn fill(ledger: &Ledger, owner: &PgPool, ring: &KeyRing, rows: usize) {
    for n in 0..rows {
        let (tenant, user, id) = (TenantId::generate(), UserId::generate(), Uuid::new_v4());
        let make = format!(
            "insert into tenants (id, name) values ('{tenant}', 'x');
             insert into users (id, email, name, password_hash) values ('{user}', 'u{n}-{id}@x.example', 'x', 'x');
             insert into webhooks (id, tenant_id, url, event_types, sealed_secret, sealed_old_secret, sealed_headers)
                 values ('{id}', '{tenant}', 'https://x.example', '{{*}}', '', '', null);
             insert into totp_factors (user_id, sealed_secret) values ('{user}', '');
             insert into signing_keys (id, public_key, sealed_private) values ('{id}', '', '');
             insert into staff (id, email, name, sealed_secret) values ('{id}', 's{n}-{id}@x.example', 'x', '');
             insert into audit_chains (tenant_id, seq, sealed) values ('{tenant}', 0, '');
             insert into idempotency_keys (tenant_id, route, key, body_hash, status, headers, sealed_body)
                 values ('{tenant}', 'POST /x, \"y\"', 'k{n}', '', 200, '{{}}', '');
             insert into personal_answers (scope, sealed_answer) values ('bearer/{id}', '')"
        );
        sqlx::raw_sql(AssertSqlSafe(make)).execute(owner).await.unwrap();
    }
    for column in &COLUMNS {
        for row in all(owner, column).await {
            put(
                ledger,
                column,
                &row.key,
                &ring.seal(&(column.context)(&row.key).unwrap(), plain(&row.key).as_bytes()).unwrap(),
            )
            .await;
        }
    }
}

fn plain(key: &[String]) -> String {
    format!("the secret of {}", key.join(" "))
}

/// Every row of a column; of a column that may be null those too that are.
async fn all(owner: &PgPool, column: &Column) -> Vec<queries::Row> {
    let names: Vec<_> = column.key.iter().map(|(name, _)| format!("{name}::text")).collect();
    let sql = format!(
        "select array[{}] as key, coalesce({}, '') as sealed from {}",
        names.join(", "),
        column.name,
        column.table
    );
    sqlx::query_as(AssertSqlSafe(sql)).fetch_all(owner).await.unwrap()
}

async fn put(ledger: &Ledger, column: &Column, key: &[String], sealed: &[u8]) {
    let same: Vec<_> =
        column.key.iter().zip(key).map(|((name, _), value)| format!("{name}::text = '{value}'")).collect();
    let sql = format!("update {} set {} = $1 where {}", column.table, column.name, same.join(" and "));
    let owner = ledger.test.owner().await;
    assert_eq!(sqlx::query(AssertSqlSafe(sql)).bind(sealed).execute(&owner).await.unwrap().rows_affected(), 1);
}

async fn assert_opens(owner: &PgPool, ring: &KeyRing) {
    for column in &COLUMNS {
        let rows = all(owner, column).await;
        assert!(!rows.is_empty());
        for row in rows {
            let opened = ring.open(&(column.context)(&row.key).unwrap(), &row.sealed);
            assert_eq!(opened.unwrap(), plain(&row.key).into_bytes(), "{}.{}", column.table, column.name);
        }
    }
}

#[tokio::test]
async fn everything_is_sealed_anew_in_chunks_and_a_second_run_finds_nothing() {
    let ledger = Ledger::create().await;
    let owner = ledger.test.owner().await;
    fill(&ledger, &owner, &old(), 5).await;
    let told = "select count(*) from audit_logs where action = 'webhook.updated'";
    let entries: i64 = sqlx::query_scalar(told).fetch_one(&owner).await.unwrap();
    for column in &COLUMNS {
        let tally = reseal(&ledger.system, &both(), column, 2).await.unwrap();
        assert_eq!(tally, Tally { resealed: 5, ..Tally::default() }, "{}.{}", column.table, column.name);
    }
    assert_opens(&owner, &new()).await;
    for column in &COLUMNS {
        assert_eq!(reseal(&ledger.system, &both(), column, 2).await.unwrap(), Tally::default());
    }
    assert_eq!(sqlx::query_scalar::<_, i64>(told).fetch_one(&owner).await.unwrap(), entries, "no tenant reads of it");
    sqlx::raw_sql("update webhooks set url = 'https://y.example'").execute(&owner).await.unwrap();
    let all: i64 = sqlx::query_scalar(told).fetch_one(&owner).await.unwrap();
    assert_eq!(all, entries + 5, "but of all else");
}

#[tokio::test]
async fn what_cannot_be_opened_is_named_and_does_not_stop_the_rest() {
    let ledger = Ledger::create().await;
    let owner = ledger.test.owner().await;
    fill(&ledger, &owner, &old(), 3).await;
    let column = &COLUMNS[0];
    let rows = all(&owner, column).await;
    let lost = ring(&[("lost", 9)]).seal(&(column.context)(&rows[0].key).unwrap(), b"x").unwrap();
    put(&ledger, column, &rows[0].key, &lost).await;
    put(&ledger, column, &rows[1].key, &rows[0].sealed).await; // moved from another row
    let tally = reseal(&ledger.system, &both(), column, 1).await.unwrap();
    assert_eq!((tally.resealed, tally.unopened, tally.left), (1, 2, 2));
    assert!(tally.faults.iter().any(|fault| fault.contains("key `lost`, which MASTER_KEYS lacks")), "{tally:?}");
    assert!(tally.faults.iter().any(|fault| fault.contains("is damaged")), "{tally:?}");
}

#[tokio::test]
async fn a_value_that_is_changed_meanwhile_stays_as_it_was_changed() {
    let ledger = Ledger::create().await;
    let owner = ledger.test.owner().await;
    fill(&ledger, &owner, &old(), 2).await;
    let column = &COLUMNS[0];
    let mut tx = queries::begin(&ledger.system).await.unwrap();
    let rows = queries::list(&mut tx, column, "new", None, 10).await.unwrap();
    assert_eq!(rows.len(), 2);
    let fresh = both().seal(&(column.context)(&rows[0].key).unwrap(), b"rotated").unwrap();
    put(&ledger, column, &rows[0].key, &fresh).await; // by another connection, after it was read
    let pairs: Vec<_> = rows.iter().cloned().map(|row| (row, b"stale".to_vec())).collect();
    assert_eq!(queries::replace(&mut tx, column, &pairs).await.unwrap(), 1);
    tx.commit().await.unwrap();
    let now = all(&owner, column).await;
    assert!(now.iter().any(|row| row.key == rows[0].key && row.sealed == fresh));
}

#[tokio::test]
async fn a_tenant_cannot_hide_a_change_by_calling_it_a_seal() {
    let ledger = Ledger::create().await;
    let owner = ledger.test.owner().await;
    fill(&ledger, &owner, &old(), 1).await;
    let told = "select count(*) from audit_logs
                 where action = 'webhook.updated' and after ->> 'sealed_secret' like '%changed%'";
    let before: i64 = sqlx::query_scalar(told).fetch_one(&owner).await.unwrap();
    let tenant: Uuid = sqlx::query_scalar("select tenant_id from webhooks").fetch_one(&owner).await.unwrap();
    let mut tx = ledger.test.db.tenant(TenantId(tenant)).await.unwrap();
    sqlx::raw_sql("set local app.resealing = 'on'; update webhooks set sealed_secret = 'forged'")
        .execute(&mut *tx)
        .await
        .unwrap();
    tx.commit().await.unwrap();
    assert_eq!(sqlx::query_scalar::<_, i64>(told).fetch_one(&owner).await.unwrap(), before + 1);
}
