//! Finished jobs that nobody ran: put straight into the ledger's tables, as if the last day had brought them.

use std::time::Duration;

use anyhow::{Context, Result};

use super::site::payload;
use super::tenant;
use crate::services::psql::Psql;
use crate::{interrupt, terminal};

/// Rows of one statement.
const CHUNK: u64 = 200_000;
const TENANTS: usize = 20;
const SPEAK_EVERY: u64 = 1_000_000;
/// The tables that finished jobs fill.
const TABLES: [&str; 2] = ["jobs", "job_outcomes"];

/// What the rows of a table take, partitions and all, in bytes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Size {
    pub table: &'static str,
    pub heap: f64,
    pub indexes: f64,
}

/// Adds `rows` finished jobs of twenty tenants. Their ids are spread evenly over the last 24 hours, in their order, so that
/// they lie in the partitions of yesterday and of today, which new jobs go to as well.
pub fn fill(psql: &mut Psql, rows: u64) -> Result<()> {
    if rows == 0 {
        return Ok(());
    }
    let keys = tenant::add(psql, TENANTS)?;
    fill_for(psql, rows, &keys)
}

/// [`fill`] for the tenants of these keys, who take turns.
pub fn fill_for(psql: &mut Psql, rows: u64, keys: &[String]) -> Result<()> {
    let tenants = keys.iter().map(|key| format!("({})", tenant::of(key))).collect::<Vec<_>>().join(", ");
    psql.rows(&format!(
        "set synchronous_commit = off;
         create temp table filling as select array[{tenants}]::uuid[] as tenants, ledger_now() - interval '24 h' as since;"
    ))?;
    for first in (0..rows).step_by(CHUNK as usize) {
        interrupt::check()?;
        let last = (first + CHUNK).min(rows) - 1;
        psql.rows(&chunk(first, last, rows))?;
        if (last + 1).is_multiple_of(SPEAK_EVERY) && last + 1 < rows {
            terminal::note(format!("… {} million of {} million rows", (last + 1) / SPEAK_EVERY, rows / SPEAK_EVERY));
        }
    }
    psql.rows("drop table filling; reset synchronous_commit;")?;
    settle(psql)
}

/// One statement for both rows of each job, so that they have the same id.
fn chunk(first: u64, last: u64, rows: u64) -> String {
    let payload = payload().replace('\'', "''");
    // A UUIDv7: 48 bits of milliseconds, its version, its variant, and chance.
    format!(
        "with n as (
             select tenants[1 + n % cardinality(tenants)] as tenant_id, since + interval '24 h' * (n::float8 / {rows}) as at,
                    md5(random()::text || n) as chance
               from filling, generate_series({first}, {last}) n
         ), r as (
             select tenant_id, at, (lpad(to_hex((extract(epoch from at) * 1000)::bigint), 12, '0')
                    || '7' || substr(chance, 1, 3) || '8' || substr(chance, 4, 15))::uuid as id from n
         ), j as (
             insert into jobs (tenant_id, id, kind, queue, priority, payload, max_attempts, timeout_ms, run_at)
             select tenant_id, id, 'echo', 'default', 5, '{payload}', 10, 60000, at from r
         )
         insert into job_outcomes (tenant_id, id, state, attempt, worker_id, started_at, finished_at, result)
         select tenant_id, id, 'succeeded', 1, gen_random_uuid(), at, at + interval '2 ms', '{payload}' from r;"
    )
}

/// What autovacuum would do in time, done now: afterwards it has no reason to come while something is measured.
pub fn settle(psql: &mut Psql) -> Result<()> {
    psql.rows("set statement_timeout = 0;")?;
    for table in TABLES.iter().chain(&["job_live"]) {
        psql.rows(&format!("vacuum (analyze) {table};"))?;
    }
    psql.rows("reset statement_timeout; checkpoint;").map(drop)
}

/// Of each table that finished jobs fill.
pub fn sizes(psql: &mut Psql) -> Result<Vec<Size>> {
    let of = |table: &'static str| {
        let [heap, indexes] = psql.numbers(&format!(
            "select coalesce(sum(pg_table_size(relid)), 0), coalesce(sum(pg_indexes_size(relid)), 0)
               from pg_partition_tree('{table}') where isleaf;"
        ))?;
        Ok(Size { table, heap, indexes })
    };
    TABLES.into_iter().map(of).collect::<Result<_>>().context("cannot tell the size of a table")
}

/// How long to let PostgreSQL be after its tables were filled.
pub const REST: Duration = Duration::from_secs(2);
