//! The processes PostgreSQL consists of. Each has a process group of its own, so that only parentage ties them together.

use crate::sys;

/// Ids of the live children of `parent`.
pub fn children_of(parent: u32) -> Vec<u32> {
    listing().into_iter().filter(|process| process.parent == parent).map(|process| process.pid).collect()
}

/// Whether the process holds resources still: it exists and is no zombie.
pub fn runs(pid: u32) -> bool {
    sys::exists(pid) && listing().iter().any(|process| process.pid == pid)
}

struct Running {
    pid: u32,
    parent: u32,
}

#[cfg(target_os = "linux")]
fn listing() -> Vec<Running> {
    let pids = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = pids.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    pids.filter_map(|pid| running(pid, &std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)).collect()
}

/// From a line of /proc/pid/stat: `pid (name, which may hold anything) state parent …`.
#[cfg(target_os = "linux")]
fn running(pid: u32, stat: &str) -> Option<Running> {
    let mut fields = stat.rsplit_once(") ")?.1.split(' ');
    fields.next().filter(|state| !["Z", "X"].contains(state))?;
    Some(Running { pid, parent: fields.next()?.parse().ok()? })
}

#[cfg(not(target_os = "linux"))]
fn listing() -> Vec<Running> {
    let output = std::process::Command::new("ps").args(["-A", "-o", "pid=,ppid=,state="]).output();
    let text = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
    text.lines()
        .filter_map(|line| {
            let mut fields = line.split_whitespace();
            let (pid, parent) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
            fields.next().filter(|state| !state.starts_with('Z'))?;
            Some(Running { pid, parent })
        })
        .collect()
}
