//! Commands of others (cargo, apt-get, initdb): run with a limit, and never silent for long.

use std::io::{self, BufRead, BufReader, IsTerminal, Read, Write};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::sys::{self, Signal};
use crate::{interrupt, terminal, wait};

/// How long a command is quiet before the tool says that it is still at work.
const QUIET: Duration = Duration::from_secs(5);
const END_LIMIT: Duration = Duration::from_secs(10);

/// Runs `command` quietly with `input` and answers its standard output. What it complained of is in the error.
pub fn capture(mut command: Command, input: &str, limit: Duration) -> Result<String> {
    let name = name_of(&command);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = sys::spawn_bound(command, Signal::Kill)?;
    let output = child.stdout.take().map(read_all);
    let errors = child.stderr.take().map(read_all);
    if let Some(mut stdin) = child.stdin.take() {
        // A program that does not read its input may be gone already.
        let _ = stdin.write_all(input.as_bytes());
    }
    let status = finish(&mut child, &name, limit, || {})?;
    let errors = errors.and_then(ended).unwrap_or_default();
    ensure!(status.success(), "{name} failed ({status}): {}", errors.trim());
    Ok(output.and_then(ended).unwrap_or_default())
}

/// Runs `command` in the open. On a terminal it draws its own progress; elsewhere its lines are passed on, and `doing` is
/// repeated while it is quiet.
pub fn run(doing: &str, command: Command, limit: Duration) -> Result<()> {
    let pipe_stdout = !io::stderr().is_terminal() || terminal::is_on_stderr();
    run_shown(doing, command, limit, pipe_stdout, |progress, stdout| progress.pass_on(stdout)).map(drop)
}

/// The same for a command whose standard output is meant for programs: it is the answer.
pub fn run_and_read(doing: &str, command: Command, limit: Duration) -> Result<String> {
    run_shown(doing, command, limit, true, |_, stdout| read_all(stdout))
}

/// Runs `command` with the terminal to itself, as if it were this program, and answers how it ended.
pub fn run_transparently(command: Command, limit: Duration) -> Result<ExitStatus> {
    let name = name_of(&command);
    let mut child = sys::spawn_in_foreground(command, Signal::Terminate)?;
    finish(&mut child, &name, limit, || {})
}

fn run_shown(
    doing: &str,
    mut command: Command,
    limit: Duration,
    pipe_stdout: bool,
    read_stdout: impl FnOnce(&Progress, ChildStdout) -> JoinHandle<String>,
) -> Result<String> {
    let name = name_of(&command);
    let on_terminal = io::stderr().is_terminal();
    if pipe_stdout {
        command.stdout(Stdio::piped());
    }
    if !on_terminal {
        command.stderr(Stdio::piped());
    }
    let mut child = sys::spawn_in_foreground(command, Signal::Terminate)?;
    let progress = Progress { doing, started: Instant::now(), spoke_ms: Arc::default() };
    let stdout = child.stdout.take().map(|pipe| read_stdout(&progress, pipe));
    let stderr = child.stderr.take().map(|pipe| progress.pass_on(pipe));
    let status = finish(&mut child, &name, limit, || {
        if !on_terminal {
            progress.break_silence();
        }
    })?;
    stderr.and_then(ended);
    let output = stdout.and_then(ended).unwrap_or_default();
    ensure!(status.success(), "{name} failed ({status})");
    Ok(output)
}

/// Waits for the end, and brings it about when the time is up or the tool is to stop.
fn finish(child: &mut Child, name: &str, limit: Duration, mut meanwhile: impl FnMut()) -> Result<ExitStatus> {
    let status = wait::until(&format!("the end of {name}"), limit, || {
        meanwhile();
        child.try_wait().context("cannot wait")
    });
    if status.is_err() {
        end(child);
    }
    status
}

/// Asks first: cargo and apt-get leave things in order when asked.
fn end(child: &mut Child) {
    for signal in [Signal::Terminate, Signal::Kill] {
        let _ = sys::send(child.id(), signal);
        if wait::at_most(END_LIMIT, || child.try_wait().ok().flatten()).is_some() {
            return;
        }
    }
}

/// Passes on lines and notices silence.
struct Progress<'a> {
    doing: &'a str,
    started: Instant,
    /// When something was last said, in milliseconds after `started`.
    spoke_ms: Arc<AtomicU64>,
}

impl Progress<'_> {
    /// Its answer is empty: all has been shown.
    fn pass_on(&self, pipe: impl Read + Send + 'static) -> JoinHandle<String> {
        let (started, spoke_ms) = (self.started, self.spoke_ms.clone());
        thread::spawn(move || {
            for line in BufReader::new(pipe).split(b'\n').map_while(Result::ok) {
                spoke_ms.store(started.elapsed().as_millis() as u64, Ordering::Relaxed);
                terminal::note(String::from_utf8_lossy(&line));
            }
            String::new()
        })
    }

    fn break_silence(&self) {
        let now = self.started.elapsed();
        let quiet = now.saturating_sub(Duration::from_millis(self.spoke_ms.load(Ordering::Relaxed)));
        if quiet >= QUIET && interrupt::check().is_ok() {
            self.spoke_ms.store(now.as_millis() as u64, Ordering::Relaxed);
            terminal::note(format!("… {}, {} s", self.doing, now.as_secs()));
        }
    }
}

fn read_all(mut pipe: impl Read + Send + 'static) -> JoinHandle<String> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        let _ = pipe.read_to_end(&mut bytes);
        String::from_utf8_lossy(&bytes).into_owned()
    })
}

/// What a reader of a process that has ended read. A daemon that the process left behind may hold the pipe open for ever;
/// then the reader is left to itself.
fn ended(reader: JoinHandle<String>) -> Option<String> {
    wait::at_most(Duration::from_secs(5), || reader.is_finished().then_some(()))?;
    reader.join().ok()
}

fn name_of(command: &Command) -> String {
    let program = Path::new(command.get_program()).file_name().unwrap_or(command.get_program());
    let first = command.get_args().next().filter(|argument| !argument.as_encoded_bytes().starts_with(b"/"));
    std::iter::once(program).chain(first).map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
}
