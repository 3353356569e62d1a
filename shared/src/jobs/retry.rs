//! When to try again: exponential backoff with full jitter, computed once and stored.
//!
//! The crate `backoff` supplies the policy and is used in this module alone (it is unmaintained, see `.deny.toml`).

use std::time::Duration;

use backoff::ExponentialBackoffBuilder;
use backoff::backoff::Backoff;

/// The exponential policy of jobs that have no schedule of their own.
#[derive(Debug, Clone, Copy)]
pub struct Policy {
    pub first: Duration,
    pub factor: f64,
    pub longest: Duration,
}

impl Default for Policy {
    fn default() -> Self {
        Self { first: Duration::from_secs(2), factor: 2.0, longest: Duration::from_secs(3600) }
    }
}

impl Policy {
    /// The upper bound of the wait after failed attempt number `attempt` (1 is the first).
    pub fn ceiling(&self, attempt: i16) -> Duration {
        let mut policy = ExponentialBackoffBuilder::new()
            .with_initial_interval(self.first)
            .with_multiplier(self.factor)
            .with_max_interval(self.longest)
            .with_randomization_factor(0.0)
            .with_max_elapsed_time(None)
            .build();
        let mut ceiling = self.first;
        for _ in 0..attempt.clamp(1, 64) {
            ceiling = policy.next_backoff().unwrap_or(self.longest);
        }
        ceiling
    }

    /// The wait after failed attempt number `attempt`, with full jitter (Brooker, "Exponential Backoff And Jitter").
    ///
    /// `random` lies in [0, 1). Half a second is the least, so that a fault of the moment has a chance to pass.
    pub fn wait(&self, attempt: i16, random: f64) -> Duration {
        self.ceiling(attempt).mul_f64(random).max(Duration::from_millis(500))
    }
}

/// Longest wait that is stored, whoever asks for it.
pub const LONGEST: Duration = Duration::from_secs(40 * 24 * 3600);

/// Bounds on what a remote party may ask for by `Retry-After`.
pub const RETRY_AFTER_LONGEST: Duration = Duration::from_secs(24 * 3600);

/// A fixed list of waits, such as `5s,5m,30m,2h`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Schedule(Vec<Duration>);

impl Schedule {
    /// Attempts in all: the first one and one after each wait.
    pub fn attempts(&self) -> i16 {
        i16::try_from(self.0.len() + 1).unwrap_or(i16::MAX)
    }

    /// The wait after failed attempt number `attempt`, up to a fifth longer than listed, so that receivers that failed
    /// together are not called together. None when the list is used up.
    pub fn wait(&self, attempt: i16, random: f64) -> Option<Duration> {
        let listed = self.0.get(usize::try_from(attempt).ok()?.checked_sub(1)?)?;
        Some(listed.mul_f64(1.0 + 0.2 * random))
    }
}

impl std::str::FromStr for Schedule {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let waits: Result<Vec<_>, String> = text.split(',').map(|part| parse_duration(part.trim())).collect();
        match waits? {
            waits if waits.len() > 100 => Err(format!("{} waits; at most 100 are allowed", waits.len())),
            waits => Ok(Self(waits)),
        }
    }
}

/// Parses a whole number with unit `ms`, `s`, `m`, `h` or `d`, up to 30 days.
fn parse_duration(text: &str) -> Result<Duration, String> {
    let fault = || format!("`{text}` is not a duration such as 5s, 30m or 2h, up to 30d");
    let digits = text.find(|c: char| !c.is_ascii_digit()).ok_or_else(fault)?;
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().map_err(|_| fault())?;
    let unit_ms = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return Err(fault()),
    };
    match number.checked_mul(unit_ms) {
        Some(ms) if ms <= 30 * 86_400_000 => Ok(Duration::from_millis(ms)),
        _ => Err(fault()),
    }
}

/// A random number in [0, 1).
pub fn random() -> f64 {
    rand::random()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ceiling_doubles_up_to_the_longest() {
        let policy = Policy::default();
        let seconds: Vec<_> = (1..=5).map(|n| policy.ceiling(n).as_secs()).collect();
        assert_eq!(seconds, [2, 4, 8, 16, 32]);
        assert_eq!(policy.ceiling(40), policy.longest);
        assert_eq!(policy.ceiling(0), policy.first);
        assert_eq!(policy.ceiling(i16::MAX), policy.longest);
    }

    #[test]
    fn jitter_spreads_over_the_whole_range_but_not_to_zero() {
        let policy = Policy::default();
        assert_eq!(policy.wait(3, 0.5), Duration::from_secs(4));
        assert_eq!(policy.wait(3, 0.0), Duration::from_millis(500));
    }

    #[test]
    fn a_schedule_is_read_and_ends() {
        let schedule: Schedule = "5s, 5m,2h".parse().unwrap();
        assert_eq!(schedule.attempts(), 4);
        assert_eq!(schedule.wait(1, 0.0), Some(Duration::from_secs(5)));
        assert_eq!(schedule.wait(2, 1.0), Some(Duration::from_secs(360)));
        assert_eq!(schedule.wait(4, 0.0), None);
        assert_eq!(schedule.wait(0, 0.0), None);
        for bad in ["", "5", "s", "5x", "31d", "5s,,5s", "99999999999999999999h", "-5s"] {
            assert!(bad.parse::<Schedule>().is_err(), "{bad}");
        }
    }
}
