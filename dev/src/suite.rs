//! `cargo dev test`: servers of its own in a temporary folder, the binaries that tests of faults start, then the test
//! runner, whose closing lines are the last that is said.

use std::env;
use std::path::Path;
use std::process::{Command, ExitCode};
use std::time::Duration;

use anyhow::{Context, Result};

use crate::process::BIN_DIR;
use crate::scratch::Scratch;
use crate::services::{IdentityProviders, Services, find, install};
use crate::workspace::{self, Workspace};
use crate::{command, terminal};

const LIMIT: Duration = Duration::from_secs(60 * 60);
/// Of cargo-nextest, where it is built here.
const NEXTEST: &str = "0.9.143";

/// Runs the tests of the whole workspace, or those that `arguments` choose. The exit code is the runner's.
pub fn run(arguments: &[String]) -> Result<ExitCode> {
    let workspace = Workspace::find()?;
    let (postgres, redis) = install::ensure_installed()?;
    let node = install::ensure_node()?;

    terminal::step("building the binaries");
    let bin_dir = workspace.build(&["--workspace", "--bins"])?;

    let scratch = Scratch::new("test")?;
    let services = Services::start(scratch.path())?;
    let log = scratch.path().join("identity.log");
    let identity = IdentityProviders::start(&node, &workspace.target.join("tools"), log)?;
    terminal::step(format!(
        "PostgreSQL {} on port {}, Redis {} on port {}, OpenID providers on Node.js {} at {}, in {}",
        postgres.version,
        services.postgres.port(),
        redis.version,
        services.redis.port(),
        node.version,
        identity.issuers(),
        scratch.path().display()
    ));

    let mut runner = runner(&workspace, arguments)?;
    runner.current_dir(&workspace.root);
    runner.env("MILLWORK_TEST_DATABASE_URL", services.postgres.url());
    runner.env("MILLWORK_TEST_REDIS_URL", services.redis.url());
    runner.env("MILLWORK_TEST_OBJECTS", scratch.path().join("objects"));
    runner.env("MILLWORK_TEST_ISSUERS", identity.issuers());
    runner.env(BIN_DIR, bin_dir);
    runner.env(find::PG_BIN, &postgres.folder).env(find::REDIS_SERVER, &redis.path);
    let status = command::run_transparently(runner, LIMIT)?;
    Ok(status.code().and_then(|code| u8::try_from(code).ok()).map_or(ExitCode::FAILURE, ExitCode::from))
}

/// cargo-nextest: it gives each test a process of its own, which some need, and a limit. Where it is missing it is built
/// once, into the target folder.
fn runner(workspace: &Workspace, arguments: &[String]) -> Result<Command> {
    let mut runner = workspace::cargo();
    if !has_nextest() {
        let tools = workspace.target.join("tools");
        build_nextest(&tools)?;
        let path = env::var_os("PATH").unwrap_or_default();
        let folders = std::iter::once(tools.join("bin")).chain(env::split_paths(&path));
        runner.env("PATH", env::join_paths(folders)?);
    }
    runner.args(["nextest", "run"]);
    let package_chosen = arguments.iter().any(|word| word.starts_with("-p") || word.starts_with("--package"));
    if !package_chosen {
        runner.arg("--workspace");
    }
    runner.args(arguments);
    Ok(runner)
}

fn has_nextest() -> bool {
    let mut version = workspace::cargo();
    version.args(["nextest", "--version"]);
    command::capture(version, "", Duration::from_secs(30)).is_ok()
}

fn build_nextest(root: &Path) -> Result<()> {
    if root.join("bin/cargo-nextest").is_file() {
        return Ok(());
    }
    terminal::step("cargo-nextest not found; building it, which takes some minutes once");
    let mut install = workspace::cargo();
    install.args(["install", "cargo-nextest", "--locked", "--version", NEXTEST]);
    install.args(["--no-default-features", "--features", "default-no-update", "--root"]).arg(root);
    command::run("building cargo-nextest", install, LIMIT)
        .context("cargo-nextest runs the tests. Install it yourself (https://nexte.st) if it cannot be built here")
}
