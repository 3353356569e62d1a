//! `cargo dev chaos`: a fault ledger. Clients write down what they were told, a third party and the workers write down what
//! was done, things break by a plan that a seed decides, and a checker compares it all with the ledger.
//!
//! The evidence is in files that only grow, outside PostgreSQL and Redis. With `--sabotage` a process breaks a promise on
//! purpose, and the checker must find it.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use crate::interrupt;
use crate::process::BIN_DIR;
use crate::services::install;
use crate::workspace::Workspace;
use crate::{secret, terminal, wait};

use checker::Promise;
use clients::Clients;
use evidence::Evidence;
use figures::Figures;
use plan::{Fault, Plan};
use report::Report;
use site::Site;

mod checker;
mod clients;
mod evidence;
mod figures;
mod ledger;
mod member;
mod nemesis;
mod plan;
mod random;
mod record;
mod recorder;
mod report;
mod site;
mod strikes;
mod volume;

/// Beside the time that was asked for: a first build, the start, and the time that the last jobs take.
const LIMIT: Duration = Duration::from_secs(75 * 60);
/// How long the last jobs may stand still before they count as lost: much more than a lease, the second look for a lost
/// worker's jobs 30 s later, and the comparison of Redis with the ledger.
const PATIENCE: Duration = Duration::from_secs(90);
/// How long each negative control lasts.
const CONTROL: Duration = Duration::from_secs(15);

/// A promise that the processes break when told so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sabotage {
    /// What Redis forgets is not put back.
    NoRepair,
    /// 202 comes before the commit.
    AckBeforeCommit,
}

impl Sabotage {
    const ALL: [Self; 2] = [Self::NoRepair, Self::AckBeforeCommit];

    pub fn name(self) -> &'static str {
        match self {
            Self::NoRepair => "no-repair",
            Self::AckBeforeCommit => "ack-before-commit",
        }
    }

    /// What brings the breach about.
    fn faults(self) -> Vec<Fault> {
        match self {
            Self::NoRepair => vec![Fault::RedisKill, Fault::RedisFlush],
            Self::AckBeforeCommit => vec![Fault::PostgresKill],
        }
    }

    fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|sabotage| sabotage.name() == name)
    }
}

#[derive(Debug, Clone)]
pub struct Options {
    /// How long things break.
    pub length: Duration,
    pub seed: u64,
    pub faults: Vec<Fault>,
    pub sabotage: Option<Sabotage>,
    /// Short runs with each sabotage instead, which must find it.
    pub control: bool,
}

impl Options {
    /// # Errors
    /// Says which argument is wrong.
    pub fn parse(arguments: &[String]) -> Result<Self> {
        let mut options = Self {
            length: Duration::from_secs(180),
            seed: u64::from(u32::from_le_bytes(secret::random()?)),
            faults: Fault::all(),
            sabotage: None,
            control: false,
        };
        let mut arguments = arguments.iter();
        while let Some(argument) = arguments.next() {
            let mut value = || arguments.next().with_context(|| format!("{argument} takes a value"));
            match argument.as_str() {
                "--minutes" => {
                    let minutes = value()?.parse().ok().filter(|n| (0.1..=600.0).contains(n));
                    let Some(minutes) = minutes else { bail!("--minutes takes a number from 0.1 to 600") };
                    options.length = Duration::from_secs_f64(60.0 * minutes);
                }
                "--seed" => options.seed = value()?.parse().context("--seed takes a number")?,
                "--only" => options.faults = value()?.split(',').map(fault).collect::<Result<_>>()?,
                "--sabotage" => {
                    let name = value()?;
                    let Some(sabotage) = Sabotage::named(name) else {
                        bail!("{name:?} is no sabotage: {}", Sabotage::ALL.map(Sabotage::name).join(", "))
                    };
                    options.sabotage = Some(sabotage);
                }
                "--control" => options.control = true,
                other => bail!("`cargo dev chaos` does not take {other:?}; `cargo dev --help` lists what it takes"),
            }
        }
        Ok(options)
    }
}

fn fault(name: &str) -> Result<Fault> {
    let known = || Fault::all().into_iter().map(Fault::name).collect::<Vec<_>>().join(", ");
    Fault::named(name).with_context(|| format!("{name:?} is no fault; there are {}", known()))
}

/// Runs, reports, and says by the exit code whether every promise was kept; with `control`, whether each sabotage was found.
/// Whatever was started is stopped when it returns.
///
/// # Errors
/// Fails when the run itself could not be carried out.
pub fn run(options: &Options) -> Result<ExitCode> {
    ensure!(cfg!(target_os = "linux"), "`cargo dev chaos` needs Linux: it reads /proc");
    interrupt::set_deadline(LIMIT + options.length);
    let workspace = Workspace::find()?;
    let bin_dir = binaries(&workspace)?;
    let good = if options.control {
        control(options, &workspace, &bin_dir)?
    } else {
        let promises = once(options, &workspace, &bin_dir)?;
        promises.iter().all(|promise| promise.broken.is_empty())
    };
    Ok(if good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The negative control: with each sabotage the checker must find jobs that were accepted and never ended.
fn control(options: &Options, workspace: &Workspace, bin_dir: &Path) -> Result<bool> {
    let mut found = Vec::new();
    for sabotage in Sabotage::ALL {
        let options =
            Options { length: CONTROL, faults: sabotage.faults(), sabotage: Some(sabotage), ..options.clone() };
        let promises = once(&options, workspace, bin_dir)?;
        found.push((sabotage, promises.first().map_or(0, |promise| promise.broken.len())));
    }
    terminal::step("negative control");
    for (sabotage, losses) in &found {
        let verdict = if *losses > 0 { "found" } else { "NOT FOUND" };
        terminal::note(format!("{:<34} {verdict}: {losses} jobs accepted and never ended", sabotage.name()));
    }
    Ok(found.iter().all(|(_, losses)| *losses > 0))
}

/// One run, from fresh stores to the verdict.
fn once(options: &Options, workspace: &Workspace, bin_dir: &Path) -> Result<Vec<Promise>> {
    let (postgres, _) = install::ensure_installed()?;
    let sabotage = options.sabotage.map_or(String::new(), |sabotage| format!(" with {}", sabotage.name()));
    terminal::step(format!(
        "chaos for {:.1} minutes{sabotage}; --seed {} repeats the plan",
        options.length.as_secs_f64() / 60.0,
        options.seed
    ));
    let mut site = Site::open(options, bin_dir, postgres)?;
    let mut deaths = Vec::new();
    let clients = Clients::start(&site, options.seed)?;
    let plan = Plan::new(options.seed, options.faults.clone());
    let plan = if options.control { plan.hasty() } else { plan };
    let strokes = nemesis::rage(&mut site, plan, options.length, &mut deaths)?;
    terminal::step("all is well again; waiting for the last jobs");
    clients.stop()?;
    let settled = ledger::settle(&mut site, &mut deaths, patience(options))?;
    if !settled {
        terminal::note("jobs are left, and nothing goes on");
    }
    let evidence = Evidence::read(&site, strokes, deaths)?;
    let (promises, figures) = (checker::check(&evidence), Figures::of(&evidence));
    let report = Report { options, evidence: &evidence, promises: &promises, figures: &figures };
    report.print();
    let folder = results(options, workspace);
    let path = report.write(&folder)?;
    terminal::note(format!("as JSON in {}", path.display()));
    if promises.iter().any(|promise| !promise.broken.is_empty()) {
        keep(&site, &folder)?;
        terminal::note(format!("the evidence and the logs are in {}", folder.display()));
    }
    Ok(promises)
}

/// A sabotage must not cost CI more time than the finding takes: a sound scheduler looks every 10 s.
fn patience(options: &Options) -> Duration {
    if options.control { PATIENCE / 4 } else { PATIENCE }
}

fn results(options: &Options, workspace: &Workspace) -> PathBuf {
    let sabotage = options.sabotage.map_or(String::new(), |sabotage| format!("-{}", sabotage.name()));
    workspace.target.join("chaos").join(format!("seed-{}{sabotage}", options.seed))
}

/// Copies every file of evidence, and every log, out of the folder that is about to go.
fn keep(site: &Site, folder: &Path) -> Result<()> {
    for entry in std::fs::read_dir(site.folder())?.flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_file()) {
            std::fs::copy(entry.path(), folder.join(entry.file_name()))?;
        }
    }
    Ok(())
}

/// Debug builds, which alone know the journal and the sabotages: those of `cargo dev test`.
fn binaries(workspace: &Workspace) -> Result<PathBuf> {
    if let Some(folder) = std::env::var_os(BIN_DIR) {
        return Ok(folder.into());
    }
    terminal::step("building the binaries");
    workspace.build(&["--workspace", "--bins"])
}

/// Sleeps for `length`, or less when the tool is to stop.
fn rest(length: Duration) -> Result<()> {
    wait::at_most(length, || interrupt::check().err()).map_or(Ok(()), Err)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(words: &[&str]) -> Result<Options> {
        Options::parse(&words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn arguments_are_read_and_wrong_ones_refused() {
        let options = parse(&["--minutes", "0.5", "--seed", "7", "--only", "api-kill,redis-flush"]).unwrap();
        assert_eq!((options.length, options.seed), (Duration::from_secs(30), 7));
        assert_eq!(options.faults, [Fault::ApiKill, Fault::RedisFlush]);
        assert_eq!(parse(&["--sabotage", "no-repair"]).unwrap().sabotage, Some(Sabotage::NoRepair));
        for wrong in [&["--minutes"][..], &["--minutes", "0"], &["--only", "x"], &["--sabotage", "x"], &["x"]] {
            assert!(parse(wrong).is_err(), "{wrong:?}");
        }
    }
}
