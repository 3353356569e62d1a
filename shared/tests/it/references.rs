//! Rows refer to rows of their own tenant alone: the database sees to it.

use sqlx::{AssertSqlSafe, PgPool};

use super::Ledger;
use crate::stock::fill;

/// A foreign key between two tables of tenants' rows.
#[derive(Debug, sqlx::FromRow)]
struct Reference {
    name: String,
    child: String,
    parent: String,
    /// In the order of [`to`](Self::to).
    from: Vec<String>,
    to: Vec<String>,
}

async fn references(owner: &PgPool) -> Vec<Reference> {
    sqlx::query_as(
        r#"select f.conname::text as name, f.conrelid::regclass::text as child, f.confrelid::regclass::text as parent,
                  array(select a.attname::text from unnest(f.conkey) with ordinality k(n, o)
                          join pg_attribute a on a.attrelid = f.conrelid and a.attnum = k.n order by k.o) as "from",
                  array(select a.attname::text from unnest(f.confkey) with ordinality k(n, o)
                          join pg_attribute a on a.attrelid = f.confrelid and a.attnum = k.n order by k.o) as "to"
             from pg_constraint f
            where f.contype = 'f' and f.conparentid = 0 and f.connamespace = 'public'::regnamespace
              and exists (select from pg_attribute a where a.attrelid = f.conrelid and a.attname = 'tenant_id')
              and exists (select from pg_attribute a where a.attrelid = f.confrelid and a.attname = 'tenant_id')
            order by 1"#,
    )
    .fetch_all(owner)
    .await
    .unwrap()
}

#[tokio::test]
async fn every_key_between_tables_of_tenants_has_the_tenant_in_it() {
    let ledger = Ledger::create().await;
    let references = references(&ledger.test.owner().await).await;
    assert!(references.len() > 5, "{references:?}");
    for reference in &references {
        let pair = reference.from.iter().zip(&reference.to).any(|(a, b)| a == "tenant_id" && b == "tenant_id");
        assert!(pair, "{reference:?}: a row could refer to another tenant's");
    }
}

#[tokio::test]
async fn no_row_can_be_made_to_refer_to_another_tenants() {
    let ledger = Ledger::create().await;
    let (acme, other) = (ledger.test.tenant("acme").await, ledger.test.tenant("other").await);
    let owner = ledger.test.owner().await;
    fill(&owner, &[acme, other]).await;
    for reference in references(&owner).await {
        let Reference { name, child, parent, from, to } = &reference;
        let columns: Vec<_> = from.iter().zip(to).filter(|(from, _)| *from != "tenant_id").collect();
        assert!(!columns.is_empty(), "{reference:?}");
        let set = |tenant| {
            let sets: Vec<String> = columns
                .iter()
                .map(|(from, to)| format!("{from} = (select {to} from {parent} where tenant_id = '{tenant}')"))
                .collect();
            format!("update {child} set {} where tenant_id = '{other}'", sets.join(", "))
        };
        let own = sqlx::raw_sql(AssertSqlSafe(set(other))).execute(&owner).await;
        assert_eq!(own.unwrap().rows_affected(), 1, "{name}: to a row of the same tenant it can refer");
        let error = sqlx::raw_sql(AssertSqlSafe(set(acme))).execute(&owner).await.unwrap_err();
        let error = error.into_database_error().unwrap();
        assert!(error.is_foreign_key_violation(), "{name}: {error}");
    }
}
