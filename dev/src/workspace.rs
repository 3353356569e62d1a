//! This checkout as cargo sees it, and building it.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::Value;

use crate::command;

/// From nothing, on a small machine.
const BUILD_LIMIT: Duration = Duration::from_secs(60 * 60);

#[derive(Debug, Clone)]
pub struct Workspace {
    pub root: PathBuf,
    pub target: PathBuf,
}

impl Workspace {
    /// The workspace that the current folder belongs to.
    pub fn find() -> Result<Self> {
        let mut metadata = cargo();
        metadata.args(["metadata", "--no-deps", "--format-version", "1"]);
        let answer: Value = serde_json::from_str(&command::capture(metadata, "", Duration::from_secs(120))?)?;
        let path = |field: &str| Some(PathBuf::from(answer[field].as_str()?));
        let (root, target) =
            path("workspace_root").zip(path("target_directory")).context("cargo metadata names no folders")?;
        Ok(Self { root, target })
    }

    /// Builds with `arguments` and answers the folder that holds the binaries.
    pub fn build(&self, arguments: &[&str]) -> Result<PathBuf> {
        let mut build = cargo();
        build.arg("build").args(arguments).arg("--message-format=json-render-diagnostics").current_dir(&self.root);
        let messages = command::run_and_read("building", build, BUILD_LIMIT)?;
        messages.lines().find_map(folder_of_binary).context("cargo built no binary of Millwork")
    }
}

/// Cargo says where it put each binary, which depends on profile, target and configuration.
fn folder_of_binary(message: &str) -> Option<PathBuf> {
    let message: Value = serde_json::from_str(message).ok()?;
    let executable = Path::new(message["executable"].as_str()?);
    message["target"]["name"].as_str()?.starts_with("millwork-").then(|| executable.parent().map(Path::to_owned))?
}

/// Cargo as the user would call it: without what `cargo run` tells the tool about itself, which would make cargo build
/// things anew.
pub fn cargo() -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    for (name, _) in env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("CARGO_PKG_") || text.starts_with("CARGO_MANIFEST_") || text == "CARGO" {
            command.env_remove(&name);
        }
    }
    command
}
