//! `cargo dev bench`: release builds on private servers, loaded as clients would, and what they reach beside what the
//! machine itself can do.
//!
//! Machines differ and drift, and share their cores with other programs: every load is measured in rounds of which the
//! median counts, and each figure says what else was going on.

use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use crate::interrupt::Interrupted;
use crate::services::install;
use crate::workspace::Workspace;
use crate::{interrupt, terminal};

use measures::Measure;
use report::Report;
use site::Ground;

pub(crate) use crate::services::redis_client as redis;

mod ceilings;
mod chart;
mod connection;
mod cpu;
mod figure;
mod fleet;
mod history;
mod ledger;
mod load;
mod measures;
mod memory;
mod peers;
mod report;
mod sink;
mod site;
pub(crate) mod statistics;
pub(crate) mod tenant;

/// Of everything, a first release build on a slow machine included.
const LIMIT: Duration = Duration::from_secs(90 * 60);
/// On top of it, for putting a finished job into the ledger on a slow machine.
const MICROS_A_ROW: u64 = 200;
/// Folder with binaries to measure, instead of building them.
pub const BIN_DIR: &str = "MILLWORK_BENCH_BIN_DIR";
const BINARIES: [&str; 3] = ["millwork-api", "millwork-worker", "millwork-scheduler"];

#[derive(Debug, Clone)]
pub struct Options {
    /// What to measure; everything when empty.
    pub names: Vec<String>,
    /// One line of JSON a figure on standard output, and nothing else there.
    pub json: bool,
    /// How long each load lasts, all its rounds together.
    pub length: Duration,
    /// Finished jobs beside which `growth` measures last.
    pub rows: u64,
    /// How long `soak` lasts.
    pub soak: Duration,
    /// Where `soak` leaves its table and its plot; `.dev/bench` of the checkout if nowhere else.
    pub out: Option<PathBuf>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            names: Vec::new(),
            json: false,
            length: Duration::from_secs(10),
            rows: 1_000_000,
            soak: Duration::from_secs(5 * 60),
            out: None,
        }
    }
}

impl Options {
    /// # Errors
    /// Says which argument is wrong.
    pub fn parse(arguments: &[String]) -> Result<Self> {
        let mut options = Self::default();
        let mut arguments = arguments.iter();
        while let Some(argument) = arguments.next() {
            match argument.as_str() {
                "--json" => options.json = true,
                "--seconds" => options.length = Duration::from_secs(number(argument, arguments.next(), 1..=600)?),
                "--rows" => options.rows = number(argument, arguments.next(), 1_000..=100_000_000)?,
                "--minutes" => options.soak = Duration::from_secs(60 * number(argument, arguments.next(), 1..=10_080)?),
                "--out" => options.out = Some(arguments.next().context("--out takes a folder")?.into()),
                name if measures::ALL.iter().any(|measure| measure.name == name) => options.names.push(name.to_owned()),
                other => bail!("`cargo dev bench` does not take {other:?}; it measures {}", measures::names()),
            }
        }
        Ok(options)
    }
}

/// Measures and prints. Whatever was started is stopped when it returns.
///
/// # Errors
/// Fails when something could not be measured; a figure below its target is no failure.
pub fn run(options: &Options) -> Result<()> {
    let chosen = |measure: &&Measure| match options.names.as_slice() {
        [] => measure.is_usual(),
        names => names.iter().any(|wanted| wanted == measure.name),
    };
    let chosen: Vec<&Measure> = measures::ALL.iter().filter(chosen).collect();
    interrupt::set_deadline(limit(options, &chosen));
    if options.json {
        terminal::use_stderr();
    }
    let (postgres, _) = install::ensure_installed()?;
    let wrk = chosen.iter().any(|measure| measure.takes_many_clients()).then(install::ensure_wrk).transpose()?;
    let bin_dir = binaries()?;

    terminal::step("starting PostgreSQL and Redis");
    let ground = Ground::prepare(bin_dir, postgres, wrk)?;
    let mut report = Report::new(options.json);
    ground.describe(&mut report);
    terminal::step("what the machine can do by itself");
    ceilings::measure(&ground, &mut report)?;

    let mut failures = Vec::new();
    for measure in chosen {
        terminal::step(format!("{}: {}", measure.name, measure.what));
        ground.describe_now(&mut report)?;
        match (measure.run)(&ground, options, &mut report) {
            Ok(()) => {}
            Err(error) if error.is::<Interrupted>() => return Err(error),
            Err(error) => {
                interrupt::check()?;
                terminal::note(format!("not measured: {error:#}"));
                failures.push(measure.name);
            }
        }
    }
    drop(ground);
    report.print();
    ensure!(failures.is_empty(), "not measured: {}", failures.join(", "));
    Ok(())
}

fn limit(options: &Options, chosen: &[&Measure]) -> Duration {
    let takes = |name: &str| chosen.iter().any(|measure| measure.name == name);
    let soak = if takes("soak") { options.soak } else { Duration::ZERO };
    let growth = if takes("growth") { Duration::from_micros(options.rows * MICROS_A_ROW) } else { Duration::ZERO };
    LIMIT + soak + growth
}

fn number(name: &str, text: Option<&String>, range: RangeInclusive<u64>) -> Result<u64> {
    let number = text.and_then(|text| text.parse().ok()).filter(|number| range.contains(number));
    number.with_context(|| format!("{name} takes a number from {} to {}", range.start(), range.end()))
}

fn binaries() -> Result<PathBuf> {
    if let Some(folder) = std::env::var_os(BIN_DIR) {
        terminal::step(format!("measuring the binaries in {}", folder.display()));
        return Ok(folder.into());
    }
    terminal::step("building api, worker and scheduler with optimisations");
    let packages = BINARIES.iter().flat_map(|binary| ["--package", binary]);
    let arguments: Vec<&str> = packages.chain(["--bins", "--release"]).collect();
    Workspace::find()?.build(&arguments)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_read_and_wrong_ones_refused() {
        let parse = |words: &[&str]| Options::parse(&words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>());
        let options = parse(&["drain", "--json", "--seconds", "3", "submit"]).unwrap();
        assert_eq!(
            (options.names.as_slice(), options.json),
            (["drain".to_owned(), "submit".to_owned()].as_slice(), true)
        );
        assert_eq!(options.length, Duration::from_secs(3));
        let options = parse(&["growth", "soak", "--rows", "10000000", "--minutes", "60", "--out", "x"]).unwrap();
        assert_eq!((options.rows, options.soak.as_secs()), (10_000_000, 3_600));
        assert_eq!(options.out, Some(PathBuf::from("x")));
        for wrong in [
            &["--seconds"][..],
            &["--seconds", "0"],
            &["--seconds", "x"],
            &["nothing"],
            &["--rows", "1"],
            &["--minutes", "0"],
            &["--out"],
        ] {
            assert!(parse(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn what_takes_long_is_measured_only_when_named_and_given_the_time() {
        let usual: Vec<&Measure> = measures::ALL.iter().filter(|measure| measure.is_usual()).collect();
        assert!(usual.len() == measures::ALL.len() - 1 && usual.iter().all(|measure| measure.name != "soak"));
        let options = Options { soak: Duration::from_secs(7_200), ..Options::default() };
        let all: Vec<&Measure> = measures::ALL.iter().collect();
        assert_eq!(limit(&options, &all) - limit(&options, &usual), options.soak);
    }
}
