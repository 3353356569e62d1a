//! What the tool says, and how it looks on a terminal.

use std::io::{self, IsTerminal, Write};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

const COLOURS: [&str; 6] = ["36", "35", "33", "32", "34", "31"];

static ON_STDERR: AtomicBool = AtomicBool::new(false);

/// From now on everything is said on standard error; standard output is for [`result`]s alone.
pub fn use_stderr() {
    ON_STDERR.store(true, Ordering::Relaxed);
}

pub fn is_on_stderr() -> bool {
    ON_STDERR.load(Ordering::Relaxed)
}

/// A line for programs, on standard output.
pub fn result(line: &str) {
    let mut out = io::stdout().lock();
    let _ = writeln!(out, "{line}").and_then(|()| out.flush());
}

/// Whether to colour: what is written to is a terminal and `NO_COLOR` is not set.
pub fn coloured() -> bool {
    static COLOURED: OnceLock<bool> = OnceLock::new();
    *COLOURED.get_or_init(|| {
        let refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        !refused && if is_on_stderr() { io::stderr().is_terminal() } else { io::stdout().is_terminal() }
    })
}

/// A step that begins, or its result.
pub fn step(text: impl AsRef<str>) {
    print(&painted("1", &format!("==> {}", text.as_ref())));
}

/// Detail under a step.
pub fn note(text: impl AsRef<str>) {
    for line in text.as_ref().lines() {
        print(format!("    {line}").trim_end());
    }
}

/// One line of a process's log.
pub fn log_line(prefix: &Prefix, text: &str) {
    print(&format!("{} {text}", prefix.painted));
}

/// `name |`, padded so that the logs of several processes line up.
#[derive(Debug, Clone)]
pub struct Prefix {
    painted: String,
}

impl Prefix {
    /// `index` picks the colour.
    pub fn new(name: &str, width: usize, index: usize) -> Self {
        Self { painted: painted(COLOURS[index % COLOURS.len()], &format!("{name:width$} |")) }
    }
}

fn painted(code: &str, text: &str) -> String {
    if coloured() { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
}

/// Unlike `println!`, survives a reader that has gone, as in `cargo dev up | head`.
fn print(line: &str) {
    if is_on_stderr() {
        let _ = writeln!(io::stderr(), "{line}");
        return;
    }
    let mut out = io::stdout().lock();
    let _ = writeln!(out, "{line}").and_then(|()| out.flush());
}
