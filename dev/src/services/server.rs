//! What both servers have in common: a child process with a log file, and an end.

use std::fs;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context, Result};

use crate::sys::{self, Signal};
use crate::wait;

#[derive(Debug)]
pub(super) struct Server {
    child: Child,
    log: PathBuf,
}

impl Server {
    /// Starts `command` with its output added to `log`. It receives `orphaned` if this process dies.
    pub fn start(mut command: Command, log: &Path, orphaned: Signal) -> Result<Self> {
        let file = fs::OpenOptions::new()
            .append(true)
            .create(true)
            .open(log)
            .with_context(|| format!("cannot write {}", log.display()))?;
        command.stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file);
        Ok(Self { child: sys::spawn_bound(command, orphaned)?, log: log.to_owned() })
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn exited(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// Sends `signal` and waits for the end, of a process held still too; false if it did not come within `grace`.
    pub fn end(&mut self, signal: Signal, grace: Duration) -> bool {
        let _ = self.send(signal).and_then(|()| self.send(Signal::Continue));
        wait::at_most(grace, || self.exited()).is_some()
    }

    /// Never signals a process that has been waited for: its id may be another's by now.
    pub fn send(&mut self, signal: Signal) -> Result<()> {
        if self.exited().is_none() {
            sys::send(self.pid(), signal)
                .with_context(|| format!("cannot send {signal:?} to process {}", self.pid()))?;
        }
        Ok(())
    }

    /// The end of the log, for error messages.
    pub fn last_lines(&self) -> String {
        last_lines(&self.log)
    }
}

impl Drop for Server {
    /// Only a server whose start failed comes here alive.
    fn drop(&mut self) {
        self.end(Signal::Kill, Duration::from_secs(10));
    }
}

/// Forgets what an earlier run logged.
pub(super) fn begin_log(log: &Path) -> Result<()> {
    fs::write(log, "").with_context(|| format!("cannot write {}", log.display()))
}

fn last_lines(log: &Path) -> String {
    const BYTES: u64 = 4096;
    let mut tail = Vec::new();
    let read = fs::File::open(log).and_then(|mut file| {
        let length = file.seek(SeekFrom::End(0))?;
        file.seek(SeekFrom::Start(length.saturating_sub(BYTES)))?;
        file.read_to_end(&mut tail)
    });
    match read {
        Ok(_) => String::from_utf8_lossy(&tail).trim_end().to_owned(),
        Err(error) => format!("(no log: {error})"),
    }
}
