//! How much of the processors each part used, and how much went to programs that have no part in this.
//!
//! Read from /proc, so Linux alone: elsewhere nothing is told.

use std::collections::HashMap;
use std::fs;
use std::time::Instant;

use serde_json::{Map, Value};

use super::figure::Figure;

/// Linux tells processor time in hundredths of a second, whatever its own clock.
const MS_PER_TICK: f64 = 10.0;

/// A part of the system: its name and its processes, with or without their children.
#[derive(Debug, Clone)]
pub struct Part {
    pub name: &'static str,
    pub pid: u32,
    /// PostgreSQL serves every connection with a process of its own.
    pub with_children: bool,
}

/// Processor time of every part up to a moment.
#[derive(Debug)]
pub struct Meter {
    parts: Vec<Part>,
    at: Instant,
    used_ms: Vec<f64>,
    busy_ms: f64,
}

impl Meter {
    /// Starts measuring `parts`; this process, with the load generator it starts, is added as `load`.
    pub fn start(mut parts: Vec<Part>) -> Self {
        parts.push(Part { name: "load", pid: std::process::id(), with_children: false });
        let used_ms = used_ms(&parts);
        Self { parts, at: Instant::now(), used_ms, busy_ms: busy_ms() }
    }

    /// What was used since then.
    pub fn stop(self) -> Usage {
        let each = used_ms(&self.parts).into_iter().zip(&self.used_ms).map(|(now, before)| now - before);
        let mut parts: Vec<(&'static str, f64)> = Vec::new();
        for (part, ms) in self.parts.iter().zip(each) {
            match parts.iter_mut().find(|(name, _)| *name == part.name) {
                Some((_, sum)) => *sum += ms, // of several processes of one kind
                None => parts.push((part.name, ms)),
            }
        }
        let ours: f64 = parts.iter().map(|(_, ms)| ms).sum();
        let others_ms = (busy_ms() - self.busy_ms - ours).max(0.0);
        let elapsed_ms = self.at.elapsed().as_secs_f64() * 1000.0;
        Usage { parts, elapsed_ms, others_percent: 100.0 * others_ms / (elapsed_ms * cores()) }
    }
}

/// Processor time of each part over some while.
#[derive(Debug, Clone)]
pub struct Usage {
    parts: Vec<(&'static str, f64)>,
    elapsed_ms: f64,
    /// The share of the machine that other programs, and other guests of the same host, took.
    pub others_percent: f64,
}

impl Usage {
    /// Microseconds a job, part by part.
    pub fn us_per(&self, jobs: f64) -> Map<String, Value> {
        self.each(1000.0 / jobs)
    }

    /// Microseconds a job of all parts but the load generator.
    pub fn total_us_per(&self, jobs: f64) -> f64 {
        self.total(1000.0 / jobs)
    }

    /// Percent of one core, part by part.
    pub fn percent_each(&self) -> Map<String, Value> {
        self.each(100.0 / self.elapsed_ms)
    }

    /// Percent of one core, of all parts but the load generator.
    pub fn percent(&self) -> f64 {
        self.total(100.0 / self.elapsed_ms)
    }

    fn each(&self, factor: f64) -> Map<String, Value> {
        let each = self.parts.iter().map(|(name, ms)| ((*name).to_owned(), (ms * factor * 10.0).round() / 10.0));
        each.map(|(name, value)| (name, Value::from(value))).collect()
    }

    fn total(&self, factor: f64) -> f64 {
        self.parts.iter().filter(|(name, _)| *name != "load").map(|(_, ms)| ms).sum::<f64>() * factor
    }
}

/// Microseconds a job: the round in the middle, with the share of each part in it.
pub fn figure(name: impl Into<String>, rounds: &[Usage], jobs_each: f64) -> Figure {
    let mut sorted: Vec<&Usage> = rounds.iter().collect();
    sorted.sort_by(|one, other| one.total_us_per(jobs_each).total_cmp(&other.total_us_per(jobs_each)));
    let typical = sorted.get(sorted.len().saturating_sub(1) / 2);
    let total = typical.map_or(f64::NAN, |usage| usage.total_us_per(jobs_each));
    Figure::new(name, total, "µs/job").with("each", typical.map(|usage| usage.us_per(jobs_each)).unwrap_or_default())
}

pub fn cores() -> f64 {
    std::thread::available_parallelism().map_or(1.0, |cores| cores.get() as f64)
}

/// Load average of the last minute.
pub fn load_average() -> Option<f64> {
    fs::read_to_string("/proc/loadavg").ok()?.split(' ').next()?.parse().ok()
}

/// A process's own time, and with it that of its children that have ended.
struct Ticks {
    parent: u32,
    used: f64,
}

fn used_ms(parts: &[Part]) -> Vec<f64> {
    let ticks = all_ticks();
    let of = |part: &Part| {
        let own = ticks.get(&part.pid).map_or(0.0, |ticks| ticks.used);
        let children = ticks.values().filter(|ticks| part.with_children && ticks.parent == part.pid);
        (own + children.map(|ticks| ticks.used).sum::<f64>()) * MS_PER_TICK
    };
    parts.iter().map(of).collect()
}

fn all_ticks() -> HashMap<u32, Ticks> {
    let pids = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = pids.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    pids.filter_map(|pid| Some((pid, ticks(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)?))).collect()
}

/// From a line of /proc/pid/stat: `pid (name, which may hold anything) state parent …`; the 14th to 17th field are the
/// time in user and kernel mode, of itself and of its ended children.
fn ticks(stat: &str) -> Option<Ticks> {
    let fields: Vec<&str> = stat.rsplit_once(") ")?.1.split(' ').collect();
    let used = fields.get(11..15)?.iter().map(|field| field.parse::<f64>()).sum::<Result<f64, _>>().ok()?;
    Some(Ticks { parent: fields.get(1)?.parse().ok()?, used })
}

/// Processor time of the whole machine that was not idle, time taken by the host for other guests included.
fn busy_ms() -> f64 {
    let stat = fs::read_to_string("/proc/stat").unwrap_or_default();
    let first = stat.lines().next().unwrap_or_default();
    let fields: Vec<f64> = first.split_whitespace().skip(1).take(8).filter_map(|field| field.parse().ok()).collect();
    let idle: f64 = fields.iter().skip(3).take(2).sum();
    (fields.iter().sum::<f64>() - idle) * MS_PER_TICK
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processor_time_is_read_from_the_kernels_line() {
        let line = "7 (a (b) c) S 1 7 7 0 -1 4194560 9 0 0 0 120 30 5 1 20 0 1 0 100 0 0";
        let read = ticks(line).unwrap();
        assert_eq!((read.parent, read.used), (1, 156.0));
        assert!(ticks("7 (x) S 1").is_none());
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn a_part_that_works_is_seen_working() {
        let meter = Meter::start(Vec::new());
        let until = Instant::now() + std::time::Duration::from_millis(100);
        while Instant::now() < until {}
        let usage = meter.stop();
        assert!(usage.parts.iter().any(|(name, ms)| *name == "load" && *ms > 0.0), "{usage:?}");
    }
}
