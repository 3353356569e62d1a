//! Millwork's own processes: started with a chosen environment, watched, held still, killed.
//!
//! ```no_run
//! # fn main() -> anyhow::Result<()> {
//! use std::time::Duration;
//! use millwork_dev::process::{Process, binary};
//! let worker = Process::builder("worker", binary("millwork-worker")?)
//!     .env("WORKER_ADDR", "127.0.0.1:18081")
//!     .log_to("/tmp/worker.log")
//!     .start()?;
//! worker.wait_until_ok("http://127.0.0.1:18081/health/ready", Duration::from_secs(30))?;
//! worker.kill9()?;
//! # Ok(())
//! # }
//! ```

use std::path::PathBuf;
use std::process::{Child, ExitStatus};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use crate::sys::{self, Signal};
use crate::{http, wait};

pub use builder::Builder;
use log::Log;

mod builder;
mod log;

const KILL_LIMIT: Duration = Duration::from_secs(10);

/// A running process. Killed on drop, and dies with this one.
#[derive(Debug)]
pub struct Process {
    name: String,
    pid: u32,
    child: Mutex<Child>,
    log: Arc<Log>,
}

impl Process {
    /// `name` is for messages and the log's prefix.
    pub fn builder(name: &str, program: impl Into<PathBuf>) -> Builder {
        Builder::new(name, program.into())
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// How it ended; `None` while it runs.
    pub fn exited(&self) -> Option<ExitStatus> {
        self.child().try_wait().ok().flatten()
    }

    /// Waits for its end, by itself or after a signal.
    pub fn wait(&self, limit: Duration) -> Result<ExitStatus> {
        let status = wait::until(&format!("the end of {}", self.name), limit, || Ok(self.exited()))?;
        self.log.settle();
        Ok(status)
    }

    /// Waits until a GET of `url` answers 200. Ends early, with the last log lines, when the process does.
    pub fn wait_until_ok(&self, url: &str, limit: Duration) -> Result<()> {
        let mut last = String::new();
        let ready = wait::until(&format!("a 200 from {url}"), limit, || {
            if let Some(status) = self.exited() {
                bail!(self.obituary(status));
            }
            let refusal = refusal(url);
            last = refusal.clone().unwrap_or_default();
            Ok(refusal.is_none().then_some(()))
        });
        ready.map_err(|error| if self.exited().is_some() { error } else { error.context(self.not_ready(&last)) })
    }

    /// What to say of a process that runs and does not get ready.
    pub fn not_ready(&self, answered: &str) -> String {
        format!("{} does not get ready: {answered}\nits last lines:\n{}", self.name, self.last_lines(40))
    }

    /// What to say of a process that has ended unasked.
    pub fn obituary(&self, status: ExitStatus) -> String {
        self.log.settle();
        format!("{} ended with {status}; its last lines:\n{}", self.name, self.last_lines(40))
    }

    /// The newest lines it wrote to standard output and error, oldest first. Some hundreds are kept.
    pub fn last_lines(&self, count: usize) -> String {
        self.log.last_lines(count)
    }

    /// Asks it to end (SIGTERM).
    pub fn sigterm(&self) -> Result<()> {
        self.send(Signal::Terminate)
    }

    /// Holds it still: it keeps its connections and does nothing, like a machine that hangs.
    pub fn sigstop(&self) -> Result<()> {
        self.send(Signal::Stop)
    }

    /// Ends a [`sigstop`](Self::sigstop).
    pub fn sigcont(&self) -> Result<()> {
        self.send(Signal::Continue)
    }

    /// Kills it (SIGKILL) and waits until it is gone.
    pub fn kill9(&self) -> Result<()> {
        self.send(Signal::Kill)?;
        ensure!(wait::at_most(KILL_LIMIT, || self.exited()).is_some(), "{} does not end by SIGKILL", self.name);
        Ok(())
    }

    /// Asks it to end, waits for `grace`, then kills it: false if it came to that.
    pub fn stop(&self, grace: Duration) -> Result<bool> {
        self.sigterm()?;
        self.wait_or_kill(grace)
    }

    /// The rest of [`stop`](Self::stop), for a process that was asked already.
    pub fn wait_or_kill(&self, grace: Duration) -> Result<bool> {
        let obeyed = wait::at_most(grace, || self.exited()).is_some();
        if !obeyed {
            self.kill9()?;
        }
        self.log.settle();
        Ok(obeyed)
    }

    /// Under the lock, and only while it has not been waited for, so that no other process can have its id.
    fn send(&self, signal: Signal) -> Result<()> {
        let mut child = self.child();
        if child.try_wait()?.is_none() {
            sys::send(self.pid, signal).with_context(|| format!("cannot send {signal:?} to {}", self.name))?;
        }
        Ok(())
    }

    fn child(&self) -> MutexGuard<'_, Child> {
        self.child.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.kill9();
    }
}

/// Why a GET of `url` is no 200 just now; `None` when it is one.
pub fn refusal(url: &str) -> Option<String> {
    match http::get(url).timeout(Duration::from_secs(2)).send() {
        Ok(answer) if answer.status == 200 => None,
        Ok(answer) => Some(format!("it answered {} {}", answer.status, answer.text())),
        Err(error) => Some(format!("{error:#}")),
    }
}

/// The built binary `name`: in `MILLWORK_TEST_BIN_DIR`, which `cargo dev test` sets, else beside the running test.
pub fn binary(name: &str) -> Result<PathBuf> {
    let path = bin_dir()?.join(name);
    ensure!(
        path.is_file(),
        "{} is not built; run the tests with `cargo dev test`, or `cargo build --workspace --bins` before them",
        path.display()
    );
    Ok(path)
}

/// Names the folder with the built binaries.
pub const BIN_DIR: &str = "MILLWORK_TEST_BIN_DIR";

fn bin_dir() -> Result<PathBuf> {
    if let Some(folder) = std::env::var_os(BIN_DIR) {
        return Ok(folder.into());
    }
    // target/debug/deps/<test>
    let test = std::env::current_exe().context("cannot tell where this program is")?;
    let folder = test.ancestors().nth(2).with_context(|| format!("{BIN_DIR} is not set"))?;
    Ok(folder.to_owned())
}
