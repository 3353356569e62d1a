//! What the doors let through, asked of the database itself.

use millwork_shared::infra::ids::TenantId;
use sqlx::{AssertSqlSafe, PgPool};

use super::Ledger;
use crate::stock::fill;

/// Tables without an owner of their own: nothing in them belongs to a tenant.
const SHARED: [&str; 2] = ["workers", "_sqlx_migrations"];

#[tokio::test]
async fn every_table_has_forced_row_security() {
    let ledger = Ledger::create().await;
    let owner = ledger.test.owner().await;
    for table in all(&owner).await {
        let (enabled, forced): (bool, bool) =
            sqlx::query_as("select relrowsecurity, relforcerowsecurity from pg_class where oid = $1::regclass")
                .bind(&table)
                .fetch_one(&owner)
                .await
                .unwrap();
        assert!(enabled && forced, "{table} has no forced row security");
    }
}

/// Every table but those that are [`SHARED`].
async fn all(owner: &PgPool) -> Vec<String> {
    let tables: Vec<String> = sqlx::query_scalar(
        "select relname::text from pg_class
          where relkind in ('r', 'p') and relnamespace = 'public'::regnamespace and not relispartition",
    )
    .fetch_all(owner)
    .await
    .unwrap();
    assert!(tables.len() > 15);
    tables.into_iter().filter(|table| !SHARED.contains(&table.as_str())).collect()
}

#[tokio::test]
async fn without_a_tenant_no_table_shows_or_takes_a_row() {
    let ledger = Ledger::create().await;
    let acme = ledger.test.tenant("acme").await;
    let nobody = TenantId::generate();
    let owner = ledger.test.owner().await;
    fill(&owner, &[acme]).await;
    for table in all(&owner).await {
        let stored: i64 =
            sqlx::query_scalar(AssertSqlSafe(format!("select count(*) from {table}"))).fetch_one(&owner).await.unwrap();
        let select = format!("select count(*) from {table}");
        let own = as_tenant(&owner, Some(acme), &select).await;
        let others = as_tenant(&owner, Some(nobody), &select).await;
        if own != Door::Shut {
            assert!(matches!(own, Door::Open(1..)), "{table}: {own:?} of {stored}: a test without a row tests nothing");
            assert_eq!(others, Door::Open(0), "{table}");
        }
        let column: Option<String> = sqlx::query_scalar(
            "select attname::text from pg_attribute
              where attrelid = $1::regclass and attnum > 0 and not attisdropped
                and has_column_privilege('millwork_tenant', attrelid, attnum, 'update') limit 1",
        )
        .bind(&table)
        .fetch_optional(&owner)
        .await
        .unwrap();
        let update = column.map(|column| {
            format!("with d as (update {table} set {column} = {column} returning 1) select count(*) from d")
        });
        let delete = format!("with d as (delete from {table} returning 1) select count(*) from d");
        for sql in [Some(select), Some(delete), update].into_iter().flatten() {
            let door = as_tenant(&owner, None, &sql).await;
            assert!(matches!(door, Door::Open(0) | Door::Shut), "{sql}: {door:?}");
        }
        let insert = format!("with d as (insert into {table} default values returning 1) select count(*) from d");
        assert_eq!(as_tenant(&owner, None, &insert).await, Door::Shut, "{insert}");
    }
}

/// What a statement meets.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Door {
    Open(i64),
    /// No privilege, or row security.
    Shut,
}

/// Runs a statement as the tenant's role, for a tenant or for none.
async fn as_tenant(owner: &PgPool, tenant: Option<TenantId>, sql: &str) -> Door {
    let setting = tenant.map(|tenant| format!("; set local app.tenant_id = '{tenant}'")).unwrap_or_default();
    let begin = format!("begin; set local role millwork_tenant{setting}");
    let mut tx = owner.begin_with(AssertSqlSafe(begin)).await.unwrap();
    match sqlx::query_scalar::<_, i64>(AssertSqlSafe(sql)).fetch_one(&mut *tx).await {
        Ok(rows) => Door::Open(rows),
        Err(error) => {
            let text = error.to_string();
            assert!(text.contains("permission denied") || text.contains("row-level security"), "{sql}: {text}");
            Door::Shut
        }
    }
}

/// Tables of a tenant whose changes are no audit entries: they are work and its history, or kept for a while only.
const NOT_AUDITED: &[&str] = &[
    "audit_chains",
    "audit_logs",
    "batches",
    "events",
    "idempotency_keys",
    "import_errors",
    "invitation_tokens",
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
    "object_sweep_deeds",
    "object_sweeps",
    "objects",
    "refresh_tokens",
    "storage_usage",
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
