//! OpenID providers for the tests: a program on Node.js, with the library that many real ones are made of.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};

use super::find::Node;
use super::ports;
use crate::process::Process;
use crate::{command, terminal};

/// The folder dev/identity, as this tool was built with it.
const FILES: [(&str, &str); 3] = [
    ("package.json", include_str!("../../identity/package.json")),
    (LOCK, include_str!("../../identity/package-lock.json")),
    ("provider.mjs", include_str!("../../identity/provider.mjs")),
];
const LOCK: &str = "package-lock.json";
/// What npm leaves when it is done.
const INSTALLED: &str = "node_modules/.package-lock.json";
const INSTALL_LIMIT: Duration = Duration::from_secs(5 * 60);
const READY_LIMIT: Duration = Duration::from_secs(60);

/// Two running issuers: the second puts mail and name into the ID token, the first does not.
#[derive(Debug)]
pub struct IdentityProviders {
    _process: Process,
    issuers: [String; 2],
}

impl IdentityProviders {
    /// Starts them, their libraries installed in `tools` if they are not.
    pub fn start(node: &Node, tools: &Path, log: PathBuf) -> Result<Self> {
        let folder = tools.join("identity");
        install(node, &folder)?;
        let ports = [ports::free()?, ports::free()?];
        let issuers = ports.map(|port| format!("http://127.0.0.1:{port}"));
        let process = Process::builder("identity", &node.program)
            .clean_env()
            .arg(folder.join("provider.mjs"))
            .args(ports.map(|port| port.to_string()))
            .current_dir(&folder)
            .log_to(log)
            .start()?;
        for issuer in &issuers {
            process.wait_until_ok(&format!("{issuer}/.well-known/openid-configuration"), READY_LIMIT)?;
        }
        Ok(Self { _process: process, issuers })
    }

    /// Separated by a comma, as the tests are told.
    pub fn issuers(&self) -> String {
        self.issuers.join(",")
    }
}

fn install(node: &Node, folder: &Path) -> Result<()> {
    let locked = fs::read_to_string(folder.join(LOCK)).ok();
    let done = folder.join(INSTALLED).is_file() && locked.as_deref() == Some(FILES[1].1);
    fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
    for (name, text) in FILES {
        fs::write(folder.join(name), text).with_context(|| format!("cannot write {name}"))?;
    }
    if done {
        return Ok(());
    }
    terminal::step("installing the identity provider of the tests");
    let mut npm = Command::new(&node.npm);
    npm.args(["ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"]).current_dir(folder);
    command::run("installing the identity provider", npm, INSTALL_LIMIT)
        .context("the identity provider of the tests cannot be installed")
}
