//! Resident memory, from /proc.

use std::fs;

/// In MB of 2^20 bytes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Resident {
    pub now_mb: f64,
    /// The most it ever was.
    pub peak_mb: f64,
}

/// `None` where the system does not tell.
pub fn resident(pid: u32) -> Option<Resident> {
    parse(&fs::read_to_string(format!("/proc/{pid}/status")).ok()?)
}

fn parse(status: &str) -> Option<Resident> {
    let mb = |field: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(field))?;
        Some(line.split_whitespace().next()?.parse::<f64>().ok()? / 1024.0)
    };
    Some(Resident { now_mb: mb("VmRSS:")?, peak_mb: mb("VmHWM:")? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_read_from_the_kernels_lines() {
        let status = "Name:\tx\nVmHWM:\t   20480 kB\nVmRSS:\t   10240 kB\n";
        assert_eq!(parse(status), Some(Resident { now_mb: 10.0, peak_mb: 20.0 }));
        assert_eq!(parse("Name:\tx\n"), None);
    }
}
