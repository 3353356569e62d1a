//! What the ledger tells of a load afterwards. Every time is the database's, so nothing has to be watched while it runs.

use anyhow::{Context, Result};

use super::statistics;
use crate::services::psql::Psql;

/// When a job was taken in: the time in its UUIDv7, in milliseconds.
const MADE_MS: &str = "('x' || left(replace(id::text, '-', ''), 12))::bit(48)::bigint";
/// Width of a slice of a [`Course`].
const SLICE_MS: f64 = 250.0;

/// Jobs in and out over time.
#[derive(Debug)]
pub struct Course {
    /// Seconds since the beginning, jobs that waited or ran.
    pub backlog: Vec<(f64, f64)>,
    pub submitted_per_s: f64,
    pub finished_per_s: f64,
    /// By how many jobs the backlog grew in a second.
    pub growth_per_s: f64,
}

impl Course {
    /// Between two moments of the system's clock, in nanoseconds since 1970.
    pub fn between(psql: &mut Psql, from_ns: u64, to_ns: u64) -> Result<Self> {
        let (from_ms, to_ms) = (from_ns as f64 / 1e6, to_ns as f64 / 1e6);
        let sliced = |time: &str, table: &str| {
            format!(
                "select floor(({time} - {from_ms}) / {SLICE_MS}), count(*) from {table}
                  where {time} < {to_ms} group by 1 order by 1;"
            )
        };
        let made = slices(&psql.rows(&sliced(MADE_MS, "jobs"))?)?;
        let finished = slices(&psql.rows(&sliced("extract(epoch from finished_at) * 1000", "job_outcomes"))?)?;
        Self::of(&made, &finished, (to_ms - from_ms) / SLICE_MS)
    }

    /// Slices before the beginning have a negative number.
    fn of(made: &[(f64, f64)], finished: &[(f64, f64)], count: f64) -> Result<Self> {
        let up_to = |slices: &[(f64, f64)], end: f64| {
            slices.iter().filter(|(slice, _)| *slice < end).map(|(_, jobs)| jobs).sum::<f64>()
        };
        let whole = count.floor();
        let seconds = whole * SLICE_MS / 1000.0;
        let backlog: Vec<(f64, f64)> = (0..=whole as usize)
            .map(|slice| (slice as f64 * SLICE_MS / 1000.0, up_to(made, slice as f64) - up_to(finished, slice as f64)))
            .collect();
        let rate = |slices: &[(f64, f64)]| (up_to(slices, whole) - up_to(slices, 0.0)) / seconds;
        backlog.get(1).context("the load was too short")?;
        Ok(Self {
            submitted_per_s: rate(made),
            finished_per_s: rate(finished),
            growth_per_s: statistics::slope(&backlog),
            backlog,
        })
    }

    /// Whether the workers kept pace: the backlog grew by less than a fiftieth of what came in, or ended below what comes
    /// in within a tenth of a second.
    pub fn is_flat(&self) -> bool {
        self.growth_per_s <= self.submitted_per_s * 0.02 || self.last_backlog() <= self.submitted_per_s * 0.1
    }

    pub fn last_backlog(&self) -> f64 {
        self.backlog.last().map_or(0.0, |(_, jobs)| *jobs)
    }
}

fn slices(rows: &[Vec<String>]) -> Result<Vec<(f64, f64)>> {
    let number = |row: &[String], column: usize| row.get(column).and_then(|text| text.parse().ok());
    rows.iter()
        .map(|row| number(row, 0).zip(number(row, 1)).with_context(|| format!("{row:?} are no two numbers")))
        .collect()
}

/// The end of a backlog that was worked off.
#[derive(Debug)]
pub struct Drained {
    pub jobs: f64,
    /// From the first completion to the last; the first batch itself does not count.
    pub per_s: f64,
    /// From `since` to the last completion.
    pub per_s_since: f64,
}

impl Drained {
    /// Of what finished after `since_ns`.
    pub fn since(psql: &mut Psql, since_ns: u64) -> Result<Self> {
        let since_s = since_ns as f64 / 1e9;
        let [jobs, in_first, first_s, last_s] = psql.numbers(&format!(
            "with o as (select extract(epoch from finished_at) as at from job_outcomes
                         where finished_at > to_timestamp({since_s:.6}))
             select count(*), count(*) filter (where at = (select min(at) from o)), min(at), max(at) from o;"
        ))?;
        Ok(Self { jobs, per_s: (jobs - in_first) / (last_s - first_s), per_s_since: jobs / (last_s - since_s) })
    }
}

/// How fast jobs were claimed and completed while a backlog was worked off. The first batch of each does not count.
#[derive(Debug)]
pub struct Rates {
    pub started_per_s: f64,
    pub finished_per_s: f64,
}

impl Rates {
    /// Of what finished after `since_ns`.
    pub fn since(psql: &mut Psql, since_ns: u64) -> Result<Self> {
        let since_s = since_ns as f64 / 1e9;
        let mut rate = |column: &str| {
            let [jobs, in_first, first_s, last_s] = psql.numbers(&format!(
                "with o as (select extract(epoch from {column}) as at from job_outcomes
                             where finished_at > to_timestamp({since_s:.6}))
                 select count(*), count(*) filter (where at = (select min(at) from o)), min(at), max(at) from o;"
            ))?;
            anyhow::Ok((jobs - in_first) / (last_s - first_s))
        };
        Ok(Self { started_per_s: rate("started_at")?, finished_per_s: rate("finished_at")? })
    }
}

/// Milliseconds from intake to start of the jobs made between two moments, in percentiles 50 and 99.
pub fn waits_ms(psql: &mut Psql, from_ns: u64, to_ns: u64) -> Result<[f64; 2]> {
    let (from_ms, to_ms) = (from_ns as f64 / 1e6, to_ns as f64 / 1e6);
    psql.numbers(&format!(
        "with w as (select extract(epoch from started_at) * 1000 - {MADE_MS} as ms from job_outcomes
                     where {MADE_MS} between {from_ms} and {to_ms})
         select percentile_disc(0.5) within group (order by ms), percentile_disc(0.99) within group (order by ms) from w;"
    ))
}

/// The same for one tenant, found by its key: costs what those jobs cost, whatever else there is.
pub fn waits_ms_of(psql: &mut Psql, tenant: &str, from_ns: u64, to_ns: u64) -> Result<[f64; 2]> {
    let moment = |ns: u64| format!("uuid_floor(to_timestamp({:.3}))", ns as f64 / 1e9);
    psql.numbers(&format!(
        "with w as (select extract(epoch from started_at) * 1000 - {MADE_MS} as ms from job_outcomes
                     where tenant_id = ({tenant}) and id >= {} and id < {})
         select percentile_disc(0.5) within group (order by ms), percentile_disc(0.99) within group (order by ms) from w;",
        moment(from_ns),
        moment(to_ns)
    ))
}

/// Whether no job waits or runs.
pub fn is_idle(psql: &mut Psql) -> Result<bool> {
    Ok(psql.rows("select 1 from job_live limit 1;")?.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_backlog_is_what_came_in_and_did_not_go_out() {
        let made = [(-1.0, 10.0), (0.0, 100.0), (1.0, 100.0), (2.0, 100.0), (3.0, 100.0)];
        let pace = [(0.0, 100.0), (1.0, 100.0), (2.0, 100.0), (3.0, 100.0)];
        let course = Course::of(&made, &pace, 4.2).unwrap();
        assert_eq!((course.submitted_per_s, course.finished_per_s), (400.0, 400.0));
        assert_eq!((course.backlog[0].1, course.last_backlog(), course.growth_per_s), (10.0, 10.0, 0.0));
        assert!(course.is_flat());

        let half: Vec<_> = pace.iter().map(|(slice, jobs)| (*slice, jobs / 2.0)).collect();
        let course = Course::of(&made, &half, 4.2).unwrap();
        assert_eq!((course.finished_per_s, course.growth_per_s, course.last_backlog()), (200.0, 200.0, 210.0));
        assert!(!course.is_flat());
    }
}
