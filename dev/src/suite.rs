//! `cargo dev test`: servers of its own in a temporary folder, the binaries that tests of faults start, then the test
//! runner, whose closing lines are the last that is said.

use std::process::{Command, ExitCode};
use std::time::Duration;

use anyhow::Result;

use crate::process::BIN_DIR;
use crate::scratch::Scratch;
use crate::services::{Services, find, install};
use crate::workspace::{self, Workspace};
use crate::{command, terminal};

const LIMIT: Duration = Duration::from_secs(60 * 60);

/// Runs the tests of the whole workspace, or those that `arguments` choose. The exit code is the runner's.
pub fn run(arguments: &[String]) -> Result<ExitCode> {
    let workspace = Workspace::find()?;
    let (postgres, redis) = install::ensure_installed()?;

    terminal::step("building the binaries");
    let bin_dir = workspace.build(&["--workspace", "--bins"])?;

    let scratch = Scratch::new("test")?;
    let services = Services::start(scratch.path())?;
    terminal::step(format!(
        "PostgreSQL {} on port {}, Redis {} on port {}, in {}",
        postgres.version,
        services.postgres.port(),
        redis.version,
        services.redis.port(),
        scratch.path().display()
    ));

    let mut runner = runner(arguments);
    runner.current_dir(&workspace.root);
    runner.env("MILLWORK_TEST_DATABASE_URL", services.postgres.url());
    runner.env("MILLWORK_TEST_REDIS_URL", services.redis.url());
    runner.env(BIN_DIR, bin_dir);
    runner.env(find::PG_BIN, &postgres.folder).env(find::REDIS_SERVER, &redis.path);
    let status = command::run_transparently(runner, LIMIT)?;
    Ok(status.code().and_then(|code| u8::try_from(code).ok()).map_or(ExitCode::FAILURE, ExitCode::from))
}

/// cargo-nextest where it is installed: it gives each test a process of its own and a limit.
fn runner(arguments: &[String]) -> Command {
    let mut runner = workspace::cargo();
    if has_nextest() {
        runner.args(["nextest", "run"]);
    } else {
        runner.arg("test");
    }
    let package_chosen = arguments.iter().any(|word| word.starts_with("-p") || word.starts_with("--package"));
    if !package_chosen {
        runner.arg("--workspace");
    }
    runner.args(arguments);
    runner
}

fn has_nextest() -> bool {
    let mut version = workspace::cargo();
    version.args(["nextest", "--version"]);
    command::capture(version, "", Duration::from_secs(30)).is_ok()
}
