//! Ctrl-C and the overall deadline, seen by every wait.
//!
//! The tool installs this once; in tests of other crates nothing is installed and `check` always says to go on.

use std::fmt;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicI32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::sys;

static CAUGHT: AtomicI32 = AtomicI32::new(0);
static CAUGHT_AT_MS: AtomicU64 = AtomicU64::new(0);
static INSTALLED: OnceLock<Instant> = OnceLock::new();
static DEADLINE: OnceLock<(Instant, Duration)> = OnceLock::new();

/// The user, or whoever runs the tool, asked it to stop. The exit code is the shell's: 128 + signal.
#[derive(Debug)]
pub struct Interrupted {
    pub signal: i32,
}

impl fmt::Display for Interrupted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.signal {
            libc::SIGINT => f.write_str("stopped by Ctrl-C"),
            signal => write!(f, "stopped by signal {signal}"),
        }
    }
}

impl std::error::Error for Interrupted {}

/// From now on Ctrl-C and SIGTERM make the current wait fail, and with that everything is stopped in order. A second
/// one, a second or more later, ends the tool at once; its children die with it.
pub fn install() -> anyhow::Result<()> {
    INSTALLED.get_or_init(Instant::now);
    sys::on_termination(caught)?;
    Ok(())
}

/// Makes every wait fail once `limit` has passed.
pub fn set_deadline(limit: Duration) {
    let _ = DEADLINE.set((Instant::now() + limit, limit));
}

/// Fails when the tool is to stop. Long loops call this.
pub fn check() -> anyhow::Result<()> {
    match CAUGHT.load(Ordering::Relaxed) {
        0 => {}
        signal => return Err(Interrupted { signal }.into()),
    }
    match DEADLINE.get() {
        Some((at, limit)) if Instant::now() >= *at => {
            anyhow::bail!("not finished within the overall limit of {} minutes", limit.as_secs() / 60)
        }
        _ => Ok(()),
    }
}

extern "C" fn caught(signal: libc::c_int) {
    // Zero means "never", hence the 1. Some callers send the same signal to the process and to its group: those two
    // arrive together and count as one.
    let now_ms = INSTALLED.get().map_or(1, |start| start.elapsed().as_millis() as u64 + 1);
    let first_ms = CAUGHT_AT_MS.load(Ordering::Relaxed);
    if first_ms != 0 && now_ms > first_ms + 1000 {
        sys::exit_now(128 + signal);
    }
    if first_ms == 0 {
        CAUGHT_AT_MS.store(now_ms, Ordering::Relaxed);
        CAUGHT.store(signal, Ordering::Relaxed);
    }
}
