//! What the system knows of this process, under the names that every Prometheus client uses. From `/proc`: elsewhere
//! than on Linux these figures are absent.

use std::fs;
use std::time::{SystemTime, UNIX_EPOCH};

use prometheus::Counter;

use super::{Gauge, Registry};

pub struct Process {
    cpu_s: Counter,
    resident_bytes: Gauge,
    virtual_bytes: Gauge,
    threads: Gauge,
    open_fds: Gauge,
    max_fds: Gauge,
    started_at: Gauge,
}

/// What `/proc/self/stat` says.
#[derive(Debug, PartialEq)]
struct Stat {
    cpu_ticks: f64,
    threads: f64,
    /// Since the system's start.
    started_ticks: f64,
    virtual_bytes: f64,
    resident_pages: f64,
}

impl Process {
    pub fn register(registry: &Registry) -> Self {
        let gauge = |name, help| registry.gauge(name, help);
        Self {
            cpu_s: registry.add(Counter::new("process_cpu_seconds_total", "CPU time, user and system")),
            resident_bytes: gauge("process_resident_memory_bytes", "Memory in RAM"),
            virtual_bytes: gauge("process_virtual_memory_bytes", "Address space"),
            threads: gauge("process_threads", "Threads"),
            open_fds: gauge("process_open_fds", "Open file descriptors"),
            max_fds: gauge("process_max_fds", "File descriptors that may be open"),
            started_at: gauge("process_start_time_seconds", "When the process started, in Unix time"),
        }
    }

    /// Reads it all anew. Not to be called twice at once.
    pub fn look(&self) {
        if let Some(stat) = fs::read_to_string("/proc/self/stat").ok().and_then(|text| Stat::parse(&text)) {
            let (tick, page) = (rustix::param::clock_ticks_per_second() as f64, rustix::param::page_size() as f64);
            self.cpu_s.inc_by((stat.cpu_ticks / tick - self.cpu_s.get()).max(0.0));
            self.resident_bytes.set(stat.resident_pages * page);
            self.virtual_bytes.set(stat.virtual_bytes);
            self.threads.set(stat.threads);
            if self.started_at.get() == 0.0
                && let (Some(up), Ok(now)) = (uptime_s(), SystemTime::now().duration_since(UNIX_EPOCH))
            {
                self.started_at.set(now.as_secs_f64() - up + stat.started_ticks / tick);
            }
        }
        if let Ok(entries) = fs::read_dir("/proc/self/fd") {
            self.open_fds.set(entries.count() as f64 - 1.0); // without the one that reads the folder
        }
        let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
        self.max_fds.set(limit.map_or(f64::INFINITY, |limit| limit as f64));
    }
}

impl Stat {
    /// See proc(5). The second field is the program's name in brackets, which may hold anything.
    fn parse(text: &str) -> Option<Self> {
        let fields: Vec<&str> = text.rsplit_once(')')?.1.split_ascii_whitespace().collect();
        let field = |number: usize| fields.get(number - 3)?.parse::<f64>().ok();
        Some(Self {
            cpu_ticks: field(14)? + field(15)?,
            threads: field(20)?,
            started_ticks: field(22)?,
            virtual_bytes: field(23)?,
            resident_pages: field(24)?,
        })
    }
}

fn uptime_s() -> Option<f64> {
    fs::read_to_string("/proc/uptime").ok()?.split(' ').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_systems_line_is_read_whatever_the_programs_name() {
        let line =
            "7 (a) b (c) S 1 7 7 0 -1 4194560 900 0 2 0 150 50 3 4 20 0 9 0 12345 104857600 2560 18446744073709551615";
        let stat = Stat {
            cpu_ticks: 200.0,
            threads: 9.0,
            started_ticks: 12345.0,
            virtual_bytes: 104857600.0,
            resident_pages: 2560.0,
        };
        assert_eq!(Stat::parse(line), Some(stat));
        assert_eq!(Stat::parse("7 (a) S 1"), None);
    }
}
