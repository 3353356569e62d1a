//! Alerts of queues that fall behind.

use std::time::Duration;

use sqlx::PgConnection;

use super::failures::or_log;
use super::publish::Way;
use crate::Result;
use crate::alerts::{Backlog, Cause, MAIL_PAUSE};
use crate::infra::ids::{AlertId, TenantId};
use crate::jobs::{self, NewJob};

/// Alerts looked at by one transaction.
const ALERTS: i64 = 50;
/// Jobs counted where an alert is about age alone.
const COUNTED: i32 = 1_000;

#[derive(sqlx::FromRow)]
struct Watched {
    tenant_id: TenantId,
    id: AlertId,
    name: String,
    queue: String,
    depth: Option<i32>,
    age_s: Option<i32>,
    email: Option<String>,
    event: bool,
    is_behind: bool,
    /// Not in the minute after it was last told.
    may_tell: bool,
}

/// What a look at queues came to.
#[derive(Debug, Default)]
pub struct Checked {
    /// The jobs that tell of it: to be offered after the commit.
    pub told: Vec<NewJob>,
    /// There may be more to look at now.
    pub more: bool,
}

/// Looks at the queues of some alerts that were not looked at for `pace`, and tells of those that have fallen behind:
/// once, until they have caught up.
pub async fn check_queues(conn: &mut PgConnection, pace: Duration) -> Result<Checked> {
    let seconds = |time: Duration| i64::try_from(time.as_secs()).unwrap_or(i64::MAX);
    let watched: Vec<Watched> = sqlx::query_as(
        r#"select a.tenant_id, a.id, t.name, a.queue, a.depth, a.age_s, a.email, a.event,
                  a.behind_since is not null as is_behind,
                  coalesce(a.mailed_at <= ledger_now() - $2 * interval '1 s', true) as may_tell
             from alerts a join tenants t on t.id = a.tenant_id
            where a.cause = 'queue.backlogged' and a.disabled_at is null and a.queue is not null
              and coalesce(a.checked_at <= ledger_now() - $1 * interval '1 s', true)
            order by a.checked_at nulls first
            limit $3
              for no key update of a skip locked"#,
    )
    .bind(seconds(pace))
    .bind(seconds(MAIL_PAUSE))
    .bind(ALERTS)
    .fetch_all(&mut *conn)
    .await?;
    let mut checked = Checked { more: watched.len() as i64 == ALERTS, told: Vec::new() };
    for alert in &watched {
        let backlog = measure(conn, alert).await?;
        let falls_behind = !alert.is_behind && alert.may_tell && backlog.is_behind(alert.depth, alert.age_s);
        let catches_up = alert.is_behind && backlog.has_caught_up(alert.depth, alert.age_s);
        if falls_behind {
            checked.told.extend(tell(conn, alert, backlog).await?);
        }
        sqlx::query(
            r#"update alerts
                  set checked_at = ledger_now(), mailed_at = case when $3 then ledger_now() else mailed_at end,
                      behind_since = case when $3 then ledger_now() when $4 then null else behind_since end
                where tenant_id = $1 and id = $2"#,
        )
        .bind(alert.tenant_id)
        .bind(alert.id)
        .bind(falls_behind)
        .bind(catches_up)
        .execute(&mut *conn)
        .await?;
    }
    Ok(checked)
}

/// Counts by the index of lanes, no further than the alert asks; the oldest is the first of one of ten lanes.
async fn measure(conn: &mut PgConnection, alert: &Watched) -> Result<Backlog> {
    Ok(sqlx::query_as(
        r#"select (select count(*) from (
                      select from job_live
                       where queue = $1 and tenant_id = $2 and priority between 0 and 9
                         and run_at <= ledger_now() and not running
                       limit $3) due) as depth,
                  coalesce(extract(epoch from ledger_now() - (
                      select min(first.run_at) from generate_series(0, 9) lane(priority), lateral (
                          select run_at from job_live
                           where queue = $1 and tenant_id = $2 and priority = lane.priority::int2 and priority >= 0
                             and run_at <= ledger_now() and not running
                           order by run_at limit 1) first))::int8, 0) as age_s"#,
    )
    .bind(&alert.queue)
    .bind(alert.tenant_id)
    .bind(i64::from(alert.depth.unwrap_or(0).max(COUNTED)))
    .fetch_one(conn)
    .await?)
}

async fn tell(conn: &mut PgConnection, alert: &Watched, backlog: Backlog) -> Result<Vec<NewJob>> {
    let mut told = Vec::new();
    if let Some(email) = &alert.email {
        told.extend(or_log(alert.id, backlog.mail(alert.tenant_id, &alert.name, email, &alert.queue)));
        jobs::queries::insert(conn, &told).await?;
    }
    if alert.event {
        let way = Way::find(conn, alert.tenant_id, Cause::QueueBacklogged).await?;
        told.extend(way.publish(conn, vec![backlog.event(alert.id, &alert.queue)]).await?);
    }
    Ok(told)
}
