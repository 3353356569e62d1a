//! `cargo dev up`: servers, build, schema, the Procfile's processes, and the main job shown from end to end.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::process::Process;
use crate::services::{Services, install};
use crate::terminal::Prefix;
use crate::workspace::Workspace;
use crate::{interrupt, terminal};

use environment::Environment;
use fleet::Fleet;

mod demo;
mod environment;
mod fleet;
mod lock;
mod procfile;

/// Of everything `--once` does, from nothing: installing and a first build included.
const ONCE_LIMIT: Duration = Duration::from_secs(45 * 60);
const MIGRATE_LIMIT: Duration = Duration::from_secs(5 * 60);
const READY_LIMIT: Duration = Duration::from_secs(60);

const BINARIES: [&str; 3] = ["millwork-api", "millwork-worker", "millwork-scheduler"];

#[derive(Debug, Clone, Copy, Default)]
pub struct Options {
    /// Stop after showing the main job.
    pub once: bool,
    /// Build and run with optimisations.
    pub release: bool,
}

/// Returns when Ctrl-C was pressed or, with `once`, when the main job has been shown. Whatever was started is stopped
/// then, processes before servers.
pub fn run(options: Options) -> Result<()> {
    if options.once {
        interrupt::set_deadline(ONCE_LIMIT);
    }
    let workspace = Workspace::find()?;
    let home = workspace.root.join(".dev");
    fs::create_dir_all(&home).with_context(|| format!("cannot create {}", home.display()))?;
    let _lock = lock::take(&home.join("lock"))?;

    install::ensure_installed()?;
    terminal::step("starting PostgreSQL and Redis");
    let services = Services::start(&home)?;
    describe(&services);

    terminal::step("building api, worker and scheduler");
    let bin_dir = build(&workspace, options.release)?;
    let environment = Environment::prepare(&home, &services)?;

    terminal::step("bringing the schema up to date");
    migrate(&workspace, &bin_dir, &environment, services.postgres.data_dir())?;

    terminal::step("starting the Procfile's processes");
    let fleet = Fleet::start(&workspace, &bin_dir, &environment)?;
    fleet.wait_until_ready(READY_LIMIT)?;

    let shown = demo::run(&fleet, &environment)?;
    shown.print(&environment, &home);
    if options.once {
        return Ok(());
    }
    terminal::step("running; Ctrl-C stops everything");
    fleet.watch()
}

fn describe(services: &Services) {
    let Services { postgres, redis } = services;
    let user = postgres.runs_as().map(|user| format!(" as user {user}")).unwrap_or_default();
    terminal::note(format!(
        "PostgreSQL {} on 127.0.0.1:{}{user}, data in {}",
        postgres.version(),
        postgres.port(),
        postgres.data_dir().display()
    ));
    terminal::note(format!("Redis {} on 127.0.0.1:{}", redis.version(), redis.port()));
}

fn build(workspace: &Workspace, release: bool) -> Result<std::path::PathBuf> {
    let mut arguments: Vec<&str> = BINARIES.iter().flat_map(|binary| ["--package", binary]).collect();
    arguments.push("--bins");
    if release {
        arguments.push("--release");
    }
    workspace.build(&arguments)
}

fn migrate(workspace: &Workspace, bin_dir: &Path, environment: &Environment, data_dir: &Path) -> Result<()> {
    let migration = Process::builder("millwork-api migrate", bin_dir.join("millwork-api"))
        .arg("migrate")
        .envs(environment.variables())
        .current_dir(&workspace.root)
        .echo(Prefix::new("migrate", fleet::NAME_WIDTH, 5))
        .start()?;
    let status = migration.wait(MIGRATE_LIMIT)?;
    ensure!(
        status.success(),
        "{}\nif an applied migration was edited, delete {} to begin with a new database",
        migration.obituary(status),
        data_dir.display()
    );
    Ok(())
}
