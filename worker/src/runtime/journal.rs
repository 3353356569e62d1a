//! When each handler started and ended, in a file that neither PostgreSQL nor Redis knows of: the evidence of
//! `cargo dev chaos`, which sets `MILLWORK_CHAOS_JOURNAL`. In debug builds alone; what is shipped writes nothing.
//!
//! A line each, in one write, so that workers can share the file and a killed one leaves no half of a line.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::sync::OnceLock;

use millwork_shared::jobs::Outcome;
use millwork_shared::jobs::queries::Claimed;

/// The handler is about to run.
pub fn started(claimed: &Claimed) {
    if cfg!(debug_assertions) {
        write("started", claimed, "-");
    }
}

/// The handler has left. An outcome that is not `wanted` is of a job that was given back or taken away meanwhile.
pub fn ended(claimed: &Claimed, outcome: &Outcome, wanted: bool) {
    if cfg!(debug_assertions) {
        write(if wanted { "ended" } else { "unwanted" }, claimed, name(outcome));
    }
}

fn name(outcome: &Outcome) -> &'static str {
    match outcome {
        Outcome::Done(_) => "done",
        Outcome::Retry { .. } => "retry",
        Outcome::Fail(_) => "fail",
        Outcome::Cancelled => "cancelled",
        Outcome::Snooze(_) => "snooze",
    }
}

fn write(what: &str, claimed: &Claimed, how: &str) {
    let Some(mut file) = file() else { return };
    let (uptime, Claimed { id, attempt, owner, .. }) = (uptime(), claimed);
    let line = format!("{uptime} {what} {id} {attempt} {owner} {how}\n");
    if let Err(error) = file.write_all(line.as_bytes()) {
        tracing::error!(%error, "the journal cannot be written");
    }
}

fn file() -> Option<&'static File> {
    static FILE: OnceLock<Option<File>> = OnceLock::new();
    let open = || {
        let path = std::env::var_os("MILLWORK_CHAOS_JOURNAL")?;
        OpenOptions::new()
            .append(true)
            .create(true)
            .open(path)
            .inspect_err(|error| tracing::error!(%error, "the journal cannot be opened"))
            .ok()
    };
    FILE.get_or_init(open).as_ref()
}

/// Seconds since this machine started: one clock for all processes, which a step of the time of day does not move.
fn uptime() -> String {
    let text = std::fs::read_to_string("/proc/uptime").unwrap_or_default();
    text.split(' ').next().unwrap_or("0").to_owned()
}
