//! A row of every table for a tenant, whatever its columns.

use millwork_shared::infra::ids::TenantId;
use sqlx::{AssertSqlSafe, PgConnection, PgPool};

/// Tables that hold rows of a tenant, parents of partitions for their children.
pub async fn tables(owner: &PgPool) -> Vec<String> {
    sqlx::query_scalar(
        "select c.relname::text from pg_class c
          where c.relkind in ('r', 'p') and not c.relispartition and c.relnamespace = 'public'::regnamespace
            and exists (select from pg_attribute a where a.attrelid = c.oid and a.attname = 'tenant_id')
          order by 1",
    )
    .fetch_all(owner)
    .await
    .unwrap()
}

/// Stores a row in every table that has tenants' rows, and one of a person, for each tenant: everything that names
/// something in it is the tenant's own id. Checks are dropped for good, foreign keys until the rows are there.
pub async fn fill(owner: &PgPool, tenants: &[TenantId]) {
    let mut conn = owner.acquire().await.unwrap();
    let needed: Vec<(String, Vec<String>, Vec<String>)> = sqlx::query_as(
        "select c.relname::text, array_agg(a.attname::text), array_agg(format_type(a.atttypid, a.atttypmod))
           from pg_class c join pg_attribute a on a.attrelid = c.oid
          where (c.relname = any ($1) or c.relname = 'users') and c.relnamespace = 'public'::regnamespace
            and a.attnum > 0 and not a.attisdropped
            and (a.attnotnull or exists (select from pg_constraint f where f.conrelid = c.oid and f.contype = 'f'
                                            and a.attnum = any (f.conkey)))
          group by 1",
    )
    .bind(tables(owner).await)
    .fetch_all(&mut *conn)
    .await
    .unwrap();
    let constraints: Vec<(String, String, bool, String)> = sqlx::query_as(
        "select conrelid::regclass::text, conname::text, contype = 'f', pg_get_constraintdef(oid) from pg_constraint
          where contype in ('c', 'f') and connamespace = 'public'::regnamespace and conparentid = 0 and conislocal",
    )
    .fetch_all(&mut *conn)
    .await
    .unwrap();
    for (table, name, ..) in &constraints {
        run(&mut conn, format!("alter table {table} drop constraint {name}")).await;
    }
    for (nth, &tenant) in tenants.iter().enumerate() {
        for (table, names, types) in &needed {
            let values: Vec<String> = types.iter().map(|of| value(of, tenant, nth)).collect();
            run(&mut conn, format!("insert into {table} ({}) values ({})", names.join(", "), values.join(", "))).await;
        }
    }
    for (table, name, _, definition) in constraints.iter().filter(|(_, _, is_key, _)| *is_key) {
        run(&mut conn, format!("alter table {table} add constraint {name} {definition}")).await;
    }
}

/// A value of a type, another one for another tenant where the type has many.
fn value(of: &str, tenant: TenantId, nth: usize) -> String {
    match of {
        "uuid" => format!("'{tenant}'"),
        "text" => format!("'{tenant}'"),
        "bytea" => format!("'{tenant}'::text::bytea"),
        "boolean" => "false".to_owned(),
        "date" => "current_date".to_owned(),
        "smallint" | "integer" | "bigint" | "numeric" | "double precision" | "real" => (nth + 1).to_string(),
        "job_end" => "'failed'".to_owned(),
        "json" | "jsonb" => "'{}'".to_owned(),
        "inet" | "cidr" => "'127.0.0.1'".to_owned(),
        array if array.ends_with("[]") => "'{}'".to_owned(),
        time if time.starts_with("timestamp") => "now()".to_owned(),
        other => panic!("say in shared/tests/it/stock.rs what a value of type {other} is"),
    }
}

async fn run(conn: &mut PgConnection, sql: String) {
    let done = sqlx::raw_sql(AssertSqlSafe(sql.clone())).execute(conn).await;
    done.unwrap_or_else(|error| panic!("{sql}: {error}"));
}
