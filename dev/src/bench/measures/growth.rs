use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::{Map, Value};

use super::{ROUNDS, drain, round_length, shown};
use crate::bench::Options;
use crate::bench::cpu::Usage;
use crate::bench::figure::{Figure, Target, rounded};
use crate::bench::history::{self, REST, Size};
use crate::bench::ledger::Rates;
use crate::bench::report::Report;
use crate::bench::sink::now_ns;
use crate::bench::site::{Ground, Site, pause};
use crate::bench::statistics::median;
use crate::terminal;

const WARM_UP: Duration = Duration::from_secs(1);
/// What may change between no finished jobs and the most, and still be called flat.
const TOLERANCE: f64 = 0.1;

/// Intake, claims and completions beside more and more finished jobs. Each number of them has a database of its own, and
/// they are measured by turns: what changes is the rows, not the hour.
pub fn run(ground: &Ground, options: &Options, report: &mut Report) -> Result<()> {
    let mut levels = [0, options.rows / 10, options.rows]
        .into_iter()
        .map(|rows| Level::fill(ground, rows))
        .collect::<Result<Vec<_>>>()?;
    for _ in 0..ROUNDS {
        for level in &mut levels {
            level.measure(ground, round_length(options.length))?;
        }
    }
    for level in &levels {
        level.tell(report);
    }
    if let [none, .., most] = levels.as_slice() {
        compare(none, most, report);
    }
    levels.iter().try_for_each(|level| ground.drop_database(&level.database))
}

/// A database with so many finished jobs.
struct Level {
    rows: u64,
    database: String,
    sizes: Vec<Size>,
    intake: Side,
    claims: Side,
    completions: Side,
}

/// One kind of work, round by round.
#[derive(Default)]
struct Side {
    per_s: Vec<f64>,
    cpu_us: Vec<f64>,
    cpu_each: Vec<Map<String, Value>>,
}

impl Level {
    fn fill(ground: &Ground, rows: u64) -> Result<Self> {
        let database = format!("millwork_growth_{rows}");
        ground.fresh_database(&database)?;
        let mut psql = ground.psql(&database)?;
        history::fill(&mut psql, rows)?;
        let sizes = history::sizes(&mut psql)?;
        let mb: f64 = sizes.iter().map(|size| size.heap + size.indexes).sum::<f64>() / 1e6;
        terminal::note(format!("{} finished jobs: {mb:.0} MB", label(rows)));
        pause(REST)?;
        Ok(Self {
            rows,
            database,
            sizes,
            intake: Side::default(),
            claims: Side::default(),
            completions: Side::default(),
        })
    }

    /// Takes jobs in without a worker, then has a worker do them.
    fn measure(&mut self, ground: &Ground, length: Duration) -> Result<()> {
        let mut site = Site::open_on(ground, &self.database)?;
        site.submit(None, WARM_UP)?;
        let meter = site.meter();
        let seen = site.submit(None, length)?;
        self.intake.add(seen.per_s, &meter.stop(), seen.requests);

        let since_ns = now_ns();
        let (drained, usage) = drain::work_off(&mut site)?;
        ensure!(drained.jobs >= seen.requests - seen.errors(), "{} jobs have an outcome", drained.jobs);
        let rates = Rates::since(&mut site.psql, since_ns)?;
        self.claims.add(rates.started_per_s, &usage, drained.jobs);
        self.completions.add(rates.finished_per_s, &usage, drained.jobs);
        history::settle(&mut site.psql)
    }

    fn tell(&self, report: &mut Report) {
        let label = label(self.rows);
        for (name, side) in [("intake", &self.intake), ("claims", &self.claims), ("completions", &self.completions)] {
            let middle = side.cpu_us.iter().position(|total| *total == median(&side.cpu_us));
            report.add(
                Figure::new(format!("growth.{name}.{label}"), median(&side.per_s), "jobs/s")
                    .with("rounds", shown(&side.per_s))
                    .with("cpu_us", rounded(median(&side.cpu_us)))
                    .with("cpu_each", middle.and_then(|round| side.cpu_each.get(round).cloned()).unwrap_or_default()),
            );
        }
        let total: f64 = self.sizes.iter().map(|size| size.heap + size.indexes).sum();
        let mut figure = Figure::new(format!("growth.size.{label}"), total / 1e6, "MB");
        for size in &self.sizes {
            figure = figure
                .with(&format!("{}_mb", size.table), rounded(size.heap / 1e6))
                .with(&format!("{}_indexes_mb", size.table), rounded(size.indexes / 1e6));
        }
        if self.rows > 0 {
            figure = figure.with("bytes_a_job", rounded(total / self.rows as f64));
        }
        report.add(figure);
    }
}

impl Side {
    fn add(&mut self, per_s: f64, usage: &Usage, jobs: f64) {
        self.per_s.push(per_s);
        self.cpu_us.push(usage.total_us_per(jobs));
        self.cpu_each.push(usage.us_per(jobs));
    }
}

/// What the most finished jobs leave of each rate, and what they add to the processor time of a job. The second is the
/// steadier one on a machine that does other things too. Claims and completions are done by the same processes in the
/// same moments, so their processor time is one.
fn compare(none: &Level, most: &Level, report: &mut Report) {
    let label = label(most.rows);
    let ratio = |of: fn(&Level) -> &Vec<f64>| median(of(most)) / median(of(none));
    for (name, value) in [
        ("intake", ratio(|level| &level.intake.per_s)),
        ("claims", ratio(|level| &level.claims.per_s)),
        ("completions", ratio(|level| &level.completions.per_s)),
    ] {
        let figure = Figure::new(format!("growth.{name}.ratio_{label}"), value, "×");
        report.add(figure.target(Target::AtLeast(1.0 - TOLERANCE)).with("flat", value >= 1.0 - TOLERANCE));
    }
    for (name, value) in
        [("intake", ratio(|level| &level.intake.cpu_us)), ("work", ratio(|level| &level.completions.cpu_us))]
    {
        let figure = Figure::new(format!("growth.{name}.cpu_ratio_{label}"), value, "×");
        report.add(figure.target(Target::AtMost(1.0 + TOLERANCE)).with("flat", value <= 1.0 + TOLERANCE));
    }
}

/// `0`, `100k`, `10m`.
fn label(rows: u64) -> String {
    match rows {
        n if n >= 1_000_000 && n % 1_000_000 == 0 => format!("{}m", n / 1_000_000),
        n if n >= 1_000 && n % 1_000 == 0 => format!("{}k", n / 1_000),
        n => n.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_have_short_names() {
        for (rows, name) in [(0, "0"), (999, "999"), (100_000, "100k"), (1_000_000, "1m"), (1_500_000, "1500k")] {
            assert_eq!(label(rows), name);
        }
    }
}
