//! Alerts of jobs that failed.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use sqlx::PgConnection;

use super::publish::Way;
use crate::Result;
use crate::alerts::{Cause, EVENTS_PER_MINUTE, Failure, MAIL_PAUSE, TAG};
use crate::infra::ids::{AlertId, JobId, TenantId};
use crate::jobs::{self, NewJob};

/// Mails enqueued by one transaction.
const MAILS: i64 = 100;

#[derive(sqlx::FromRow)]
struct Note {
    tenant_id: TenantId,
    alert_id: AlertId,
    job_id: JobId,
    kind: String,
    queue: String,
    attempts: i16,
    error: Option<String>,
    failed_at: DateTime<Utc>,
}

impl From<Note> for Failure {
    fn from(note: Note) -> Self {
        let error = note.error.and_then(|error| serde_json::from_str(&error).ok());
        let Note { job_id, kind, queue, attempts, failed_at, .. } = note;
        Self { job_id, kind, queue, attempts, error, failed_at }
    }
}

/// Raises the alerts that want to know that these jobs failed: a mail now if there was none in the last minute, else the
/// next one counts them; events, up to so many a minute. Answers the jobs that tell of it: to be offered after the commit.
pub async fn note_failures(conn: &mut PgConnection, failed: &[(TenantId, JobId)]) -> Result<Vec<NewJob>> {
    if failed.is_empty() {
        return Ok(Vec::new());
    }
    let (tenants, ids): (Vec<TenantId>, Vec<JobId>) = failed.iter().copied().unzip();
    let notes: Vec<Note> = sqlx::query_as(
        r#"select a.tenant_id, a.id as alert_id, j.id as job_id, j.kind, j.queue, o.attempt as attempts, o.error,
                  o.finished_at as failed_at
             from unnest($1::uuid[], $2::uuid[]) u(tenant_id, id)
             join alerts a on a.tenant_id = u.tenant_id and a.cause = 'job.failed' and a.disabled_at is null
             join jobs j on j.tenant_id = u.tenant_id and j.id = u.id and j.id between $3 and $4
             join job_outcomes o
               on o.tenant_id = u.tenant_id and o.id = u.id and o.id between $3 and $4 and o.state = 'failed'
            where (a.kind is null or a.kind = j.kind) and (a.queue is null or a.queue = j.queue)
              and not coalesce($5 = any (j.tags), false)
            order by o.finished_at, j.id"#,
    )
    .bind(tenants)
    .bind(&ids)
    .bind(ids.iter().min())
    .bind(ids.iter().max())
    .bind(TAG)
    .fetch_all(&mut *conn)
    .await?;
    let mut by_alert: BTreeMap<(TenantId, AlertId), Vec<Failure>> = BTreeMap::new();
    for note in notes {
        by_alert.entry((note.tenant_id, note.alert_id)).or_default().push(note.into());
    }
    let mut told = Vec::new();
    for ((tenant, alert), failures) in by_alert {
        told.extend(raise(conn, tenant, alert, &failures).await?);
    }
    Ok(told)
}

#[derive(sqlx::FromRow)]
struct Locked {
    name: String,
    email: Option<String>,
    event: bool,
    may_mail: bool,
    unmailed: i32,
    /// Events published in the minute that runs.
    events: i32,
    suppressed: i32,
}

async fn raise(conn: &mut PgConnection, tenant: TenantId, alert: AlertId, failures: &[Failure]) -> Result<Vec<NewJob>> {
    let locked: Option<Locked> = sqlx::query_as(
        r#"select t.name, a.email, a.event, a.unmailed, a.suppressed,
                  coalesce(a.mailed_at <= ledger_now() - $3 * interval '1 s', true) as may_mail,
                  case when a.events_since > ledger_now() - interval '1 min' then a.events else 0 end as events
             from alerts a join tenants t on t.id = a.tenant_id
            where a.tenant_id = $1 and a.id = $2 and a.disabled_at is null
              for no key update of a"#,
    )
    .bind(tenant)
    .bind(alert)
    .bind(i64::try_from(MAIL_PAUSE.as_secs()).unwrap_or(i64::MAX))
    .fetch_optional(&mut *conn)
    .await?;
    let (Some(locked), Some(last)) = (locked, failures.last()) else { return Ok(Vec::new()) };
    let count = i32::try_from(failures.len()).unwrap_or(i32::MAX);
    let mut told = Vec::new();

    let unmailed = locked.unmailed.saturating_add(count);
    let mut mailed = false;
    if let Some(email) = locked.email.as_deref().filter(|_| locked.may_mail) {
        told.extend(or_log(alert, last.mail(tenant, &locked.name, email, unmailed)));
        jobs::queries::insert(conn, &told).await?;
        mailed = true;
    }

    let (mut published, mut suppressed) = (0, locked.suppressed);
    if locked.event {
        let way = Way::find(conn, tenant, Cause::JobFailed).await?;
        let room = usize::try_from(EVENTS_PER_MINUTE - locked.events).unwrap_or(0).min(way.room());
        let payloads = failures.iter().take(room).map(|failure| {
            published += 1;
            failure.event(alert, std::mem::take(&mut suppressed))
        });
        let payloads = payloads.collect();
        told.extend(way.publish(conn, payloads).await?);
        suppressed = suppressed.saturating_add(count - published);
    }

    sqlx::query(
        r#"update alerts
              set mailed_at = case when $3 then ledger_now() else mailed_at end,
                  unmailed = case when email is null or $3 then 0 else $4 end, last_failure = $5,
                  events_since = case when events_since > ledger_now() - interval '1 min' then events_since
                                      else ledger_now() end,
                  events = $6, suppressed = $7
            where tenant_id = $1 and id = $2"#,
    )
    .bind(tenant)
    .bind(alert)
    .bind(mailed)
    .bind(unmailed)
    .bind(serde_json::to_string(last)?)
    .bind(locked.events + published)
    .bind(suppressed)
    .execute(conn)
    .await?;
    Ok(told)
}

pub(super) fn or_log(alert: AlertId, mail: Result<NewJob>) -> Option<NewJob> {
    let log = |error: &crate::Error| {
        tracing::error!(alert.id = %alert, %error, error.category = %error.category(), "an alert cannot be mailed");
    };
    mail.inspect_err(log).ok()
}

#[derive(sqlx::FromRow)]
struct Unmailed {
    tenant_id: TenantId,
    id: AlertId,
    name: String,
    email: Option<String>,
    unmailed: i32,
    last_failure: Option<String>,
}

/// Enqueues the mails of alerts that have waited for their minute to pass. Answers them: to be offered after the commit.
pub async fn mail_failures(conn: &mut PgConnection) -> Result<Vec<NewJob>> {
    let unmailed: Vec<Unmailed> = sqlx::query_as(
        r#"select a.tenant_id, a.id, t.name, a.email, a.unmailed, a.last_failure
             from alerts a join tenants t on t.id = a.tenant_id
            where a.unmailed > 0 and a.disabled_at is null and a.mailed_at <= ledger_now() - $1 * interval '1 s'
            order by a.mailed_at
            limit $2
              for no key update of a skip locked"#,
    )
    .bind(i64::try_from(MAIL_PAUSE.as_secs()).unwrap_or(i64::MAX))
    .bind(MAILS)
    .fetch_all(&mut *conn)
    .await?;
    if unmailed.is_empty() {
        return Ok(Vec::new());
    }
    let mut mails = Vec::new();
    for alert in &unmailed {
        let last: Option<Failure> = alert.last_failure.as_deref().and_then(|last| serde_json::from_str(last).ok());
        if let (Some(last), Some(email)) = (last, &alert.email) {
            mails.extend(or_log(alert.id, last.mail(alert.tenant_id, &alert.name, email, alert.unmailed)));
        }
    }
    jobs::queries::insert(conn, &mails).await?;
    sqlx::query(
        r#"update alerts a set mailed_at = ledger_now(), unmailed = 0
             from unnest($1::uuid[], $2::uuid[]) u(tenant_id, id)
            where a.tenant_id = u.tenant_id and a.id = u.id"#,
    )
    .bind(unmailed.iter().map(|alert| alert.tenant_id).collect::<Vec<_>>())
    .bind(unmailed.iter().map(|alert| alert.id).collect::<Vec<_>>())
    .execute(conn)
    .await?;
    Ok(mails)
}
