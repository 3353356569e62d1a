//! `cargo dev bench`: release builds on private servers, loaded as clients would, and what they reach beside what the
//! machine itself can do.
//!
//! Machines differ and drift, and share their cores with other programs: every load is measured in rounds of which the
//! median counts, and each figure says what else was going on.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Result, bail, ensure};

use crate::interrupt::Interrupted;
use crate::services::install;
use crate::workspace::Workspace;
use crate::{interrupt, terminal};

use measures::Measure;
use report::Report;
use site::Ground;

mod ceilings;
mod connection;
mod cpu;
mod figure;
mod ledger;
mod load;
mod measures;
mod memory;
pub(crate) mod psql;
pub(crate) mod redis;
mod report;
mod sink;
mod site;
pub(crate) mod statistics;
pub(crate) mod tenant;

/// Of everything, a first release build on a slow machine included.
const LIMIT: Duration = Duration::from_secs(90 * 60);
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
}

impl Options {
    /// # Errors
    /// Says which argument is wrong.
    pub fn parse(arguments: &[String]) -> Result<Self> {
        let mut options = Self { names: Vec::new(), json: false, length: Duration::from_secs(10) };
        let mut arguments = arguments.iter();
        while let Some(argument) = arguments.next() {
            match argument.as_str() {
                "--json" => options.json = true,
                "--seconds" => {
                    let seconds = arguments.next().and_then(|text| text.parse().ok()).filter(|n| (1..=600).contains(n));
                    let Some(seconds) = seconds else { bail!("--seconds takes a number from 1 to 600") };
                    options.length = Duration::from_secs(seconds);
                }
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
    interrupt::set_deadline(LIMIT);
    if options.json {
        terminal::use_stderr();
    }
    let chosen = |name: &str| options.names.is_empty() || options.names.iter().any(|wanted| wanted == name);
    let chosen: Vec<&Measure> = measures::ALL.iter().filter(|measure| chosen(measure.name)).collect();
    let (postgres, _) = install::ensure_installed()?;
    let wrk = chosen.iter().any(|measure| measure.many_clients).then(install::ensure_wrk).transpose()?;
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
        match (measure.run)(&ground, options.length, &mut report) {
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
        for wrong in [&["--seconds"][..], &["--seconds", "0"], &["--seconds", "x"], &["nothing"]] {
            assert!(parse(wrong).is_err(), "{wrong:?}");
        }
    }
}
