use std::ffi::{OsStr, OsString};
use std::fs::OpenOptions;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};

use anyhow::{Context, Result};

use super::Process;
use super::log::{Log, Sinks};
use crate::sys::{self, Signal};
use crate::terminal::Prefix;

/// What a process without inherited environment still gets: how to find programs, home and time zone, and what governs
/// Rust's own diagnostics.
const KEPT: [&str; 9] =
    ["PATH", "HOME", "TMPDIR", "TZ", "LANG", "LD_LIBRARY_PATH", "RUST_BACKTRACE", "RUST_LOG", "NO_COLOR"];

/// How to start a [`Process`].
#[derive(Debug)]
pub struct Builder {
    name: String,
    command: Command,
    log_file: Option<PathBuf>,
    echo: Option<Prefix>,
}

impl Builder {
    pub(super) fn new(name: &str, program: PathBuf) -> Self {
        Self { name: name.to_owned(), command: Command::new(program), log_file: None, echo: None }
    }

    pub fn arg(mut self, argument: impl AsRef<OsStr>) -> Self {
        self.command.arg(argument);
        self
    }

    pub fn args(mut self, arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Self {
        self.command.args(arguments);
        self
    }

    pub fn env(mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    pub fn envs(mut self, variables: impl IntoIterator<Item = (impl AsRef<OsStr>, impl AsRef<OsStr>)>) -> Self {
        self.command.envs(variables);
        self
    }

    /// Inherits nothing that could configure Millwork, so that a variable of the developer's shell changes no test. Call
    /// it before `env`.
    pub fn clean_env(mut self) -> Self {
        let kept: Vec<(&str, OsString)> =
            KEPT.iter().filter_map(|name| Some((*name, std::env::var_os(name)?))).collect();
        self.command.env_clear().envs(kept);
        self
    }

    pub fn current_dir(mut self, folder: impl AsRef<std::path::Path>) -> Self {
        self.command.current_dir(folder);
        self
    }

    /// Adds everything it writes to this file too.
    pub fn log_to(mut self, file: impl Into<PathBuf>) -> Self {
        self.log_file = Some(file.into());
        self
    }

    /// Prints everything it writes, line by line behind `prefix`.
    pub fn echo(mut self, prefix: Prefix) -> Self {
        self.echo = Some(prefix);
        self
    }

    pub fn start(self) -> Result<Process> {
        let Self { name, mut command, log_file, echo } = self;
        let file = log_file
            .map(|path| {
                let file = OpenOptions::new().append(true).create(true).open(&path);
                file.with_context(|| format!("cannot write {}", path.display()))
            })
            .transpose()?;
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = sys::spawn_bound(command, Signal::Kill).with_context(|| format!("{name} does not start"))?;
        let log = Arc::new(Log::new(Sinks { file: file.map(Mutex::new), echo }));
        if let Some(stdout) = child.stdout.take() {
            log.follow(stdout);
        }
        if let Some(stderr) = child.stderr.take() {
            log.follow(stderr);
        }
        Ok(Process { name, pid: child.id(), child: Mutex::new(child), log })
    }
}
