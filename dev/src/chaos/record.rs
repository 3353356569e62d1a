//! Evidence in files that only grow: what clients were told, what was done in the world outside. None of it is in
//! PostgreSQL or Redis.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, Result};

/// Seconds since this machine started, to a hundredth: one clock for all processes, which a step of the time of day does
/// not move.
pub fn uptime() -> f64 {
    let text = std::fs::read_to_string("/proc/uptime").unwrap_or_default();
    text.split(' ').next().and_then(|seconds| seconds.parse().ok()).unwrap_or(f64::NAN)
}

/// A file to which lines are added, each with its time.
#[derive(Debug)]
pub struct Record {
    file: Mutex<File>,
    synced: bool,
}

impl Record {
    /// Each line is on disk before it counts, as with a client that acts on what it was told.
    pub fn synced(path: &Path) -> Result<Self> {
        Self::open(path, true)
    }

    pub fn plain(path: &Path) -> Result<Self> {
        Self::open(path, false)
    }

    fn open(path: &Path, synced: bool) -> Result<Self> {
        let file = OpenOptions::new().append(true).create(true).open(path);
        let file = Mutex::new(file.with_context(|| format!("cannot write {}", path.display()))?);
        Ok(Self { file, synced })
    }

    /// Adds a line.
    pub fn add(&self, words: &str) -> Result<()> {
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        file.write_all(format!("{} {words}\n", uptime()).as_bytes())?;
        if self.synced {
            file.sync_data()?;
        }
        Ok(())
    }
}

/// The lines of a record: time and words. A last line that was cut off is none.
pub fn read(path: &Path) -> Result<Vec<(f64, Vec<String>)>> {
    let text = match std::fs::read_to_string(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
        other => other.with_context(|| format!("cannot read {}", path.display()))?,
    };
    let lines = text.split_inclusive('\n').filter_map(|line| line.strip_suffix('\n'));
    lines
        .map(|line| {
            let mut words = line.split(' ').map(str::to_owned);
            let time = words.next().and_then(|word| word.parse().ok());
            Ok((time.with_context(|| format!("{}: {line:?} is no line of a record", path.display()))?, words.collect()))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scratch::Scratch;

    #[test]
    fn what_was_added_is_read_and_half_a_line_is_not() {
        let scratch = Scratch::new("record").unwrap();
        let path = scratch.path().join("record");
        assert!(read(&path).unwrap().is_empty());
        let before = uptime();
        Record::synced(&path).unwrap().add("accepted a 1").unwrap();
        Record::plain(&path).unwrap().add("accepted b 2").unwrap();
        OpenOptions::new().append(true).open(&path).unwrap().write_all(b"12.5 accep").unwrap();
        let lines = read(&path).unwrap();
        let words: Vec<String> = lines.iter().map(|(_, words)| words.join(" ")).collect();
        assert_eq!(words, ["accepted a 1", "accepted b 2"]);
        assert!(lines.iter().all(|(time, _)| *time >= before));
    }
}
