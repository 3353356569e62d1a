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
        let what = format!("a 200 from {url} ({})", self.name);
        wait::until(&what, limit, || {
            if let Some(status) = self.exited() {
                bail!(self.obituary(status));
            }
            match http::get(url).timeout(Duration::from_secs(2)).send() {
                Ok(answer) if answer.status == 200 => return Ok(Some(())),
                Ok(answer) => last = format!("{} {}", answer.status, answer.text()),
                Err(error) => last = format!("{error:#}"),
            }
            Ok(None)
        })
        .with_context(|| {
            format!("{} is not ready; it answered last: {last}\nits last lines:\n{}", self.name, self.last_lines(20))
        })
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

    /// Asks, waits for `grace`, then kills: false if it had to.
    pub fn stop(&self, grace: Duration) -> Result<bool> {
        self.sigterm()?;
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
