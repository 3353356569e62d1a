//! What the doors let through, asked of the database itself.

use sqlx::AssertSqlSafe;

use super::Ledger;

/// Tables without an owner of their own: nothing in them belongs to a tenant.
const SHARED: [&str; 2] = ["workers", "_sqlx_migrations"];

#[tokio::test]
async fn without_a_tenant_no_table_shows_or_takes_a_row() {
    let ledger = Ledger::create().await;
    ledger.store(&[ledger.job()]).await;
    let owner = ledger.test.owner().await;
    let tables: Vec<String> =
        sqlx::query_scalar("select relname::text from pg_class where relkind in ('r', 'p') and relnamespace = 'public'::regnamespace and not relispartition")
            .fetch_all(&owner)
            .await
            .unwrap();
    assert!(tables.len() > 15);
    for table in tables.iter().filter(|t| !SHARED.contains(&t.as_str())) {
        let (enabled, forced): (bool, bool) =
            sqlx::query_as("select relrowsecurity, relforcerowsecurity from pg_class where oid = $1::regclass")
                .bind(table)
                .fetch_one(&owner)
                .await
                .unwrap();
        assert!(enabled && forced, "{table} has no forced row security");
        for sql in [
            format!("select count(*) from {table}"),
            format!("with d as (delete from {table} returning 1) select count(*) from d"),
        ] {
            let mut tx = owner.begin_with("begin; set local role millwork_tenant").await.unwrap();
            match sqlx::query_scalar::<_, i64>(AssertSqlSafe(sql.clone())).fetch_one(&mut *tx).await {
                Ok(rows) => assert_eq!(rows, 0, "{sql}"),
                Err(error) => assert!(error.to_string().contains("permission denied"), "{sql}: {error}"),
            }
        }
    }
}

/// Tables of a tenant whose changes are no audit entries: they are work and its history, or kept for a while only.
const NOT_AUDITED: [&str; 21] = [
    "audit_chains",
    "audit_logs",
    "batches",
    "events",
    "idempotency_keys",
    "job_attempts",
    "job_bulk",
    "job_cancels",
    "job_ends",
    "job_followers",
    "job_links",
    "job_live",
    "job_outcomes",
    "job_progress",
    "job_stats",
    "job_unique",
    "job_waits",
    "jobs",
    "refresh_tokens",
    "usage",
    "webhook_deliveries",
];

#[tokio::test]
async fn changes_of_every_table_of_a_tenant_are_written_down_or_known_not_to_be() {
    let ledger = Ledger::create().await;
    let silent: Vec<String> = sqlx::query_scalar(
        "select c.relname::text from pg_class c join pg_attribute a on a.attrelid = c.oid and a.attname = 'tenant_id'
          where c.relkind in ('r', 'p') and not c.relispartition and c.relnamespace = 'public'::regnamespace
            and not exists (select from pg_trigger t where t.tgrelid = c.oid and t.tgname like 'audit%') order by 1",
    )
    .fetch_all(&ledger.test.owner().await)
    .await
    .unwrap();
    let unknown: Vec<_> = silent.iter().filter(|table| !NOT_AUDITED.contains(&table.as_str())).collect();
    assert!(unknown.is_empty(), "{unknown:?}: `call audit_table(…)` in their migration, or name them here");
}

#[tokio::test]
async fn one_tenant_neither_sees_nor_makes_rows_of_another() {
    let ledger = Ledger::create().await;
    let job = ledger.job();
    ledger.store(std::slice::from_ref(&job)).await;
    let other = ledger.test.tenant("other").await;
    let mut tx = ledger.test.db.tenant(other).await.unwrap();
    assert!(millwork_shared::jobs::queries::find(&mut tx, job.id).await.unwrap().is_none());
    let forged = millwork_shared::jobs::queries::enqueue(&mut tx, &[ledger.job()]).await.unwrap_err();
    assert!(forged.to_string().contains("row-level security"), "{forged}");
}
