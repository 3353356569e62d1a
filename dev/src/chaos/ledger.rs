//! What the ledger says in the end.

use std::time::Duration;

use anyhow::{Context, Result};

use super::record;
use super::site::Site;
use crate::terminal;
use crate::{interrupt, wait};

/// A job as the ledger has it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Row {
    pub id: String,
    /// What its client calls it.
    pub name: String,
    pub kind: String,
    pub queue: String,
    pub priority: u8,
    /// When it was due at first.
    pub due: f64,
    /// Whether it is among those that live, and how often among those that have ended.
    pub live: bool,
    pub ends: u32,
    /// Of its end.
    pub state: String,
    pub attempt: u32,
    pub worker: String,
    pub finished_at: f64,
    /// The number of the third party's call that it ended with.
    pub call: Option<u64>,
}

/// An attempt that did not end its job.
#[derive(Debug, Clone, PartialEq)]
pub struct Attempt {
    pub job: String,
    pub attempt: u32,
    pub ended: String,
    pub worker: String,
}

/// Jobs of clients, with times as this machine's uptime; PostgreSQL's own clock was never stepped.
pub fn read(site: &Site) -> Result<(Vec<Row>, Vec<Attempt>)> {
    let mut psql = site.psql()?;
    let [now] = psql.numbers::<1>("select extract(epoch from clock_timestamp());")?;
    let booted = now - record::uptime();
    let rows = psql.rows(
        "select j.id, j.tags[1], j.kind, j.queue, j.priority, extract(epoch from j.run_at),
                exists (select from job_live l where l.tenant_id = j.tenant_id and l.id = j.id),
                count(o.id) over (partition by j.id), coalesce(o.state::text, '-'), coalesce(o.attempt, 0),
                coalesce(o.worker_id::text, '-'), coalesce(extract(epoch from o.finished_at), 0),
                case when j.kind = 'http.request' and o.state = 'succeeded' then o.result::jsonb ->> 'body' end
           from jobs j left join job_outcomes o on o.tenant_id = j.tenant_id and o.id = j.id
          where j.tags is not null;",
    )?;
    let rows = rows
        .iter()
        .map(|row| parse(row, booted).with_context(|| format!("{row:?} is no job")))
        .collect::<Result<_>>()?;
    let attempts = psql.rows("select id, attempt, ended, coalesce(worker_id::text, '-') from job_attempts;")?;
    let attempts = attempts.into_iter().filter_map(|row| {
        let [job, attempt, ended, worker] = <[String; 4]>::try_from(row).ok()?;
        Some(Attempt { job, attempt: attempt.parse().ok()?, ended, worker })
    });
    Ok((rows, attempts.collect()))
}

fn parse(row: &[String], booted: f64) -> Option<Row> {
    let text = |n: usize| row.get(n).cloned();
    Some(Row {
        id: text(0)?,
        name: text(1)?,
        kind: text(2)?,
        queue: text(3)?,
        priority: text(4)?.parse().ok()?,
        due: text(5)?.parse::<f64>().ok()? - booted,
        live: text(6)? == "t",
        ends: text(7)?.parse().ok()?,
        state: text(8)?,
        attempt: text(9)?.parse().ok()?,
        worker: text(10)?,
        finished_at: text(11)?.parse::<f64>().ok()? - booted,
        call: text(12)?.parse().ok(),
    })
}

/// Waits until no job of a client lives, for as long as there is progress: `patience` without any ends it. False when jobs
/// are left.
pub fn settle(site: &mut Site, deaths: &mut Vec<String>, patience: Duration) -> Result<bool> {
    let mut psql = site.psql()?;
    let (mut last, mut since, mut said) = (String::new(), record::uptime(), record::uptime());
    loop {
        interrupt::check()?;
        deaths.extend(site.revive()?);
        let left = psql.rows(LEFT)?.first().map(|row| row.join(" ")).unwrap_or_default();
        let now = record::uptime();
        if left.starts_with("0 ") {
            return Ok(true);
        }
        if left != last {
            (last, since) = (left, now);
        } else if now - since > patience.as_secs_f64() {
            return Ok(false);
        }
        if now - said > 10.0 {
            said = now;
            terminal::note(format!("… {} jobs left", last.split(' ').next().unwrap_or_default()));
        }
        wait::at_most(Duration::from_millis(500), || interrupt::check().err());
    }
}

/// How many live, and what changes whenever one of them gets on. A job whose time has not come is progress too.
const LEFT: &str = "select count(*), coalesce(sum(attempt + lost), 0), coalesce(sum(running::int), 0),
         count(*) filter (where l.run_at > ledger_now())
    from job_live l join jobs j on j.tenant_id = l.tenant_id and j.id = l.id where j.tags is not null;";
