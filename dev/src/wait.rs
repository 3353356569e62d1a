//! Waiting with a deadline.

use std::time::{Duration, Instant};

use crate::interrupt;

/// Asks `check` again and again until it answers with a value; its error ends the wait.
///
/// `what` completes the sentence "… did not happen within 30 s". Ctrl-C ends the wait too.
pub fn until<T>(
    what: &str,
    limit: Duration,
    mut check: impl FnMut() -> anyhow::Result<Option<T>>,
) -> anyhow::Result<T> {
    let deadline = Instant::now() + limit;
    let mut pause = Duration::from_millis(2);
    loop {
        if let Some(value) = check()? {
            return Ok(value);
        }
        interrupt::check()?;
        if Instant::now() >= deadline {
            anyhow::bail!("{what} did not happen within {} s", limit.as_secs_f32());
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(50));
    }
}

/// The same for stopping things, where Ctrl-C has happened already and there is nothing left to cut short: `None` when
/// the time is up.
pub fn at_most<T>(limit: Duration, mut check: impl FnMut() -> Option<T>) -> Option<T> {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(value) = check() {
            return Some(value);
        }
        if Instant::now() >= deadline {
            return None;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}
