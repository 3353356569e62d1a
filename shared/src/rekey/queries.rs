//! Every statement that seals anew. Tables and columns come from a list in the code, never from outside.

use sqlx::AssertSqlSafe;

use super::Column;
use crate::Result;
use crate::infra::db::{SystemDb, SystemTx};

/// A sealed value and the key of its row.
#[derive(Debug, Clone, sqlx::FromRow)]
pub struct Row {
    pub key: Vec<String>,
    pub sealed: Vec<u8>,
}

impl Column {
    fn keys(&self, write: impl Fn(usize, &str, &str) -> String) -> String {
        let keys = self.key.iter().enumerate().map(|(n, (name, kind))| write(n + 1, name, kind));
        keys.collect::<Vec<_>>().join(", ")
    }

    /// The key that sealed a value is named at its beginning, behind the length of the name.
    fn is_old(&self) -> String {
        let name = self.name;
        format!("{name} is not null and substring({name} from 2 for get_byte({name}, 0)) <> convert_to($1, 'utf8')")
    }
}

/// Begins a transaction that seals anew. That is not a change that a tenant should read of: what was sealed is the
/// same. To look for what is left may take a scan of a large table.
pub async fn begin(system: &SystemDb) -> Result<SystemTx> {
    let mut tx = system.system().await?;
    sqlx::raw_sql("set local app.resealing = 'on'; set local statement_timeout = '10min'").execute(&mut *tx).await?;
    Ok(tx)
}

/// The next rows whose value another key than `first` sealed, by their key.
pub async fn list(
    tx: &mut SystemTx,
    column: &Column,
    first: &str,
    after: Option<&[String]>,
    limit: i64,
) -> Result<Vec<Row>> {
    let (table, sealed, is_old) = (column.table, column.name, column.is_old());
    let names = column.keys(|_, name, _| name.to_owned());
    let texts = column.keys(|_, name, _| format!("{name}::text"));
    let last = column.keys(|n, _, kind| format!("($2::text[])[{n}]::{kind}"));
    let sql = format!(
        "select array[{texts}] as key, {sealed} as sealed from {table}
          where {is_old} and ($2::text[] is null or ({names}) > ({last})) order by {names} limit $3"
    );
    Ok(sqlx::query_as(AssertSqlSafe(sql)).bind(first).bind(after).bind(limit).fetch_all(&mut **tx).await?)
}

/// Puts the new values in place of those that are still as they were read. Answers how many were.
pub async fn replace(tx: &mut SystemTx, column: &Column, rows: &[(Row, Vec<u8>)]) -> Result<u64> {
    let (table, sealed) = (column.table, column.name);
    let keys: Vec<Vec<&str>> =
        (0..column.key.len()).map(|n| rows.iter().map(|(row, _)| row.key[n].as_str()).collect()).collect();
    let arrays = column.keys(|n, _, kind| format!("${}::{kind}[]", n + 1));
    let names = column.keys(|n, _, _| format!("k{n}"));
    let same = column.keys(|n, name, _| format!("t.{name} = u.k{n}")).replace(", ", " and ");
    let sql = format!(
        "update {table} t set {sealed} = u.fresh
           from unnest($1::bytea[], {arrays}, ${}::bytea[]) as u(known, {names}, fresh)
          where {same} and t.{sealed} = u.known",
        column.key.len() + 2
    );
    let mut query =
        sqlx::query(AssertSqlSafe(sql)).bind(rows.iter().map(|(row, _)| &row.sealed[..]).collect::<Vec<_>>());
    for ((_, kind), texts) in column.key.iter().zip(keys) {
        query = match *kind {
            "uuid" => {
                query.bind(texts.iter().map(|text| text.parse().unwrap_or_default()).collect::<Vec<uuid::Uuid>>())
            }
            _ => query.bind(texts.into_iter().map(str::to_owned).collect::<Vec<_>>()),
        };
    }
    let fresh = rows.iter().map(|(_, fresh)| &fresh[..]).collect::<Vec<_>>();
    Ok(query.bind(fresh).execute(&mut **tx).await?.rows_affected())
}

/// How many values another key than `first` sealed.
pub async fn count(tx: &mut SystemTx, column: &Column, first: &str) -> Result<i64> {
    let sql = format!("select count(*) from {} where {}", column.table, column.is_old());
    Ok(sqlx::query_scalar(AssertSqlSafe(sql)).bind(first).fetch_one(&mut **tx).await?)
}
