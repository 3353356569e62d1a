//! What a process writes: kept, and passed on to a file and the terminal.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use crate::terminal::{self, Prefix};
use crate::wait;

const KEPT_LINES: usize = 500;

#[derive(Debug)]
pub(super) struct Sinks {
    pub file: Option<Mutex<File>>,
    pub echo: Option<Prefix>,
}

#[derive(Debug)]
pub(super) struct Log {
    lines: Mutex<VecDeque<String>>,
    sinks: Sinks,
    /// Pipes that are still open.
    open: AtomicUsize,
}

impl Log {
    pub fn new(sinks: Sinks) -> Self {
        Self { lines: Mutex::default(), sinks, open: AtomicUsize::new(0) }
    }

    /// Reads `pipe` to its end on a thread of its own.
    pub fn follow(self: &Arc<Self>, pipe: impl Read + Send + 'static) {
        self.open.fetch_add(1, Ordering::SeqCst);
        let log = self.clone();
        thread::spawn(move || {
            for line in BufReader::new(pipe).split(b'\n').map_while(Result::ok) {
                log.take(String::from_utf8_lossy(&line).trim_end_matches('\r'));
            }
            log.open.fetch_sub(1, Ordering::SeqCst);
        });
    }

    fn take(&self, line: &str) {
        if let Some(prefix) = &self.sinks.echo {
            terminal::log_line(prefix, line);
        }
        if let Some(file) = &self.sinks.file {
            let _ = writeln!(file.lock().unwrap_or_else(PoisonError::into_inner), "{line}");
        }
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        if lines.len() == KEPT_LINES {
            lines.pop_front();
        }
        lines.push_back(line.to_owned());
    }

    /// After the process has ended: waits a moment for what is still in the pipes.
    pub fn settle(&self) {
        wait::at_most(Duration::from_secs(1), || (self.open.load(Ordering::SeqCst) == 0).then_some(()));
    }

    pub fn last_lines(&self, count: usize) -> String {
        let lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        let skipped = lines.len().saturating_sub(count);
        lines.iter().skip(skipped).map(String::as_str).collect::<Vec<_>>().join("\n")
    }
}
