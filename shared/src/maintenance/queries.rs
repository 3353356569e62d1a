//! Statements of the maintenance jobs.

use std::time::Duration;

use sqlx::PgConnection;

use crate::Result;
use crate::tenants::Plan;

/// Lets the statements of this transaction run for minutes: a whole partition may have to be read.
pub async fn allow_long_statements(conn: &mut PgConnection) -> Result<()> {
    sqlx::raw_sql("set local statement_timeout = '10min'").execute(conn).await?;
    Ok(())
}

/// Makes the partitions of the next `days`. Answers how many were missing.
pub async fn ensure_partitions(conn: &mut PgConnection, days: i32) -> Result<i32> {
    Ok(sqlx::query_scalar("select ensure_partitions($1)").bind(days).fetch_one(conn).await?)
}

/// The partitioned tables, in the order in which their old partitions may go: outcomes last, the others look at them.
pub const ROLLED: [&str; 7] =
    ["jobs", "job_attempts", "job_links", "job_progress", "webhook_deliveries", "events", "job_outcomes"];

/// Drops the partitions of `table` that are older than `age`. Answers how many went.
pub async fn drop_partitions(conn: &mut PgConnection, table: &str, age: Duration) -> Result<i32> {
    Ok(sqlx::query_scalar("select drop_partitions($1, ledger_now() - $2 * interval '1 s')")
        .bind(table)
        .bind(i64::try_from(age.as_secs()).unwrap_or(i64::MAX))
        .fetch_one(conn)
        .await?)
}

/// Pages of a partition that one statement goes through: two megabytes.
const PAGES: i32 = 256;

/// Deletes what is past its retention of the next pages of `table`, of tenants of `plan`. Answers how many rows went; None when there is
/// nothing left to look at.
pub async fn expire_rows(conn: &mut PgConnection, table: &str, plan: Plan, kept: Duration) -> Result<Option<u64>> {
    let sql = "select deleted, done from expire_rows($1, $2, ledger_now() - $3 * interval '1 s', $4)";
    let (deleted, done): (i64, bool) = sqlx::query_as(sql)
        .bind(table)
        .bind(plan.as_str())
        .bind(i64::try_from(kept.as_secs()).unwrap_or(i64::MAX))
        .bind(PAGES)
        .fetch_one(conn)
        .await?;
    Ok((!done).then_some(deleted.unsigned_abs()))
}

/// A table of which rows expire, and how one chunk of them is deleted.
pub struct Expiry {
    pub table: &'static str,
    delete: &'static str,
}

/// Rows deleted by one statement at most, so that none holds locks for long.
pub const CHUNK: u64 = 5_000;

/// Everything that expires.
pub const EXPIRIES: [Expiry; 20] = [
    Expiry {
        table: "idempotency_keys",
        delete: "delete from idempotency_keys where ctid = any (array(
                     select ctid from idempotency_keys where created_at < ledger_now() - interval '24 h' limit 5000))",
    },
    Expiry {
        table: "personal_answers",
        delete: "delete from personal_answers where ctid = any (array(
                     select ctid from personal_answers where created_at < ledger_now() - interval '24 h' limit 5000))",
    },
    Expiry {
        table: "refresh_tokens",
        delete: "delete from refresh_tokens where ctid = any (array(
                     select ctid from refresh_tokens where expires_at < ledger_now() - interval '1 day' limit 5000))",
    },
    Expiry {
        table: "refresh_tokens",
        delete: "delete from refresh_tokens where ctid = any (array(
                     select r.ctid from sessions s join refresh_tokens r on r.session_id = s.id
                      where s.ended_at < ledger_now() - interval '1 day' limit 5000))",
    },
    Expiry {
        table: "sessions", // whose tokens have gone
        delete: "delete from sessions where ctid = any (array(
                     select ctid from sessions
                      where ended_at < ledger_now() - interval '1 day'
                         or expires_at < ledger_now() - interval '1 day' limit 5000))",
    },
    Expiry {
        table: "signing_keys",
        delete: "delete from signing_keys where ctid = any (array(
                     select ctid from signing_keys where retired_at < ledger_now() - interval '1 day' limit 5000))",
    },
    Expiry {
        table: "one_time_tokens",
        delete: "delete from one_time_tokens where ctid = any (array(
                     select ctid from one_time_tokens where expires_at < ledger_now() - interval '1 day' limit 5000))",
    },
    Expiry {
        table: "oauth_states", // longer than a sign-in may take
        delete: "delete from oauth_states where ctid = any (array(
                     select ctid from oauth_states where used_at < ledger_now() - interval '1 h' limit 5000))",
    },
    Expiry {
        table: "oauth_codes",
        delete: "delete from oauth_codes where ctid = any (array(
                     select ctid from oauth_codes where expires_at < ledger_now() - interval '1 h' limit 5000))",
    },
    Expiry {
        table: "staff_sessions",
        delete: "delete from staff_sessions where ctid = any (array(
                     select ctid from staff_sessions where expires_at < ledger_now() - interval '1 day' limit 5000))",
    },
    Expiry {
        table: "invitations", // whose tokens go with them
        delete: "delete from invitations where ctid = any (array(
                     select ctid from invitations where expires_at < ledger_now() - interval '1 day' limit 5000))",
    },
    Expiry {
        table: "job_unique",
        delete: "delete from job_unique where ctid = any (array(
                     select u.ctid from job_unique u
                      where u.created_at < ledger_now() - interval '1 h'
                        and coalesce(u.holds_until <= ledger_now(), true)
                        and not exists (select from job_live l where l.tenant_id = u.tenant_id and l.id = u.job_id)
                      limit 5000))",
    },
    Expiry {
        table: "job_cancels",
        delete: "delete from job_cancels where ctid = any (array(
                     select c.ctid from job_cancels c
                      where not exists (select from job_live l where l.tenant_id = c.tenant_id and l.id = c.job_id)
                      limit 5000))",
    },
    Expiry {
        table: "job_bulk",
        delete: "delete from job_bulk where ctid = any (array(
                     select b.ctid from job_bulk b
                      where b.created_at < ledger_now() - interval '7 days'
                        and not exists (select from job_live l where l.tenant_id = b.tenant_id and l.id = b.job_id)
                      limit 5000))",
    },
    Expiry {
        table: "object_sweeps",
        delete: "delete from object_sweeps where ctid = any (array(
                     select s.ctid from object_sweeps s
                      where s.created_at < ledger_now() - interval '7 days'
                        and not exists (select from job_live l where l.tenant_id = s.tenant_id and l.id = s.job_id)
                      limit 5000))",
    },
    Expiry {
        table: "object_sweep_deeds", // of a sweep that failed for good before it told of them
        delete: "delete from object_sweep_deeds where ctid = any (array(
                     select ctid from object_sweep_deeds where created_at < ledger_now() - interval '7 days' limit 5000))",
    },
    Expiry {
        table: "exports", // whose objects have gone
        delete: "delete from exports where ctid = any (array(
                     select ctid from exports
                      where created_at < ledger_now() - interval '30 days' and object_id is null limit 5000))",
    },
    Expiry {
        table: "imports", // whose reports have gone
        delete: "delete from imports where ctid = any (array(
                     select ctid from imports
                      where created_at < ledger_now() - interval '30 days' and object_id is null limit 5000))",
    },
    Expiry {
        table: "workers",
        delete: "delete from workers where ctid = any (array(
                     select ctid from workers where reaped_at < ledger_now() - interval '7 days' limit 5000))",
    },
    Expiry {
        table: "job_stats",
        delete: "delete from job_stats where ctid = any (array(
                     select ctid from job_stats where minute < ledger_now() - interval '1 day' limit 5000))",
    },
];

/// Deletes one chunk. Answers how many rows went; fewer than [`CHUNK`] means that it was the last.
pub async fn delete_expired(conn: &mut PgConnection, expiry: &Expiry) -> Result<u64> {
    Ok(sqlx::query(expiry.delete).execute(conn).await?.rows_affected())
}
