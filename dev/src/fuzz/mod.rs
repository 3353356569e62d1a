//! `cargo dev fuzz`: requests made up from the OpenAPI document, good and bad, against a real API over fresh servers.
//!
//! [Schemathesis](https://schemathesis.io) makes them up. No answer may be a 5xx, or other than the document says.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;

use crate::process::Process;
use crate::scratch::Scratch;
use crate::services::{Services, install, ports};
use crate::workspace::Workspace;
use crate::{command, http, secret, terminal};

/// What is installed, to the last dependency: the same seed must make up the same requests next year.
const REQUIREMENTS: &str = include_str!("requirements.txt");
const INSTALL_LIMIT: Duration = Duration::from_secs(10 * 60);
const READY_LIMIT: Duration = Duration::from_secs(60);
/// The rest of a run of so many seconds: finding what fails smallest, say.
const BEYOND: Duration = Duration::from_secs(5 * 60);
/// What would end the session that asks, or keep answering; and what takes so long a code that an address with a longer
/// one is refused before it is read, by a 414, which Schemathesis does not take for a refusal.
const LEFT_OUT: [&str; 5] =
    ["auth.logout", "auth.logout_all", "auth.end_sessions", "jobs.events", "auth.oauth_callback"];
/// The one check that is no promise of ours: much that fits its schema is refused by rules that no schema can say, such
/// as that a time is in the future, or that a password is not guessed first.
const NOT_CHECKED: &str = "positive_data_acceptance";

/// What to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    pub seed: u64,
    /// Requests made up for each operation, besides those at the edges of its schema.
    pub examples: u32,
    /// Further arguments for Schemathesis.
    pub arguments: Vec<String>,
}

impl Options {
    /// # Errors
    /// Says which argument is not understood.
    pub fn parse(arguments: &[String]) -> Result<Self> {
        let mut options = Self { seed: 1, examples: 40, arguments: Vec::new() };
        let mut arguments = arguments.iter();
        while let Some(argument) = arguments.next() {
            let mut number = || arguments.next().and_then(|text| text.parse().ok());
            match argument.as_str() {
                "--seed" => options.seed = number().context("--seed takes a number")?,
                "--examples" => {
                    let examples: u64 =
                        number().filter(|n| (1..=100_000).contains(n)).context("--examples takes a number")?;
                    options.examples = u32::try_from(examples)?;
                }
                "--" => options.arguments.extend(arguments.by_ref().cloned()),
                other => bail!("`cargo dev fuzz` does not take {other:?}; `cargo dev --help` lists what it takes"),
            }
        }
        Ok(options)
    }
}

/// Asks the API. The exit code says whether every answer was right.
pub fn run(options: &Options) -> Result<ExitCode> {
    let workspace = Workspace::find()?;
    install::ensure_installed()?;
    let schemathesis = installed(&workspace.target.join("tools"))?;
    terminal::step("building the binaries");
    let bin_dir = workspace.build(&["--workspace", "--bins"])?;
    let scratch = Scratch::new("fuzz")?;
    let services = Services::start(scratch.path())?;
    let address = format!("127.0.0.1:{}", ports::free()?);
    let environment = [
        ("DATABASE_URL", services.postgres.url()),
        ("REDIS_URL", services.redis.url()),
        ("MASTER_KEYS", format!("k1:{}", STANDARD.encode(secret::random::<32>()?))),
        ("API_ADDR", address.clone()),
        ("AUTH_RATE_LIMIT", "1000000".to_owned()),
        ("LOG_FORMAT", "json".to_owned()),
        ("RUST_LOG", "warn".to_owned()),
    ];
    let start = |name: &str, arguments: &[&str]| {
        let process =
            Process::builder(name, bin_dir.join("millwork-api")).clean_env().envs(environment.iter().cloned());
        process.args(arguments).current_dir(scratch.path()).log_to(scratch.path().join("api.log")).start()
    };
    let migration = start("migrate", &["migrate"])?;
    let status = migration.wait(READY_LIMIT)?;
    ensure!(status.success(), migration.obituary(status));
    let api = start("api", &[])?;
    api.wait_until_ok(&format!("http://{address}/health/ready"), READY_LIMIT)?;

    terminal::step(format!("asking http://{address}, seed {}", options.seed));
    let status = command::run_transparently(
        asking(&schemathesis, &format!("http://{address}"), options, scratch.path())?,
        BEYOND + Duration::from_secs(u64::from(options.examples)),
    )?;
    ensure!(api.exited().is_none(), "the API has ended: {}", api.last_lines(40));
    if !status.success() {
        terminal::note(format!("what the API logged:\n{}", api.last_lines(40)));
    }
    Ok(status.code().and_then(|code| u8::try_from(code).ok()).map_or(ExitCode::FAILURE, ExitCode::from))
}

/// The command that asks, as the owner of a fresh tenant.
fn asking(schemathesis: &Path, api: &str, options: &Options, scratch: &Path) -> Result<Command> {
    let owner = json!({
        "tenant_name": "Fuzz", "name": "Owner", "email": "owner@example.com", "password": secret::password()?,
    });
    let session = http::post(&format!("{api}/api/v1/auth/register")).json(&owner).send()?.expect(201)?;
    let token = session["data"]["access_token"].as_str().context("registration gave no token")?;
    let mut command = Command::new(schemathesis);
    command.current_dir(scratch).arg("run").arg(format!("{api}/api/v1/openapi.json"));
    command.args(["--url", &format!("{api}/api/v1")]);
    command.args(["--header", &format!("Authorization: Bearer {token}")]);
    command.args(["--seed", &options.seed.to_string(), "--generation-database", "none"]);
    command.args(["--max-examples", &options.examples.to_string(), "--workers", "1"]);
    command.args(["--phases", "examples,coverage,fuzzing", "--request-timeout", "20"]);
    command.args(["--checks", "all", "--exclude-checks", NOT_CHECKED]);
    command.args(["--suppress-health-check", "all", "--warnings", "off", "--continue-on-failure"]);
    for operation in LEFT_OUT {
        command.args(["--exclude-operation-id", operation]);
    }
    command.args(&options.arguments);
    Ok(command)
}

/// Schemathesis in an environment of its own, made once for these requirements.
fn installed(tools: &Path) -> Result<PathBuf> {
    let folder = tools.join("schemathesis");
    let (program, done) = (folder.join("bin/schemathesis"), folder.join("requirements.txt"));
    if program.is_file() && std::fs::read_to_string(&done).is_ok_and(|text| text == REQUIREMENTS) {
        return Ok(program);
    }
    terminal::step("installing Schemathesis into the target folder, once");
    std::fs::create_dir_all(tools)?;
    let mut make = Command::new("python3");
    make.args(["-m", "venv", "--clear"]).arg(&folder);
    command::run("making an environment for Python", make, INSTALL_LIMIT).context(
        "Schemathesis needs Python 3.10 or newer with its module venv (on Debian, the package python3-venv)",
    )?;
    let wanted = folder.join("wanted.txt");
    std::fs::write(&wanted, REQUIREMENTS)?;
    let mut install = Command::new(folder.join("bin/pip"));
    install.args(["install", "--quiet", "--disable-pip-version-check", "--requirement"]).arg(&wanted);
    command::run("installing Schemathesis", install, INSTALL_LIMIT)?;
    std::fs::rename(&wanted, &done)?; // last, so that an install that broke off is done again
    Ok(program)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_read_and_the_rest_is_passed_on() {
        let parse = |text: &str| Options::parse(&text.split_whitespace().map(str::to_owned).collect::<Vec<_>>());
        assert_eq!(parse("").unwrap(), Options { seed: 1, examples: 40, arguments: Vec::new() });
        let options = parse("--seed 7 --examples 200 -- --include-path /jobs").unwrap();
        assert_eq!((options.seed, options.examples), (7, 200));
        assert_eq!(options.arguments, ["--include-path", "/jobs"]);
        for bad in ["--seed", "--seed x", "--examples 0", "/jobs"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
